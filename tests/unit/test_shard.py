"""The shard: what it remembers is a function of the readings, and a forecast is due once for each closed step."""

from __future__ import annotations

import itertools
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from operators.energy import SLOT_MS, Carry, SeriesConfig, derive, resolve
from operators.history import SLOTS
from operators.meters import MeterConfig
from operators.packing import Pieces
from operators.patch import known_quality
from operators.readings import EXPORT_REGISTER, IMPORT_REGISTER, Kind, Readings
from operators.shard import Due, MemorySlots, Shard
from operators.slot_readings import SlotReadings

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
    """By series: quarter hours and carry; by meter: newest reading, begin, issues. In any order of first readings.

    Intervals carry nothing on: of their carry only the time is used, and of a meter's series the newest.
    """
    by_series = {
        name: (
            shard.history.kwh[i].tobytes(), shard.history.covered_ms[i].tobytes(), shard.history.read[i].tobytes(),
            *(getattr(shard.carry, f.name)[i].item() for f in fields(Carry) if name[3] != Kind.INTERVAL),
        )
        for i, name in enumerate(shard.series)
    }  # fmt: skip
    newest = [max(t for t, o in zip(shard.carry.last_ms, shard._owner, strict=True) if o == i) for i in
              range(len(shard.meters))]  # fmt: skip
    by_meter = {name: (newest[i], shard.first_ms[i], shard.issued_ms[i]) for i, name in enumerate(shard.meters)}
    return {**by_series, **by_meter, "head": shard.history.head}


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
        if kind == Kind.REGISTER:
            value[rng.random(len(ts)) < 0.04] = 0.0  # what a device says while it starts
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


@settings(max_examples=15, deadline=None)
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


@settings(max_examples=6, deadline=None)
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


@settings(max_examples=4, deadline=None)
@given(seed=seeds, at=st.floats(0, 1))
def test_a_restored_shard_goes_on_as_if_never_stopped(seed: int, at: float) -> None:
    """Only what each window changed is written, as the keyed state does it."""
    readings = [*messy(seed, 200, (900, 1777, 3600)), *intervals("late", np.arange(120, 200), 0.5)]
    by_window = windows(readings)
    ends = list(by_window)
    stop = int(at * (len(ends) - 1))
    slots = MemorySlots()
    going, kept = Shard(slots), {}
    for end in ends[:stop]:
        for number in going.apply(pieces(by_window[end])):
            kept[number] = going.column(number)
        kept = {number: column for number, column in kept.items() if number >= going.oldest()}
        list(going.due(end))
    if stop == 0:
        return
    restored = Shard.restore(going.names(), going.header(), kept, MemorySlots(slots))
    assert restored.header() == going.header()
    assert remembered(restored) == remembered(going)
    rest = {end: by_window[end] for end in ends[stop:]}
    assert run(restored, rest) == run(going, rest)
    assert restored.header() == going.header()


