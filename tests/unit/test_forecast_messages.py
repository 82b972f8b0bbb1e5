"""Forecasts as messages: the contract's fields, and numbers that come back bit by bit."""

from __future__ import annotations

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from operators.forecast_messages import read, write
from operators.packing import RECORD, UNIT
from operators.shard import Due

AT = 1_700_006_400_000
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


def due(meters: int, step_s: int = 3600, at: int = AT) -> Due:
    names = [f'm "{i}" ü' for i in range(meters)]
    return Due(at, step_s, names, [f"t{i}" for i in range(meters)], ["UTC"] * meters, np.zeros((meters, 168)))


@given(arrays(np.float32, (3, 9, 24), elements=finite), st.integers(0, 253_402_300_799_999))
def test_what_is_written_is_read(kwh: np.ndarray, at: int) -> None:
    asked = due(3, at=at)
    (found,) = read([write(asked, kwh, "model", "ab12")])
    assert found.meter_id == asked.meter_id
    assert found.tenant_id == asked.tenant_id
    assert found.issued_at_ms.tolist() == [at] * 3
    assert found.step_s.tolist() == [3600] * 3
    assert (found.model_id, found.model_sha256) == ("model", "ab12")
    assert found.kwh.dtype == np.float32
    assert found.kwh.tobytes() == kwh.tobytes()


def test_a_message_has_the_contracts_fields() -> None:
    kwh = np.arange(9 * 24, dtype=np.float32).reshape(1, 9, 24)
    key, _, value = write(due(1), kwh, "model", "ab12").partition(UNIT)
    message = orjson.loads(value)
    assert key == message["meter_id"] == 'm "0" ü'
    assert message["issued_at"] == message["target_start"] == "2023-11-15T00:00:00.000Z"
    assert message.keys() == {
        *("meter_id", "tenant_id", "issued_at", "target_start", "step_s", "kwh", "model_id", "model_sha256")
    }
    assert list(message["kwh"]) == [f"q{10 * i}" for i in range(1, 10)]
    assert message["kwh"]["q20"] == list(range(24, 48))


def test_quarter_hours_and_hours_are_read_apart() -> None:
    hourly, quarterly = np.ones((2, 9, 24), np.float32), np.full((1, 9, 96), 2, np.float32)
    together = RECORD.join([write(due(2), hourly, "m", "s"), write(due(1, 900), quarterly, "m", "s")])
    found = {
        int(f.step_s[0]): f.kwh.shape for f in read([together, write(due(2, at=AT + 3_600_000), hourly, "m", "s")])
    }
    assert found == {3600: (4, 9, 24), 900: (1, 9, 96)}


def test_nothing_is_read_from_nothing() -> None:
    assert list(read([])) == []
