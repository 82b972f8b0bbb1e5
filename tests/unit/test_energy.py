"""Energy of quarter-hours: each rule in literal numbers, then orders, splits and sums by hypothesis."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.energy import SLOT_MS, Carry, Derived, SeriesConfig, derive, resolve
from operators.increments import Event, Rows, limit_kwh, register_stretches, resolution
from operators.readings import Kind, Quality, Readings

START = 1_700_000_100_000  # a slot's start
MINUTE = 60_000
NONE = np.zeros(0, np.int64)


def run(
    kind: Kind,
    minutes: list[float],
    values: list[float],
    *,
    interval: float = 0,
    quality: list[int] | None = None,
    register_max: float = np.nan,
    max_kw: float = np.nan,
    carry: Carry | None = None,
) -> Derived:
    """`derive` of one series at `minutes` after START."""
    n = len(minutes)
    ts = START + (np.array(minutes) * MINUTE).astype(np.int64)
    config = SeriesConfig(np.array([kind], np.int8), np.array([register_max]), np.array([max_kw]))
    return derive(
        np.zeros(n, np.int64), ts, np.array(values, float), np.full(n, int(interval * MINUTE)),
        np.array(quality if quality is not None else [0] * n, np.int8), config=config, carry=carry,
    )  # fmt: skip


def slots(derived: Derived) -> list[tuple[int, float, int, int]]:
    """(slot after START, kWh, measured minutes, readings)"""
    s = derived.slots
    return [
        ((slot - START) // SLOT_MS, round(kwh, 9), covered // MINUTE, count)
        for slot, kwh, covered, count in zip(
            s.slot_ms.tolist(), s.kwh.tolist(), s.covered_ms.tolist(), s.readings.tolist(), strict=True
        )
    ]


def codes(derived: Derived) -> list[Event]:
    return [Event(code) for code in derived.events.code.tolist()]


def test_register_energy_is_spread_over_the_slots_between_two_readings() -> None:
    derived = run(Kind.REGISTER, [5, 35], [100, 106])
    assert slots(derived) == [(0, 2, 10, 0), (1, 3, 15, 0), (2, 1, 5, 1)]


def test_readings_on_the_border_leave_no_row_without_energy() -> None:
    assert slots(run(Kind.REGISTER, [0, 15], [1, 2])) == [(0, 1, 15, 1)]
    assert slots(run(Kind.REGISTER, [0], [1])) == []


def test_a_gap_counts_its_energy_but_no_coverage() -> None:
    derived = run(Kind.REGISTER, [0, 15, 90], [0, 1, 6])
    assert slots(derived) == [(0, 1, 15, 1), *[(i, 1, 0, int(i == 5)) for i in range(1, 6)]]


def test_an_hourly_counter_is_measured() -> None:
    assert [covered for _, _, covered, _ in slots(run(Kind.REGISTER, [0, 60], [0, 1]))] == [15] * 4


def test_a_dip_and_its_recovery_give_nothing() -> None:
    derived = run(Kind.REGISTER, [1, 2, 3, 4, 5], [100, 100.0005, 100.0, 100.0004, 100.001])
    assert slots(derived)[0][1] == pytest.approx(0.001)
    assert codes(derived) == [Event.DIP, Event.DIP]


def test_a_reset_counts_from_zero() -> None:
    derived = run(Kind.REGISTER, [1, 2, 3], [5000, 0.5, 1.5])
    assert slots(derived)[0][1] == pytest.approx(1.5)
    assert codes(derived) == [Event.RESET]
    assert (derived.events.before[0], derived.events.after[0], derived.events.kwh[0]) == (5000, 0.5, 0.5)


def test_a_rollover_goes_on_through_register_max() -> None:
    derived = run(Kind.REGISTER, [1, 2], [99_998, 3], register_max=100_000)
    assert slots(derived)[0][1] == pytest.approx(5)
    assert codes(derived) == [Event.ROLLOVER]


def test_another_meter_begins_an_epoch() -> None:
    derived = run(Kind.REGISTER, [1, 2, 3], [5000, 3000, 3001])
    assert slots(derived) == [(0, 1, 1, 1)]
    assert codes(derived) == [Event.BACKWARD]


def test_more_than_the_connection_carries_is_not_believed() -> None:
    derived = run(Kind.REGISTER, [0, 15, 30], [0, 1000, 1001], max_kw=10)
    assert slots(derived) == [(1, 1, 15, 1)]
    assert codes(derived) == [Event.IMPLAUSIBLE]


def test_a_clock_that_was_wrong_spreads_nothing_over_years() -> None:
    derived = run(Kind.REGISTER, [-600 * 24 * 60, 0, 15], [1, 2, 3])
    assert slots(derived) == [(0, 1, 15, 1)]
    assert codes(derived) == [Event.LOST]


def test_a_creeping_counter_never_gives_negative_energy() -> None:
    values = [100 - 0.0006 * i for i in range(50)] + [101]
    derived = run(Kind.REGISTER, [float(i) for i in range(51)], values)
    assert (derived.slots.kwh >= 0).all()
    assert set(codes(derived)) == {Event.DIP, Event.BACKWARD}


def test_an_interval_counts_over_the_time_before() -> None:
    derived = run(Kind.INTERVAL, [60], [4], interval=60)
    assert slots(derived) == [(0, 1, 15, 0), (1, 1, 15, 0), (2, 1, 15, 0), (3, 1, 15, 1)]


def test_of_overlapping_intervals_the_finer_counts() -> None:
    hour, quarter = 60 * MINUTE, 15 * MINUTE
    config = SeriesConfig.of_kinds(np.array([Kind.INTERVAL], np.int8))
    ts = START + np.array([60, 30, 15]) * MINUTE
    derived = derive(
        np.zeros(3, np.int64), ts, np.array([4.0, 9, 7]), np.array([hour, quarter, quarter]), np.zeros(3, np.int8),
        config=config,
    )  # fmt: skip
    assert slots(derived) == [(0, 7, 15, 1), (1, 9, 15, 1), (2, 1, 15, 0), (3, 1, 15, 1)]


def test_power_is_joined_by_the_trapezoid_and_exported_power_is_negative() -> None:
    assert slots(run(Kind.INSTANT, [0, 15, 30], [4, 4, -4])) == [(0, 1, 15, 1), (1, 0, 15, 1)]
    assert slots(run(Kind.INSTANT, [7.5, 22.5], [0, 4])) == [(0, 0.125, 7, 0), (1, 0.375, 7, 1)]


def test_powers_over_an_hour_apart_are_a_gap() -> None:
    assert slots(run(Kind.INSTANT, [0, 61], [4, 4])) == []
    assert len(slots(run(Kind.INSTANT, [0, 60], [4, 4]))) == 4


def test_invalid_readings_enter_nothing_and_estimated_ones_are_not_measured() -> None:
    invalid = run(Kind.REGISTER, [0, 5, 15], [1, 900, 2], quality=[0, Quality.INVALID, 0])
    assert slots(invalid) == [(0, 1, 15, 1)]
    estimated = run(Kind.REGISTER, [0, 5, 10, 15], [1, 2, 3, 4], quality=[0, Quality.ESTIMATED, 0, 0])
    assert slots(estimated) == [(0, 3, 5, 3)]


def test_two_readings_at_one_time_are_an_error() -> None:
    with pytest.raises(ValueError, match="resolve"):
        run(Kind.REGISTER, [1, 1], [1, 2])


def test_a_reading_before_the_carried_state_is_an_error() -> None:
    carry = run(Kind.REGISTER, [5], [1]).carry
    with pytest.raises(ValueError, match="older"):
        run(Kind.REGISTER, [4], [1], carry=carry)


def readings_of(rows: list[tuple[int, float, int, int]]) -> Readings:
    """Rows (minute, value, revision, quality) of one register."""
    n = len(rows)
    return Readings(
        np.array(["m"] * n, object), np.array(["r"] * n, object),
        np.array([START + m * MINUTE for m, _, _, _ in rows], np.int64), np.zeros(n, np.int8),
        np.array([v for _, v, _, _ in rows], float), np.zeros(n, np.int64),
        np.array([r for _, _, r, _ in rows], np.int64), np.array([q for _, _, _, q in rows], np.int8),
        np.array(["default"] * n, object),
    )  # fmt: skip


def test_resolve_keeps_the_higher_revision_then_the_greater_value() -> None:
    rows = [(1, 5.0, 0, 0), (1, 4.0, 1, 0), (1, 4.0, 1, 0), (2, 7.0, 0, 0), (2, 8.0, 0, 0), (2, 7.0, 0, 0)]
    resolved = resolve(np.zeros(6, np.int64), readings_of(rows))
    assert [rows[i][1] for i in resolved.keep.tolist()] == [4.0, 8.0]
    assert (resolved.repeated, resolved.superseded, len(resolved.conflicts)) == (2, 1, 1)


def test_resolve_counts_every_row_once() -> None:
    rng = np.random.default_rng(5)
    rows = [
        (int(m), float(v), int(r), int(q))
        for m, v, r, q in zip(*(rng.integers(0, high, 400) for high in (20, 3, 3, 2)), strict=True)
    ]
    resolved = resolve(np.zeros(400, np.int64), readings_of(rows))
    assert len(resolved.keep) + resolved.repeated + resolved.superseded + len(resolved.conflicts) == 400


VALUES = st.one_of(
    st.floats(0, 200, allow_nan=False),
    st.floats(100, 100.01, allow_nan=False),
    st.sampled_from([0.0, 100.0, 100.0005, 99.9995, 99_999.0]),
)
ROWS = st.dictionaries(
    st.tuples(st.integers(0, 2), st.integers(0, 300)), st.tuples(VALUES, st.integers(0, 2)), max_size=60
)
CONFIG = SeriesConfig(np.array([0, 1, 2], np.int8), np.array([100_000.0, np.nan, np.nan]), np.array([np.nan] * 3))
LIMITED = SeriesConfig(CONFIG.kind, np.array([110.0, np.nan, np.nan]), np.array([60.0, 60.0, 60.0]))
CONFIGS = st.sampled_from([CONFIG, LIMITED])
Table = dict[tuple[int, int], tuple[float, int]]


def columns(rows: Table, order: list[tuple[int, int]]) -> list[Any]:
    series = np.array([s for s, _ in order], np.int64)
    return [
        series, np.array([START + m * MINUTE for _, m in order], np.int64),
        np.array([rows[key][0] for key in order], float), np.where(series == 1, 7 * MINUTE, 0),
        np.array([rows[key][1] for key in order], np.int8),
    ]  # fmt: skip


def table(derived: Derived) -> list[Any]:
    s = derived.slots
    return [c.tolist() for c in (s.series, s.slot_ms, s.kwh, s.covered_ms, s.readings)]


def events(derived: Derived) -> list[tuple[Any, ...]]:
    e = derived.events
    return list(zip(*(getattr(e, name).tolist() for name in e.__dataclass_fields__), strict=True))


@settings(max_examples=150, deadline=None)
@given(ROWS, CONFIGS, st.randoms(use_true_random=False))
def test_any_order_gives_the_same_bits(rows: Table, config: SeriesConfig, random: Any) -> None:
    ordered = sorted(rows)
    shuffled = ordered.copy()
    random.shuffle(shuffled)
    a, b = (derive(*columns(rows, order), config=config) for order in (shuffled, ordered))
    assert (table(a), events(a)) == (table(b), events(b))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), VALUES, st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=40),
    st.randoms(use_true_random=False),
)
def test_repeats_and_revisions_in_any_order_give_the_same_bits(
    rows: list[tuple[int, float, int, int]], random: Any
) -> None:
    def result(sent: list[tuple[int, float, int, int]]) -> list[Any]:
        r = readings_of(sent)
        r = r.take(resolve(np.zeros(len(r), np.int64), r).keep)
        series = np.zeros(len(r), np.int64)
        derived = derive(series, r.ts_ms, r.value, r.interval_ms, r.quality, config=LIMITED)
        return [table(derived), events(derived)]

    again = rows + random.choices(rows, k=len(rows))
    random.shuffle(again)
    assert result(again) == result(rows)


@settings(max_examples=150, deadline=None)
@given(ROWS, CONFIGS, st.lists(st.integers(0, 300), max_size=6))
def test_continuing_in_parts_gives_the_same_bits(rows: Table, config: SeriesConfig, cuts: list[int]) -> None:
    # Intervals that reach back over a cut are the store's to derive again: here they end 7 minutes apart.
    rows = {(s, m * 7 if s == 1 else m): value for (s, m), value in rows.items()}
    whole = derive(*columns(rows, sorted(rows)), config=config)
    found: list[tuple[Any, ...]] = []
    parts: dict[tuple[int, int], Any] = {}
    carry = Carry.empty(3)
    bounds = [-1, *sorted(cuts), 100_000]
    begun = -1
    for _, high in itertools.pairwise(bounds):
        derived = derive(*columns(rows, [k for k in sorted(rows) if begun < k[1] <= high]), config=config, carry=carry)
        if derived.carry.fallen.any() and high < bounds[-1]:
            continue  # not to be continued: taken in one with what comes
        carry, begun = derived.carry, high
        found += events(derived)
        for row in zip(*table(derived), strict=True):
            parts[row[0], row[1]] = row
    assert [parts[key] for key in sorted(parts)] == list(zip(*table(whole), strict=True))
    assert sorted(found) == sorted(events(whole))
    assert [c.tolist() for c in (carry.last_ms, carry.mark, carry.kwh, carry.covered_ms, carry.readings)] == [
        c.tolist()
        for c in (whole.carry.last_ms, whole.carry.mark, whole.carry.kwh, whole.carry.covered_ms, whole.carry.readings)
    ]


@settings(max_examples=200, deadline=None)
@given(ROWS, CONFIGS)
def test_everything_is_finite_registers_never_negative_coverage_within_the_slot(
    rows: Table, config: SeriesConfig
) -> None:
    derived = derive(*columns(rows, sorted(rows)), config=config)
    s, e = derived.slots, derived.events
    assert np.isfinite(s.kwh).all()
    assert all(
        np.isfinite(column).all() for column in (e.before, e.after, e.kwh, derived.carry.mark, derived.carry.kwh)
    )
    assert (s.kwh[s.series == 0] >= 0).all()
    assert ((s.covered_ms >= 0) & (s.covered_ms <= SLOT_MS)).all()
    assert (s.slot_ms % SLOT_MS == 0).all()


def without_glitches(values: list[float]) -> list[float]:
    """What stays of a counter's values when falls that are made up for by the next step up are left out."""
    keep = [True] * len(values)
    mark = values[0]
    for i, value in enumerate(values[1:], 1):
        fell = value < mark - float(resolution(mark)) and value < values[i - 1] - float(resolution(values[i - 1]))
        back = next(
            (j for j in range(i + 1, len(values)) if values[j] - values[j - 1] >= resolution(values[j - 1] + 0.1)), None
        )
        if fell and back is not None and values[back] >= mark:
            keep[i:back] = [False] * (back - i)
        mark = value if value < mark - float(resolution(mark)) else max(mark, value)
    return [value for value, kept in zip(values, keep, strict=True) if kept]


