"""Columns into messages: the contract's fields, and nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jobs.replay.batch import Batch, batch, concat
from jobs.replay.messages import encode, keys
from operators.readings import Kind, Quality

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


def objects(values: list[str]) -> np.ndarray:
    return np.array(values, dtype=object)


def test_says_what_the_contract_says() -> None:
    b = batch(
        objects(["b2", "b2"]),
        np.array([1_000, 2_000]),
        np.array([1.5, 12345678.0]),
        kind=np.array([Kind.INTERVAL, Kind.REGISTER], dtype=np.int8),
        unit=objects(["kWh", "Wh"]),
        interval_s=np.array([900, 0]),
        register=objects(["", "1-0:1.8.0"]),
        revision=np.array([0, 2]),
        quality=np.array([Quality.MEASURED, Quality.ESTIMATED], dtype=np.int8),
        seq=np.array([-1, 71]),
        tenant_id=objects(["", "north"]),
    )
    assert [json.loads(message) for message in encode(b)] == [
        {"meter_id": "b2", "kind": "interval", "unit": "kWh", "interval_s": 900, "revision": 0, "quality": "measured",
         "ts": 1_000, "value": 1.5},
        {"meter_id": "b2", "register": "1-0:1.8.0", "kind": "register", "unit": "Wh", "revision": 2,
         "quality": "estimated", "tenant_id": "north", "ts": 2_000, "value": 12345678.0, "seq": 71},
    ]  # fmt: skip


def test_iso_text_is_the_same_time() -> None:
    message = encode(batch("m", np.array([1_767_225_600_123]), np.array([1.0])), iso=True)[0]
    assert datetime.fromisoformat(json.loads(message)["ts"]) == datetime(2026, 1, 1, 0, 0, 0, 123_000, tzinfo=UTC)


def test_a_malformed_record_is_sent_as_it_is() -> None:
    raw = np.array([None, b"{oops"], dtype=object)
    b = batch(objects(["a", "b"]), np.array([1, 2]), np.array([1.0, 0.0]), raw=raw)
    assert encode(b)[1] == b"{oops"
    assert keys(b) == [b"a", b"b"]


def test_nothing_in_nothing_out() -> None:
    nothing = batch("", np.empty(0, np.int64), np.empty(0))
    assert encode(nothing) == []
    assert keys(nothing) == []


@given(
    st.lists(
        st.tuples(
            TEXT,
            st.integers(0, 4_000_000_000_000),
            st.floats(allow_nan=False, allow_infinity=False),
            st.sampled_from([0, 900, 3600]),
            st.integers(0, 3),
            st.integers(-1, 9),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_every_value_comes_back_bit_by_bit(rows: list[tuple[str, int, float, int, int, int]]) -> None:
    meter, ts, value, step, revision, seq = (list(column) for column in zip(*rows, strict=True))
    b: Batch = batch(
        objects(meter), np.array(ts), np.array(value),
        interval_s=np.array(step), revision=np.array(revision), seq=np.array(seq),
    )  # fmt: skip
    for split in (b, concat([b.take(slice(0, 1)), b.take(slice(1, None))])):
        found = [json.loads(message) for message in encode(split)]
        assert [f["meter_id"] for f in found] == meter
        assert [f["ts"] for f in found] == ts
        assert [float(f["value"]) for f in found] == value
        assert [f.get("interval_s", 0) for f in found] == step
        assert [f["revision"] for f in found] == revision
        assert [f.get("seq", -1) for f in found] == seq
        assert [key.decode() for key in keys(split)] == meter
