"""What all adapters promise: formats are recognised, nothing raises on bad input, everything is accounted for."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators import adapters
from operators.adapters import FORMATS, FormatError, text
from tests.unit.adapter_support import SAMPLES, Read, read, sample

FILES = sorted(path for path in SAMPLES.iterdir() if path.suffix != ".md")
KNOWN = {
    "dsmr": "dsmr",
    "shelly": "shelly",
    "tasmota": "tasmota",
    "green": "green-button",
    "senml": "senml",
    "debs": "debs",
}


def name_of(path: Path) -> str:
    return KNOWN[path.stem.split("-")[0]]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_samples_are_recognised_and_read(path: Path) -> None:
    assert adapters.detect(path.read_bytes()) == name_of(path)
    got = read(name_of(path), path.read_bytes())
    assert got.rows
    assert all(np.isfinite(row[4]) for row in got.rows)


@pytest.mark.parametrize(
    "head",
    [b"", b"time,a,b\n2024-01-01,1,2\n", b"meter_id,ts,value\na,1,2\n", b"hello\n", b"{}", b"<html/>", b"\xff\xfe"],
)
def test_other_files_are_no_format(head: bytes) -> None:
    assert adapters.detect(head) is None


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_of_another_format_is_told_in_one_line(name: str) -> None:
    other = "debs.csv" if name != "debs" else "tasmota.log"
    for content in (b"", b"hello\n", sample(other)):
        with pytest.raises(FormatError) as caught:
            read(name, content)
        assert "\n" not in str(caught.value)
    assert "looks like" in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(FORMATS)), st.binary(max_size=2000))
def test_random_bytes_raise_nothing_but_the_clear_error(name: str, noise: bytes) -> None:
    with contextlib.suppress(FormatError):
        read(name, noise)
    got = read(name, next(sample(path.name) for path in FILES if name_of(path) == name) + b"\n" + noise)
    assert got.rows


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(FILES), st.data())
def test_damaged_samples_raise_nothing(path: Path, data: st.DataObject) -> None:
    """Bytes cut out, put in, doubled or changed anywhere; readings stay finite and in range."""
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 60))
        put = data.draw(
            st.binary(max_size=8) | st.sampled_from([b"9" * 5000, b"1e308", b"null", b"{", b"\0", b"\n", b"<"])
        )
        content[at : at + length] = put
    try:
        got = read(name_of(path), bytes(content))
    except FormatError:
        return
    assert all(np.isfinite(row[4]) and row[0] and row[2] > 0 for row in got.rows)
    assert len(got.unreadable) == got.refused


@given(st.lists(st.sampled_from([*FILES]), min_size=1, max_size=3), st.integers(1, 50))
@settings(max_examples=20, deadline=None)
def test_parts_are_the_whole(files: list[Path], size: int) -> None:
    """However an input is cut into parts, they are its readings in its order."""
    from operators.adapters import parsed

    content = files[0].read_bytes()
    whole = read(name_of(files[0]), content)
    before = parsed.CHUNK
    try:
        parsed.CHUNK = size
        cut = read(name_of(files[0]), content)
    finally:
        parsed.CHUNK = before
    assert (cut.rows, cut.skipped, cut.refused) == (whole.rows, whole.skipped, whole.refused)


def test_only_so_many_unreadable_records_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.adapters.parsed.KEPT", 5)
    got = read("debs", sample("debs.csv") + b"bad\n" * 50)
    assert (got.refused, len(got.unreadable)) == (50, 5)


def test_a_line_without_end_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "MAX_LINE", 100)
    found = list(text.lines(io.BytesIO(b"a\n" + b"x" * 1000 + b"\nb\n" + b"y" * 100)))
    assert found == [(1, b"a\n"), (2, None), (3, b"b\n"), (4, None)]


def test_json_over_many_lines_and_with_cut_ones() -> None:
    pretty = b'{\n "a": 1\n}\n{\n "a": 2\n}\n'
    assert [one.value for one in text.documents(io.BytesIO(pretty))] == [{"a": 1}, {"a": 2}]
    cut = b'"rest":1}\n{"a":1}\n{"a":\n'
    found = [(one.place, one.value, bool(one.error)) for one in text.documents(io.BytesIO(cut))]
    assert found == [("line 1", None, True), ("line 2", {"a": 1}, False), ("line 3", None, True)]
    one_line = b"[" + b'{"a":1},' * 100 + b'{"a":1}]'
    assert next(text.documents(io.BytesIO(one_line))).value == [{"a": 1}] * 101
    nan = b'{"a": NaN}\n'
    assert [one.value for one in text.documents(io.BytesIO(nan))] == [None]


def test_reading_an_empty_read() -> None:
    assert Read(iter(())).rows == []
