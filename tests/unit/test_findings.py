"""Findings of readings: each event's kind and cause, what is said of its energy, and ids that do not change."""

from __future__ import annotations

import numpy as np

from operators.energy import SeriesConfig, derive
from operators.findings import CAUSES, anomaly_id, find
from operators.increments import Event
from operators.readings import Kind

START = 1_700_000_100_000
QUARTER = 900_000


def test_every_event_has_a_kind_of_the_contract_and_a_cause_of_its_own() -> None:
    assert set(CAUSES) == set(Event)
    assert {kind for kind, _ in CAUSES.values()} == {"reset", "negative", "spike"}
    assert len({cause for _, cause in CAUSES.values()}) == len(Event)


def test_a_counter_says_its_step_and_what_is_counted() -> None:
    config = SeriesConfig(np.array([Kind.REGISTER], np.int8), np.array([np.nan]), np.array([10.0]))
    n, value = 4, np.array([50.0, 51.0, 0.5, 900.0])
    ts = START + np.arange(n) * QUARTER
    derived = derive(np.zeros(n, np.int64), ts, value, np.zeros(n, np.int64), np.zeros(n, np.int8), config=config)
    f = find(derived.events, config.kind, config.max_kw)
    assert f.code.tolist() == [Event.RESET, Event.IMPLAUSIBLE]
    assert (f.from_ms.tolist(), f.ts_ms.tolist()) == (ts[1:3].tolist(), ts[2:4].tolist())
    assert (f.observed_kwh.tolist(), f.expected_kwh.tolist()) == ([-50.5, 899.5], [0.5, 0])
    assert (f.before.tolist(), f.upper_kwh.tolist()) == ([51, 0.5], [3.75, 3.75])


def test_intervals_and_powers_that_are_not_believed() -> None:
    config = SeriesConfig(np.array([Kind.INTERVAL, Kind.INSTANT], np.int8), np.full(2, np.nan), np.full(2, 10.0))
    ts, value = np.array([START, START]), np.array([7.0, -99.0])
    interval = np.array([QUARTER, 0])
    derived = derive(np.arange(2), ts, value, interval, np.zeros(2, np.int8), config=config)
    assert len(derived.slots) == 0
    f = find(derived.events, config.kind, config.max_kw)
    assert f.from_ms.tolist() == [START - QUARTER, START]
    assert np.isnan(f.before).all()
    assert (f.observed_kwh[0], f.upper_kwh[0], f.after.tolist()) == (7, 3.75, [7, -99])
    assert np.isnan([f.observed_kwh[1], f.upper_kwh[1]]).all()


def test_ids_tell_meters_registers_kinds_and_times_apart() -> None:
    ids = {
        anomaly_id(meter, register, kind, ts)
        for meter in ("a", "ab") for register in ("b", "bb") for kind in ("reset", "spike") for ts in (1, 11)
    }  # fmt: skip
    assert len(ids) == 16
    assert anomaly_id("b2", "1-0:1.8.0", "reset", 1_767_225_600_000) == "df830ca1be66219dd0a6fce91650a9e9"