def expected_sum(values: list[float]) -> float:
    """Σ of the epochs' highest minus first value, resets counted from zero: the rule, once more and row by row."""
    values = without_glitches(values)
    total, mark = 0.0, values[0]
    for value in values[1:]:
        if value < mark - float(resolution(mark)):
            total += value if value <= 0.1 * mark else 0.0
            mark = value
        elif value > mark:
            total, mark = total + value - mark, value
    return total


@pytest.mark.parametrize(
    ("values", "total", "codes"),
    [
        ([5000, 0, 5000.1], 0.1, [Event.GLITCH]),
        ([5000, 0, 0, 0, 5000], 0.0, [Event.GLITCH]),
        ([5000, 400, 0, 5000.1, 0, 5000.2], 0.2, [Event.GLITCH, Event.GLITCH]),
        ([5000, 4000, 5001], 1.0, [Event.GLITCH]),
        ([5000, 3, 4, 6], 6.0, [Event.RESET]),
        ([5000, 0, 0], 0.0, [Event.RESET]),
        ([5000, 0, 1, 5000.1], 5000.1, [Event.RESET]),
    ],
)
def test_a_counter_that_falls_and_comes_back_invents_nothing(
    values: list[float], total: float, codes: list[Event]
) -> None:
    derived = run(Kind.REGISTER, [15.0 * i for i in range(len(values))], values)
    assert derived.slots.kwh.sum() == pytest.approx(total, abs=1e-9)
    assert derived.events.code.tolist() == codes


