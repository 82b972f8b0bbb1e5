"""The shard: what it remembers is a function of the readings, and a forecast is due once for each closed step."""

from __future__ import annotations

import itertools
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.energy import SLOT_MS, Carry, SeriesConfig, derive
from operators.packing import Pieces
from operators.readings import EXPORT_REGISTER, IMPORT_REGISTER, Kind
from operators.shard import SLOTS, Due, Shard

START = 1_700_006_400_000  # an hour's start
HOUR = 3_600_000
Reading = tuple[str, str, int, int, float, int, int, int]
"""meter, register, kind, ts_ms, value, interval_ms, revision, quality"""


def intervals(meter: str, hours: Any, kwh: Any = 1.0, length_ms: int = HOUR) -> list[Reading]:
    """Interval readings that end at `hours` after START."""
    values = np.broadcast_to(np.asarray(kwh, float), np.shape(hours)).tolist()
    return [
        (meter, IMPORT_REGISTER, Kind.INTERVAL, START + round(h * HOUR), v, length_ms, 0, 0)
        for h, v in zip(np.asarray(hours, float).tolist(), values, strict=True)
    ]


def registers(meter: str, ts_ms: Any, value: Any, register: str = IMPORT_REGISTER) -> list[Reading]:
    """Counter readings."""
    rows = zip(np.asarray(ts_ms).tolist(), np.asarray(value, float).tolist(), strict=True)
    return [(meter, register, Kind.REGISTER, t, v, 0, 0, 0) for t, v in rows]


def pieces(readings: list[Reading]) -> Pieces:
    """As the SQL hands them over."""
    names = list(dict.fromkeys((m, r, "default", int(k)) for m, r, k, *_ in readings))
    number = {name: i for i, name in enumerate(names)}
    owner = np.array([number[m, r, "default", int(k)] for m, r, k, *_ in readings], np.int64)
    columns = list(zip(*(reading[3:] for reading in readings), strict=True))
    ts, value, length, revision, quality = columns
    return Pieces(
        names, owner, np.array(ts, np.int64), np.array(value, float), np.array(length, np.int64),
        np.array(revision, np.int64), np.array(quality, np.int8),
    )  # fmt: skip


