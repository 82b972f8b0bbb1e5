"""Readings as one text: what SQL writes is what Python reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.packing import RECORD, UNIT, unpack

name = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)
series = st.tuples(name, name, name, st.integers(0, 2))
reading = st.tuples(
    st.integers(0, 253_402_300_799_999),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(0, 31_622_400_000),
    st.integers(0, 2**53),
    st.integers(0, 2),
)
Row = tuple[tuple[str, str, str, int], tuple[float, ...]]
NAMES = [("a", "1-0:1.8.0", "default", 0), ("a", "1-0:2.8.0", "default", 0), ("b", "1-0:1.8.0", "default", 0)]


def pack(rows: list[Row]) -> tuple[str, str]:
    """What sql/flink/shards.sql and windows.sql make."""
    return (
        RECORD.join(UNIT.join(map(str, key)) for key, _ in rows),
        " ".join(repr(number) for _, one in rows for number in one),
    )


@given(st.lists(st.tuples(st.sampled_from(NAMES) | series, reading), min_size=1, max_size=20))
def test_every_reading_comes_back_bit_by_bit_with_its_series(rows: list[Row]) -> None:
    pieces = unpack(*pack(rows))
    assert len(set(pieces.series)) == len(pieces.series)
    columns = zip(
        pieces.ts_ms.tolist(), pieces.value.tolist(), pieces.interval_ms.tolist(),
        pieces.revision.tolist(), pieces.quality.tolist(), strict=True,
    )  # fmt: skip
    assert [(pieces.series[i], one) for i, one in zip(pieces.owner.tolist(), columns, strict=True)] == rows


@pytest.mark.parametrize("value", ["1.0E-5", "1.7976931348623157E308", "-0.0", "12345.678"])
def test_numbers_as_java_writes_them(value: str) -> None:
    assert unpack(UNIT.join(["m", "r", "t", "1"]), f"900000 {value} 0 0 0").value.tolist() == [float(value)]


def test_numbers_that_are_not_there_are_an_error() -> None:
    name = UNIT.join(["m", "r", "t", "1"])
    with pytest.raises(ValueError, match="5 numbers for 2 readings"):
        unpack(RECORD.join([name, name]), "900000 1 0 0 0")