def test_a_counter_that_fell_cannot_be_continued() -> None:
    fallen = run(Kind.REGISTER, [0.0, 15.0], [5000.0, 0.0])
    assert fallen.carry.fallen.tolist() == [True]
    with pytest.raises(ValueError, match="derive its series from the stored readings"):
        derive(*columns({(0, 45): (5000.1, 0)}, [(0, 45)]), config=SeriesConfig.of_kinds(np.zeros(1, np.int8)),
               carry=fallen.carry)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(VALUES.filter(lambda v: v < 1000), min_size=1, max_size=80), st.integers(1, 50))
def test_register_sums_are_conserved(values: list[float], step: int) -> None:
    derived = run(Kind.REGISTER, [float(i * step) for i in range(len(values))], values)
    assert derived.slots.kwh.sum() == pytest.approx(expected_sum(values), rel=1e-9, abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(VALUES, st.integers(1, 90)), min_size=2, max_size=60), st.sampled_from([np.nan, 110.0]))
def test_no_increment_is_negative_or_beyond_the_meters_capacity(rows: list[tuple[float, int]], top: float) -> None:
    ts = START + np.cumsum([step for _, step in rows]) * MINUTE
    value, n = np.array([value for value, _ in rows]), len(rows)
    plain = Rows(np.zeros(n, np.int64), ts, value, np.zeros(n, np.int64), np.zeros(n, bool), np.zeros(n, bool))
    stretches, odd, _ = register_stretches(plain, np.array([top]), np.array([30.0]))
    assert (stretches.kwh >= 0).all()
    assert (stretches.kwh <= limit_kwh(np.full(len(stretches.kwh), 30.0), stretches.length_ms)).all()
    # What is counted over a break is what its event says.
    over = np.isin(stretches.end_ms, odd.ts_ms)
    said = dict(zip(odd.ts_ms.tolist(), odd.kwh.tolist(), strict=True))
    assert [said[end] for end in stretches.end_ms[over].tolist()] == stretches.kwh[over].tolist()


@settings(max_examples=200, deadline=None)
@given(ROWS, st.integers(0, 250))
def test_a_gap_is_no_row_or_no_coverage_and_never_zero_energy_that_was_measured(rows: Table, begin: int) -> None:
    """Of the slots that lie in a silence of an hour and more, powers and intervals give none, counters no coverage."""
    kept = {key: value for key, value in rows.items() if not begin < key[1] < begin + 75}
    s = derive(*columns(kept, sorted(kept)), config=CONFIG).slots
    minutes = (s.slot_ms - START) // MINUTE
    inside = (minutes >= begin) & (minutes + 15 + 7 <= begin + 75)
    assert not (inside & (s.series > 0)).any()
    assert (s.covered_ms[inside] == 0).all()
