"""Energy of quarter-hours from meter readings: pure, for many series at once, a function of the set of readings alone.

A series is one kind of one register of one meter, given as a number; names stay outside. Times are epoch milliseconds
UTC, energies kWh, powers kW. `derive` takes a whole history or continues from a `Carry`, with bit-equal results: sums
are folded in the order of time either way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from operators.increments import (
    HOUR_MS,
    Bools,
    Event,
    Events,
    Floats,
    Ints,
    Rows,
    Stretches,
    glitches,
    instant_stretches,
    interval_stretches,
    limit_kwh,
    register_stretches,
)
from operators.readings import Kind, Quality, Readings

SLOT_MS = 900_000
NEVER = np.iinfo(np.int64).min


def end_slot(ms: int) -> int:
    """Number of the end of the quarter hour that a moment (epoch ms) belongs to: its end is in it, its start is not."""
    return -(-ms // SLOT_MS)


@dataclass(frozen=True)
class SeriesConfig:
    """What is known of each series, by number: `kind` int8 [s]; `register_max` kWh and `max_kw` float64 [s], or NaN."""

    kind: NDArray[np.int8]
    register_max: Floats
    max_kw: Floats

    @classmethod
    def of_kinds(cls, kind: NDArray[np.int8]) -> SeriesConfig:
        """Series of whose meters nothing is configured."""
        unknown = np.full(len(kind), np.nan)
        return cls(kind, unknown, unknown)


@dataclass(frozen=True)
class Carry:
    """Where each series stands, all [s]: enough to go on with later readings only.

    `last_ms` is the time of the last reading that is not invalid (`NEVER`: none yet), `mark` a counter's high-water
    mark or the power, `estimated` its quality; `kwh`, `covered_ms`, `readings` are the sums of the slot of `last_ms`.
    `fallen`: the last readings are those of a counter that fell, and the next one may say that they are a glitch; such
    a series cannot be continued, only derived again.
    """

    last_ms: Ints
    mark: Floats
    estimated: Bools
    kwh: Floats
    covered_ms: Ints
    readings: Ints
    fallen: Bools

    @classmethod
    def empty(cls, n_series: int) -> Carry:
        """The state before any reading."""
        zeros = np.zeros(n_series, np.int64)
        return cls(
            np.full(n_series, NEVER), np.zeros(n_series), np.zeros(n_series, np.bool_), np.zeros(n_series),
            zeros, zeros.copy(), np.zeros(n_series, np.bool_),
        )  # fmt: skip


@dataclass(frozen=True)
class Slots:
    """Energy by (series, slot), sorted; a slot of which nothing is known has no row."""

    series: Ints
    slot_ms: Ints
    """Start of the slot."""
    kwh: Floats
    covered_ms: Ints
    """How much of the slot was measured, 0 … 900,000."""
    readings: Ints
    """Readings that ended a stretch in (slot, slot + 15 min]."""

    def __len__(self) -> int:
        return len(self.slot_ms)


@dataclass(frozen=True)
class Derived:
    """Result of `derive`: the touched slots in full, what was odd, and where each series stands now."""

    slots: Slots
    events: Events
    carry: Carry


def _rows(
    series: Ints, ts_ms: Ints, value: Floats, interval_ms: Ints, quality: NDArray[np.int8], *, carry: Carry
) -> Rows:
    valid = (quality != Quality.INVALID) & np.isfinite(value)
    s, t, v, length = series[valid], ts_ms[valid], value[valid], interval_ms[valid]
    estimated, carried = quality[valid] == Quality.ESTIMATED, np.zeros(len(s), np.bool_)
    known = np.unique(s)
    known = known[carry.last_ms[known] != NEVER]
    if carry.fallen[known].any():
        raise ValueError("a counter that fell goes on: derive its series from the stored readings")
    if len(known):
        s = np.concatenate([known, s])
        t = np.concatenate([carry.last_ms[known], t])
        v = np.concatenate([carry.mark[known], v])
        length = np.concatenate([np.zeros(len(known), np.int64), length])
        estimated = np.concatenate([carry.estimated[known], estimated])
        carried = np.concatenate([np.ones(len(known), np.bool_), carried])
    rows = Rows(s, t, v, length, estimated, carried)
    step_series, step_time = np.diff(s), np.diff(t)
    if np.any((step_series < 0) | ((step_series == 0) & (step_time < 0))):
        rows = rows.take(np.lexsort((t, s)))
        step_series, step_time = np.diff(rows.series), np.diff(rows.ts_ms)
    if np.any((step_series == 0) & (step_time == 0)):
        raise ValueError("two readings of a series at one time: resolve() them first")
    if np.any(rows.carried[1:] & (step_series == 0)):
        raise ValueError("a reading is older than the carried state: derive its series from the stored readings")
    return rows


def _pieces(stretches: Stretches) -> tuple[Ints, Ints, Floats, Ints, Ints]:
    """Cut stretches at slot borders: (series, slot number, kWh, measured ms, readings), in the same order."""
    first = stretches.start_ms // SLOT_MS
    count = (stretches.end_ms - 1) // SLOT_MS - first + 1
    i = np.repeat(np.arange(len(count)), count)
    within = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)
    slot = first[i] + within
    start, end = stretches.start_ms[i], stretches.end_ms[i]
    low, high = np.maximum(start, slot * SLOT_MS), np.minimum(end, (slot + 1) * SLOT_MS)
    length = stretches.length_ms[i]
    a, b = (low - start) / length, (high - start) / length
    share = (high - low) / length
    kwh = stretches.kwh[i] * share + stretches.tilt[i] * ((b - a) * (b + a) - share)
    measured = np.where(stretches.measured[i], high - low, 0)
    readings = np.where(high == end, stretches.readings[i], 0)
    return stretches.series[i], slot, kwh, measured, readings


def _fold(pieces: tuple[Ints, Ints, Floats, Ints, Ints], carry: Carry) -> Slots:
    """Sum pieces by (series, slot), in their order, after what the carried slot already holds."""
    series, slot, kwh, measured, readings = pieces
    if not len(series):
        none = np.zeros(0, np.int64)
        return Slots(none, none, np.zeros(0), none, none)
    first = np.flatnonzero(np.concatenate([[True], np.diff(series) != 0]))
    owner = series[first]
    same = (carry.last_ms[owner] != NEVER) & (carry.last_ms[owner] // SLOT_MS == slot[first])
    at, owner = first[same], owner[same]
    if len(at):
        series, slot = np.insert(series, at, owner), np.insert(slot, at, slot[at])
        kwh = np.insert(kwh, at, carry.kwh[owner])
        measured = np.insert(measured, at, carry.covered_ms[owner])
        readings = np.insert(readings, at, carry.readings[owner])
    change = np.concatenate([[True], (np.diff(series) != 0) | (np.diff(slot) != 0)])
    group = np.cumsum(change) - 1
    first = np.flatnonzero(change)
    # bincount adds one by one in order: the same rounding whether a slot is summed at once or in parts.
    return Slots(
        series[first], slot[first] * SLOT_MS, np.bincount(group, kwh).astype(np.float64),
        np.bincount(group, measured).astype(np.int64), np.bincount(group, readings).astype(np.int64),
    )  # fmt: skip


def _carry_on(rows: Rows, mark: Floats, slots: Slots, carry: Carry, pending: Ints) -> Carry:
    """Where the series stand after `rows`; those without a row stay as they were."""
    last = np.flatnonzero(np.concatenate([np.diff(rows.series) != 0, [True]])) if len(rows.series) else np.zeros(0, int)
    series, last_ms = rows.series[last], rows.ts_ms[last]
    new = Carry(
        carry.last_ms.copy(), carry.mark.copy(), carry.estimated.copy(),
        carry.kwh.copy(), carry.covered_ms.copy(), carry.readings.copy(), carry.fallen.copy(),
    )  # fmt: skip
    new.fallen[series] = np.isin(series, pending)
    old_slot = carry.last_ms[series] // SLOT_MS
    new.last_ms[series], new.mark[series], new.estimated[series] = last_ms, mark[last], rows.estimated[last]
    moved = series[(carry.last_ms[series] == NEVER) | (old_slot != last_ms // SLOT_MS)]
    for column in (new.kwh, new.covered_ms, new.readings):
        column[moved] = 0
    if len(slots):
        end = np.flatnonzero(np.concatenate([np.diff(slots.series) != 0, [True]]))
        end = end[slots.slot_ms[end] // SLOT_MS == new.last_ms[slots.series[end]] // SLOT_MS]
        owner = slots.series[end]
        new.kwh[owner], new.covered_ms[owner], new.readings[owner] = (
            slots.kwh[end], slots.covered_ms[end], slots.readings[end],
        )  # fmt: skip
    return new


def implausible(kind: int, value: Floats, interval_ms: Ints, max_kw: float) -> Bools:
    """Intervals and powers beyond what the meter can carry: `derive` leaves them out, as if they were invalid.

    Args:
        kind: their `Kind`; a counter is judged by its increments, and none of its readings is implausible by itself.
        value: kWh or kW [n].
        interval_ms: length of intervals [n].
        max_kw: capacity of the connection, NaN where it is not known.
    """
    if kind == Kind.REGISTER:
        return np.zeros(len(value), np.bool_)
    span = interval_ms if kind == Kind.INTERVAL else np.full(len(value), HOUR_MS)
    return np.asarray(np.abs(value) > limit_kwh(np.full(len(value), max_kw), span), np.bool_)


def _drop_absurd(rows: Rows, kind: NDArray[np.int8], max_kw: Floats) -> tuple[Rows, Events]:
    """Leave out what is `implausible`, of many series."""
    span = np.where(kind == Kind.INTERVAL, rows.interval_ms, HOUR_MS)
    absurd = (kind != Kind.REGISTER) & ~rows.carried & (np.abs(rows.value) > limit_kwh(max_kw[rows.series], span))
    at = np.flatnonzero(absurd)
    code = np.full(len(at), Event.IMPLAUSIBLE, np.int8)
    from_ms = rows.ts_ms[at] - np.where(kind[at] == Kind.INTERVAL, rows.interval_ms[at], 0)
    none = np.zeros(len(at))
    events = Events(rows.series[at], rows.ts_ms[at], code, none, rows.value[at], none.copy(), from_ms)
    return (rows.take(~absurd) if len(at) else rows), events


def _drop_glitches(rows: Rows, config: SeriesConfig, kind: NDArray[np.int8]) -> tuple[Rows, Events, Ints]:
    """Leave out what counters said while they had fallen for a moment; and which series have fallen by the end."""
    counters = np.flatnonzero(kind == Kind.REGISTER)
    found = glitches(rows if len(counters) == len(kind) else rows.take(counters), config.register_max, config.max_kw)
    if found.dropped.any():
        keep = np.ones(len(kind), np.bool_)
        keep[counters[found.dropped]] = False
        rows = rows.take(keep)
    return rows, found.events, found.pending


def derive(
    series: Ints,
    ts_ms: Ints,
    value: Floats,
    interval_ms: Ints,
    quality: NDArray[np.int8],
    *,
    config: SeriesConfig,
    carry: Carry | None = None,
) -> Derived:
    """Energy of the quarter-hours that the readings touch.

    Rules (see `operators.increments`): counters count what they rise above their high-water mark, resets and rollovers
    accounted for, spread evenly between two readings; powers are joined by the trapezoid up to an hour apart; an
    interval counts over the time before `ts_ms`. A counter that falls and comes back had not fallen. Invalid readings
    enter nothing; estimated ones count as energy, not as
    measured.

    Args:
        series: number of each reading's series, 0 … s-1; columns of n readings in any order, of the kind that
            `config.kind` says, at most one of a series at a time (`resolve`).
        ts_ms: epoch milliseconds UTC.
        value: kWh, or kW for powers.
        interval_ms: length of intervals, else 0.
        quality: `Quality`.
        config: by series number.
        carry: state from earlier readings; each reading must then be later than its series' `last_ms`.

    Returns:
        Every slot that gained energy (with `carry`: in full, what it held before included), events, and the new state.

    Raises:
        ValueError: two readings of a series at one time, one that is older than the carried state, or a series of
            which the carried state has `fallen`.
    """
    if carry is None:
        carry = Carry.empty(len(config.kind))
    rows = _rows(series, ts_ms, value, interval_ms, quality, carry=carry)
    rows, absurd = _drop_absurd(rows, config.kind[rows.series], config.max_kw)
    kind = config.kind[rows.series]
    rows, fallen, pending = _drop_glitches(rows, config, kind)
    kind = config.kind[rows.series]
    mark = rows.value.copy()
    parts: list[tuple[Ints, Ints, Floats, Ints, Ints]] = []
    odd = [absurd, fallen]
    for each in np.unique(kind).tolist():
        index = np.flatnonzero(kind == each)
        part = rows if len(index) == len(kind) else rows.take(index)
        if each == Kind.REGISTER:
            stretches, events, mark[index] = register_stretches(part, config.register_max, config.max_kw)
            odd.append(events)
        elif each == Kind.INSTANT:
            stretches = instant_stretches(part)
        else:
            stretches = interval_stretches(part)
        parts.append(_pieces(stretches))
    pieces = _join(parts)
    slots = _fold(pieces, carry)
    return Derived(slots, _join_events(odd), _carry_on(rows, mark, slots, carry, pending))


def _join(parts: list[tuple[Ints, Ints, Floats, Ints, Ints]]) -> tuple[Ints, Ints, Floats, Ints, Ints]:
    if len(parts) == 1:
        return parts[0]
    none = np.zeros(0, np.int64)
    parts = [(none, none, np.zeros(0), none, none), *parts]
    series, slot, kwh, measured, readings = (np.concatenate(column) for column in zip(*parts, strict=True))
    # Each series is in one part, in order: sorting by series alone keeps the order of time.
    order = np.argsort(series, kind="stable")
    return series[order], slot[order], kwh[order], measured[order], readings[order]


def _join_events(parts: list[Events]) -> Events:
    names = ("series", "ts_ms", "code", "before", "after", "kwh", "from_ms")
    joined = Events(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
    order = np.lexsort((joined.ts_ms, joined.series))
    return Events(*(getattr(joined, name)[order] for name in names))


@dataclass(frozen=True)
class Resolved:
    """Result of `resolve`: positions that stay (int64, sorted by series and time), and what became of the rest."""

    keep: Ints
    repeated: int
    superseded: int
    conflicts: Ints
    """Positions that lost against an equal revision with a greater value."""


def resolve(series: Ints, readings: Readings) -> Resolved:
    """Of several readings of a series (here: of one register of one meter) at one time, the one that counts.

    The higher revision; of equal revisions the greater value; of equal values (repeats) the greater kind, interval and
    quality, so that the result does not depend on order. `series` int64 [n] numbers the (meter, register) of each row.
    """
    r = readings
    order = np.lexsort((r.quality, r.interval_ms, r.kind, r.value, r.revision, r.ts_ms, series))
    s, t = series[order], r.ts_ms[order]
    last = np.concatenate([(np.diff(s) != 0) | (np.diff(t) != 0), [True]]) if len(order) else np.zeros(0, np.bool_)
    winners = np.flatnonzero(last)
    if len(winners) == len(order):
        return Resolved(order, 0, 0, np.zeros(0, np.int64))
    losers = np.flatnonzero(~last)
    winner = order[winners[np.searchsorted(winners, losers)]]
    loser = order[losers]
    superseded = r.revision[loser] < r.revision[winner]
    conflict = ~superseded & (r.value[loser] != r.value[winner])
    # Equal losers of one conflict are one conflict and repeats: counted by their value, not by how often they came.
    repeat_of_next = np.zeros(len(order), np.bool_)
    repeat_of_next[:-1] = ~last[:-1] & (r.value[order][:-1] == r.value[order][1:]) & (
        r.revision[order][:-1] == r.revision[order][1:]
    )  # fmt: skip
    repeated = repeat_of_next[losers]
    return Resolved(
        order[winners], int(repeated.sum()), int((superseded & ~repeated).sum()), loser[conflict & ~repeated]
    )