def truth(readings: list[Reading]) -> dict[Any, Any]:
    """By series: kWh and known ms of its quarter hours, derived at once from the set as the database does."""
    p = pieces(readings)
    kinds = SeriesConfig.of_kinds(np.array([kind for *_, kind in p.series], np.int8))
    pairs = list(dict.fromkeys((m, r) for m, r, *_ in p.series))
    pair = np.array([pairs.index((m, r)) for m, r, *_ in p.series])[p.owner]
    blank = np.full(len(pair), "", object)
    rows = Readings(
        blank, blank, p.ts_ms, kinds.kind[p.owner], p.value, p.interval_ms, p.revision, p.quality, blank
    )  # fmt: skip
    keep = resolve(pair, rows).keep
    # Only that the shard takes an estimate as known.
    quality = known_quality(p.quality[keep])
    slots = derive(p.owner[keep], p.ts_ms[keep], p.value[keep], p.interval_ms[keep], quality, config=kinds).slots
    kwh, covered = np.zeros((len(p.series), SLOTS)), np.zeros((len(p.series), SLOTS), np.int64)
    kwh[slots.series, slots.slot_ms // SLOT_MS % SLOTS] = slots.kwh
    covered[slots.series, slots.slot_ms // SLOT_MS % SLOTS] = slots.covered_ms
    return {name: (kwh[i], covered[i]) for i, name in enumerate(p.series)}


def assert_true(shard: Shard, readings: list[Reading]) -> None:
    """The shard's history is that of the set of readings."""
    for name, (kwh, covered) in truth(readings).items():
        at = shard.series.index(name)
        np.testing.assert_allclose(shard.history.kwh[at], kwh, rtol=1e-9, atol=1e-9, err_msg=str(name))
        assert (shard.history.covered_ms[at] == covered).all(), name


@settings(max_examples=15, deadline=None)
@given(seed=seeds)
def test_the_energy_is_that_of_the_database(seed: int) -> None:
    """Window by window as at once by the derivation that fills `energy_slot`."""
    readings = messy(seed)
    shard = Shard()
    for rows in windows(readings).values():
        shard.apply(pieces(rows))
    assert_true(shard, readings)


def disturbed(readings: list[Reading], rng: np.random.Generator) -> list[list[Reading]]:
    """The readings in batches, some revised, some repeated, each up to a week after it was due."""
    revised = [
        (*reading[:4], reading[4] + float(rng.normal(0, 0.05)), reading[5], 1, int(rng.choice([0, 0, 1, 2])))
        for reading in readings
        if rng.random() < 0.05
    ]
    rows = [*readings, *revised]
    rows += [rows[i] for i in rng.integers(0, len(rows), len(rows) // 5)]
    late = rng.random(len(rows)) < rng.choice([0.05, 0.5, 1.0])
    due = np.array([row[3] for row in rows]) + late * rng.integers(0, 7 * 24 * HOUR, len(rows))
    order = [rows[i] for i in np.argsort(due, kind="stable")]
    cuts = sorted(rng.integers(0, len(order), rng.integers(1, 60)).tolist())
    return [order[low:high] for low, high in itertools.pairwise([0, *cuts, len(order)]) if low < high]


@settings(max_examples=25, deadline=None)
@given(seed=seeds)
def test_late_repeated_and_revised_readings_in_any_order_give_the_same_history(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batches = disturbed(messy(seed), rng)
    every = [reading for batch in batches for reading in batch]
    shard, in_order = Shard(), Shard()
    for batch in batches:
        shard.apply(pieces(batch))
    in_order.apply(pieces(every))
    assert_true(shard, every)


@settings(max_examples=4, deadline=None, phases=[Phase.explicit, Phase.generate])  # shrinking would take hours
@given(seed=seeds)
@example(seed=216814)  # the newest reading of all is declared invalid afterwards
def test_a_forecast_after_late_readings_sees_what_it_would_have_seen_without_delay(seed: int) -> None:
    rng = np.random.default_rng(seed)
    batches = disturbed(messy(seed, 180, (900, 3600)), rng)
    every = [reading for batch in batches for reading in batch]
    shard, in_order = Shard(), Shard()
    for batch in batches:
        shard.apply(pieces(batch))
    in_order.apply(pieces(every))
    end = max(reading[3] for reading in every) + HOUR
    late, soon = (
        {(m, due.issued_at_ms): h for due in each.due(end) for m, h in zip(due.meter_id, due.history, strict=True)}
        for each in (shard, in_order)
    )
    assert late.keys() == soon.keys() != set()
    for key, history in late.items():
        # A reading that is taken back has moved the week on: what fell out of it by that does not come back.
        begin = key[1] - 168 * HOUR
        lost = (
            -(-(shard.history.oldest() * SLOT_MS - begin) // (168 * HOUR // len(history)))
            if moved(shard, in_order)
            else 0
        )
        seen = slice(max(0, lost), None)
        np.testing.assert_allclose(history[seen], soon[key][seen], rtol=1e-9, atol=1e-9, err_msg=str(key))


def moved(late: Shard, soon: Shard) -> bool:
    """Whether the one's week has gone on further."""
    return bool(late.history.head > soon.history.head)


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_a_dense_counter_keeps_few_readings_and_the_same_energy(seed: int) -> None:
    """Ten seconds a reading: only what lies on the counter's path is let go, late readings and all."""
    rng = np.random.default_rng(seed)
    ts = START + np.arange(0, 3 * HOUR, 10_000)
    value = np.round(np.cumsum(rng.random(len(ts)) * 0.02), 3)
    if rng.random() < 0.5:
        value[len(value) // 2 :] -= value[len(value) // 2]
    readings = registers("m", ts, value)
    late = set(rng.choice(len(readings), 50, replace=False).tolist())
    shard = Shard()
    for rows in windows([row for i, row in enumerate(readings) if i not in late]).values():
        shard.apply(pieces(rows))
    shard.apply(pieces([readings[i] for i in sorted(late)] + readings[:200]))
    assert_true(shard, readings)
    kept = sum(len(shard._load(slot)) for slot in shard._kept)
    assert kept < len(readings) / 4


def test_what_is_configured_later_counts_for_what_came_before() -> None:
    """A rollover that nobody knew of, and a capacity that makes a spike absurd."""
    rising = np.arange(0, 40) * 1.0
    value = np.where(rising < 20, 980 + rising, rising - 20)
    ts = START + np.arange(40) * SLOT_MS
    readings = [*registers("roll", ts, value), *intervals("spike", np.arange(1, 10), [1, 1, 1, 1, 500, 1, 1, 1, 1])]
    before, after, known = Shard(), Shard(), Shard()
    configs = {"roll": MeterConfig(register_max=1000.0), "spike": MeterConfig(max_kw=10.0, tz="Asia/Kathmandu")}
    before.apply(pieces(readings))
    after.apply(pieces(readings))
    changed = after.configure(configs)
    known.configure(configs)
    known.apply(pieces(readings))
    assert changed
    assert remembered(after) == remembered(known)
    roll, spike = after.history.kwh
    assert roll.sum() == pytest.approx(39.0)
    assert spike.sum() == pytest.approx(8.0)
    assert before.history.kwh[1].sum() == pytest.approx(508.0)
    assert after.configure(configs) == set()
    again = Shard.restore(
        after.names(), after.header(), {n: after.column(n) for n in changed}, MemorySlots(after._slots)
    )
    assert again.configure(configs) == set(), "the state remembers what it was derived with"


def test_an_estimated_hour_is_known_and_an_unmeasured_one_is_not() -> None:
    hours = np.arange(1, 170)
    readings = intervals("m", hours, 2.0)
    readings[50] = (*readings[50][:7], 1)
    readings[60] = (*readings[60][:7], 2)
    issued = run(Shard(), windows(readings))
    history = np.frombuffer(issued[0][3])
    assert history[50] == 2.0
    assert np.isnan(history[60])


@settings(max_examples=100, deadline=None)
@given(seed=seeds, n=st.integers(0, 50))
def test_readings_of_a_slot_come_back_from_their_bytes(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    few = int(rng.integers(1, 4))
    rows = SlotReadings(
        rng.integers(0, few, n), 1_900_000 * SLOT_MS + rng.integers(1, SLOT_MS + 1, n),
        rng.choice([0.0, -1.5, 1e300], n), rng.integers(0, few, n) * 40_000_000_000,
        rng.integers(-few, few, n) * 2**40, rng.integers(0, few, n).astype(np.int8),
    )  # fmt: skip
    again = SlotReadings.unpack(rows.pack(1_900_000), 1_900_000)
    for before, after in zip(rows.columns(), again.columns(), strict=True):
        assert before.tolist() == after.tolist()


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
    assert (late.history.kwh == in_order.history.kwh).all()
    assert (late.history.covered_ms == in_order.history.covered_ms).all()


def test_a_reading_older_than_a_week_is_let_go() -> None:
    shard = Shard()
    shard.apply(pieces(intervals("m", np.arange(10, 200))))
    before = shard.history.kwh.copy()
    assert shard.apply(pieces(intervals("m", [5], 99.0))) == set()
    assert (shard.history.kwh == before).all()


def test_a_revision_replaces_the_hour() -> None:
    shard = Shard()
    shard.apply(pieces(intervals("m", [1, 2, 3], 1.0)))
    shard.apply(pieces([(*intervals("m", [2], 5.0)[0][:6], 1, 0)]))
    assert shard.history.kwh.sum() == pytest.approx(7.0)


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
    header = Shard().header().replace(b'"version":2', b'"version":3')
    with pytest.raises(ValueError, match="deploy the code it is of"):
        Shard.restore(b"[]", header, {})