def windows(readings: list[Reading]) -> dict[int, list[Reading]]:
    """Readings by the end of their quarter hour, in order."""
    result: dict[int, list[Reading]] = {}
    for reading in sorted(readings, key=lambda r: r[3]):
        result.setdefault(-(-reading[3] // SLOT_MS) * SLOT_MS, []).append(reading)
    return result


def told(due: Due) -> list[tuple[str, int, int, bytes]]:
    """Each forecast that is due, in values that compare bit by bit."""
    return [(m, due.issued_at_ms, due.step_s, h.tobytes()) for m, h in zip(due.meter_id, due.history, strict=True)]


def run(shard: Shard, by_window: dict[int, list[Reading]]) -> list[tuple[str, int, int, bytes]]:
    """All that becomes due, window by window."""
    issued = []
    for end, readings in by_window.items():
        shard.apply(pieces(readings))
        for due in shard.due(end):
            issued += told(due)
    return sorted(issued)


def remembered(shard: Shard) -> dict[Any, Any]:
    """By series: quarter hours and carry; by meter: cadence and issues. Whatever the order of their first readings."""
    by_series = {
        name: (
            shard.kwh[i].tobytes(), shard.covered_ms[i].tobytes(),
            *(getattr(shard.carry, f.name)[i].item() for f in fields(Carry)),
        )
        for i, name in enumerate(shard.series)
    }  # fmt: skip
    by_meter = {
        name: (shard.first_ms[i], shard.issued_ms[i], shard.short_ms[i], shard.long_ms[i])
        for i, name in enumerate(shard.meters)
    }
    return {**by_series, **by_meter, "head": shard.head}


def messy(seed: int, hours: int = 30, steps_s: tuple[int, ...] = (300, 777, 900, 3600)) -> list[Reading]:
    """Meters of all kinds and cadences with gaps, invalid and estimated readings, and falling counters."""
    rng = np.random.default_rng(seed)
    result: list[Reading] = []
    for i, kind in enumerate((Kind.REGISTER, Kind.INTERVAL, Kind.INSTANT, Kind.REGISTER, Kind.INTERVAL)):
        step = int(rng.choice(steps_s)) * 1000
        ts = START + np.arange(1, hours * HOUR // step) * step + (int(rng.integers(0, 60_000)) if i == 3 else 0)
        ts = ts[rng.random(len(ts)) > 0.1]
        used = rng.random(len(ts)) * 0.2
        value = np.cumsum(used) if kind == Kind.REGISTER else used
        if kind == Kind.REGISTER and rng.random() < 0.5:
            value[len(value) // 2 :] -= value[len(value) // 2]
        register = EXPORT_REGISTER if i == 3 else IMPORT_REGISTER
        quality = rng.choice([0, 1, 2], len(ts), p=[0.9, 0.05, 0.05])
        length = step if kind == Kind.INTERVAL else 0
        meter = f"m{i % 4}"
        result += [
            (meter, register, kind, t, v, length, 0, q)
            for t, v, q in zip(ts.tolist(), value.tolist(), quality.tolist(), strict=True)
        ]
    return sorted(result, key=lambda r: r[3])


seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, cuts=st.lists(st.floats(0, 1), max_size=6))
def test_however_the_readings_are_cut_the_shard_remembers_the_same(seed: int, cuts: list[float]) -> None:
    readings = messy(seed)
    whole, parts = Shard(), Shard()
    whole.apply(pieces(readings))
    edges = [0, *sorted(int(cut * len(readings)) for cut in cuts), len(readings)]
    for low, high in itertools.pairwise(edges):
        if low < high:
            parts.apply(pieces(readings[low:high]))
    assert remembered(parts) == remembered(whole)


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_order_and_repeats_within_a_window_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    readings = messy(seed)
    plain, shuffled = Shard(), Shard()
    run(plain, windows(readings))
    for end, rows in windows(readings).items():
        again = [*rows, *rows[: int(rng.integers(0, len(rows) + 1))]]
        shuffled.apply(pieces([again[i] for i in rng.permutation(len(again))]))
        list(shuffled.due(end))
    assert remembered(shuffled) == remembered(plain)


@settings(max_examples=10, deadline=None)
@given(seed=seeds)
def test_a_window_that_comes_again_changes_no_energy(seed: int) -> None:
    """Intervals of whole quarter hours: of shorter ones the shard does not remember which part it has."""
    readings = messy(seed, steps_s=(900, 3600))
    once, twice = Shard(), Shard()
    for rows in windows(readings).values():
        once.apply(pieces(rows))
        twice.apply(pieces(rows))
        twice.apply(pieces(rows))
    for i, name in enumerate(once.series):
        j = twice.series.index(name)
        np.testing.assert_allclose(twice.kwh[j], once.kwh[i], rtol=1e-12, atol=1e-12)
        assert (twice.covered_ms[j] == once.covered_ms[i]).all()


@settings(max_examples=8, deadline=None)
@given(seed=seeds, at=st.floats(0, 1))
def test_a_restored_shard_goes_on_as_if_never_stopped(seed: int, at: float) -> None:
    """Only what each window changed is written, as the keyed state does it."""
    readings = [*messy(seed, 200, (900, 1777, 3600)), *intervals("late", np.arange(120, 200), 0.5)]
    by_window = windows(readings)
    ends = list(by_window)
    stop = int(at * (len(ends) - 1))
    going, kept = Shard(), {}
    for end in ends[:stop]:
        for number in going.apply(pieces(by_window[end])):
            kept[number] = going.column(number)
        kept = {number: column for number, column in kept.items() if number >= going.oldest()}
        list(going.due(end))
    if stop == 0:
        return
    restored = Shard.restore(going.header(), kept)
    assert restored.header() == going.header()
    assert (restored.kwh == going.kwh).all()
    assert (restored.covered_ms == going.covered_ms).all()
    rest = {end: by_window[end] for end in ends[stop:]}
    assert run(restored, rest) == run(going, rest)
    assert restored.header() == going.header()


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_the_energy_is_that_of_the_database(seed: int) -> None:
    """Window by window as at once by the derivation that fills `energy_slot`."""
    readings = messy(seed)
    shard = Shard()
    for rows in windows(readings).values():
        shard.apply(pieces(rows))
    p = pieces(readings)
    kinds = SeriesConfig.of_kinds(np.array([kind for *_, kind in p.series], np.int8))
    slots = derive(p.owner, p.ts_ms, p.value, p.interval_ms, p.quality, config=kinds).slots
    kwh, covered = np.zeros((len(p.series), SLOTS)), np.zeros((len(p.series), SLOTS), np.int64)
    kwh[slots.series, slots.slot_ms // SLOT_MS % SLOTS] = slots.kwh
    covered[slots.series, slots.slot_ms // SLOT_MS % SLOTS] = slots.covered_ms
    at = [shard.series.index(name) for name in p.series]
    assert (shard.kwh[at] == kwh).all()
    assert (shard.covered_ms[at] == covered).all()


@pytest.mark.parametrize("n", [167, 168, 169, 200, 400])
def test_n_hourly_readings_give_n_less_167_forecasts(n: int) -> None:
    values = np.arange(1, n + 1, dtype=float)
    issued = run(Shard(), windows(intervals("m", np.arange(1, n + 1), values)))
    assert [(m, at, step) for m, at, step, _ in issued] == [("m", START + h * HOUR, 3600) for h in range(168, n + 1)]
    for i, (*_, history) in enumerate(issued):
        np.testing.assert_allclose(np.frombuffer(history), values[i : i + 168], rtol=1e-12)


@pytest.mark.parametrize("seconds", [10, 60, 300, 900])
def test_short_readings_give_a_forecast_a_quarter_hour(seconds: int) -> None:
    ts = START + np.arange(0, 170 * HOUR + 1, seconds * 1000)
    issued = run(Shard(), windows(registers("m", ts, (ts - START) / HOUR * 2.0)))
    assert [(at - START) // SLOT_MS for _, at, _, _ in issued] == list(range(672, 681))
    assert {step for _, _, step, _ in issued} == {900}
    for *_, history in issued:
        np.testing.assert_allclose(np.frombuffer(history), np.full(672, 0.5), rtol=1e-9)


def test_counters_that_are_read_off_the_hour_close_each_step_once() -> None:
    ts = START + 7 * 60_000 + np.arange(0, 172) * HOUR
    issued = run(Shard(), windows(registers("m", ts, np.arange(172) * 4.0)))
    times = [at for _, at, _, _ in issued]
    assert len(times) == len(set(times))
    assert {at % HOUR for at in times} == {0}
    assert {step for _, _, step, _ in issued} == {3600}
    assert times == [START + h * HOUR for h in range(168, 172)]


def test_no_forecast_for_a_step_that_nobody_measured_and_all_again_after_it() -> None:
    hours = [h for h in range(1, 200) if not 180 < h <= 185]
    issued = run(Shard(), windows(intervals("m", hours)))
    assert [(at - START) // HOUR for _, at, _, _ in issued] == [h for h in hours if h >= 168]
    missing = np.isnan(np.frombuffer(issued[-1][3]))
    assert missing.sum() == 5


def test_a_meter_of_which_half_is_missing_has_no_context() -> None:
    hours = [1, *range(100, 200)]
    issued = run(Shard(), windows(intervals("m", hours)))
    assert [(at - START) // HOUR for _, at, _, _ in issued] == list(range(183, 200)), "84 of 168 are known then"


def test_a_late_interval_fills_its_hour() -> None:
    hours = np.arange(1, 171)
    in_order, late = Shard(), Shard()
    in_order.apply(pieces(intervals("m", hours, hours)))
    readings = intervals("m", hours, hours)
    missed = readings.pop(99)
    late.apply(pieces(readings))
    changed = late.apply(pieces([missed]))
    assert changed == {START // SLOT_MS + 99 * 4 + i for i in range(4)}
    assert (late.kwh == in_order.kwh).all()
    assert (late.covered_ms == in_order.covered_ms).all()


def test_a_reading_older_than_a_week_is_let_go() -> None:
    shard = Shard()
    shard.apply(pieces(intervals("m", np.arange(10, 200))))
    before = shard.kwh.copy()
    assert shard.apply(pieces(intervals("m", [5], 99.0))) == set()
    assert (shard.kwh == before).all()


def test_a_revision_replaces_the_hour() -> None:
    shard = Shard()
    shard.apply(pieces(intervals("m", [1, 2, 3], 1.0)))
    shard.apply(pieces([(*intervals("m", [2], 5.0)[0][:6], 1, 0)]))
    assert shard.kwh.sum() == pytest.approx(7.0)


def test_net_is_import_less_export_and_a_total_hides_its_tariffs() -> None:
    ts = START + np.arange(0, 169) * HOUR
    readings = [
        *registers("m", ts, np.arange(169) * 3.0),
        *registers("m", ts, np.arange(169) * 1.0, EXPORT_REGISTER),
        *registers("m", ts, np.arange(169) * 2.0, "1-0:1.8.1"),
    ]
    issued = run(Shard(), windows(readings))
    assert [at for _, at, _, _ in issued] == [START + 168 * HOUR]
    np.testing.assert_allclose(np.frombuffer(issued[0][3]), np.full(168, 2.0), rtol=1e-9)


def test_a_register_that_only_exports_is_negative() -> None:
    ts = START + np.arange(0, 169) * HOUR
    issued = run(Shard(), windows(registers("m", ts, np.arange(169) * 1.5, EXPORT_REGISTER)))
    np.testing.assert_allclose(np.frombuffer(issued[0][3]), np.full(168, -1.5), rtol=1e-9)


def test_meters_do_not_disturb_each_other() -> None:
    together = run(Shard(), windows([*intervals("a", np.arange(1, 175), 2.0), *intervals("b", np.arange(3, 180), 3.0)]))
    alone = [
        *run(Shard(), windows(intervals("a", np.arange(1, 175), 2.0))),
        *run(Shard(), windows(intervals("b", np.arange(3, 180), 3.0))),
    ]
    assert together == sorted(alone)


def test_state_of_a_newer_version_is_refused() -> None:
    header = Shard().header().replace(b'"version":1', b'"version":2')
    with pytest.raises(ValueError, match="deploy the newer code"):
        Shard.restore(header, {})
