"""What lies between two readings: stretches of time with an energy, one rule for each kind of reading.

All functions take rows sorted by (series, time), a series being one kind of one register of one meter, and no two rows
of a series at the same time. They are local: what a stretch holds depends on few rows around it (`is_anchor`), so that
a late reading changes a bounded part of the past.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

HOUR_MS = 3_600_000
MAX_GAP_MS = HOUR_MS
"""Counter readings further apart than this say how much, not when: energy without coverage. Powers: no energy."""

MAX_SPREAD_MS = 400 * 24 * HOUR_MS
"""Counter readings further apart (a yearly reading is nearer) begin a new epoch: a clock was wrong."""

NEAR_ZERO = 0.1
"""A counter that falls below this share of its old value was reset; above it, it went backward."""

MAX_RETURN_MS = 48 * HOUR_MS
"""A counter that fell and is back at its old value within this long after its last low reading had not fallen."""

NEAR_TOP = 0.9
"""Above this share of `register_max` a fall to near zero is a rollover."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Event(IntEnum):
    """What is out of the ordinary at a reading."""

    DIP = 1
    """A counter fell by no more than its resolution: no energy until it is back."""
    RESET = 2
    """A counter fell to near zero: its new value is the energy since."""
    ROLLOVER = 3
    """A counter passed `register_max`."""
    BACKWARD = 4
    """A counter fell otherwise (another meter, say): a new epoch, no energy in between."""
    IMPLAUSIBLE = 5
    """More than the meter's `max_kw` allows: no energy; a counter begins a new epoch."""
    LOST = 6
    """Longer than `MAX_SPREAD_MS` since the last counter reading: a new epoch, no energy in between."""
    GLITCH = 7
    """A counter fell and came back: its low readings are none (a device that starts reports zero)."""


@dataclass(frozen=True)
class Rows:
    """Valid readings sorted by (series, ts_ms); `carried` marks a state from before, which is no reading of its own."""

    series: Ints
    ts_ms: Ints
    value: Floats
    interval_ms: Ints
    estimated: Bools
    carried: Bools

    def take(self, index: NDArray[Any]) -> Self:
        """The rows that `index` (positions or a mask) picks."""
        return type(self)(
            self.series[index], self.ts_ms[index], self.value[index],
            self.interval_ms[index], self.estimated[index], self.carried[index],
        )  # fmt: skip

    def follows(self) -> Bools:
        """Whether the row before is of the same series."""
        follows = np.zeros(len(self.series), np.bool_)
        follows[1:] = self.series[1:] == self.series[:-1]
        return follows


@dataclass(frozen=True)
class Stretches:
    """Energy over (start_ms, end_ms], sorted by (series, start_ms).

    `kwh` is the energy of `length_ms`, which is longer than the stretch where only a part of an interval counts.
    `tilt` (kWh) is half the difference of the powers at both ends times the length: 0 where the power is even.
    `readings` is 1 on the stretch that a reading ends.
    """

    series: Ints
    start_ms: Ints
    end_ms: Ints
    kwh: Floats
    length_ms: Ints
    tilt: Floats
    measured: Bools
    readings: Ints


@dataclass(frozen=True)
class Events:
    """Out of the ordinary: `before` is the mark (kWh) or 0, `after` the reading's value, `kwh` what was counted.

    `from_ms`: time of the counter reading before, start of the interval, or the power's own time.
    """

    series: Ints
    ts_ms: Ints
    code: NDArray[np.int8]
    before: Floats
    after: Floats
    kwh: Floats
    from_ms: Ints

    def take(self, index: NDArray[Any]) -> Self:
        """The rows that `index` (positions or a mask) picks."""
        return type(self)(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def resolution(mark: Floats | float) -> Floats:
    """By how much a counter at `mark` kWh may fall and still be the same counter: 1 Wh, or 1e-5 of it up to 0.1 kWh."""
    return np.asarray(np.maximum(0.001, np.minimum(0.1, 1e-5 * np.asarray(mark, np.float64))), np.float64)


def is_anchor(value: Floats) -> Bools:
    """Rows of one counter series after which nothing depends on the rows before: a clear step up.

    A counter's mark is at most `resolution` above its last value, so a value that rises by that much is the new mark.
    `value` float64 [n] sorted by time; the first row is never an anchor.
    """
    anchor = np.zeros(len(value), np.bool_)
    anchor[1:] = np.diff(value) >= resolution(value[:-1] + 0.1)
    return anchor


def is_fall(value: Floats) -> Bools:
    """Rows of one counter series that are clearly below the row before: until the next step up they may be a glitch."""
    fall = np.zeros(len(value), np.bool_)
    fall[1:] = np.diff(value) < -resolution(value[:-1])
    return fall


@dataclass(frozen=True)
class Glitches:
    """Low readings of counters that came back (`dropped`: bool [n]), and the series whose last readings are low."""

    dropped: Bools
    events: Events
    pending: Ints


def glitches(rows: Rows, register_max: Floats, max_kw: Floats) -> Glitches:
    """Readings of counters that fell and came back: they say nothing, and to count from them would invent energy.

    The low readings reach from the fall to the next step up. They are a glitch when that is to the old mark or above,
    at most `MAX_RETURN_MS` later, and believable; it is not known (`pending`) while no step up has come.

    Args:
        rows: counter readings of many series.
        register_max: kWh at which a series' counter starts again, NaN for never, by series number.
        max_kw: believable power of a series, NaN for unknown, by series number.
    """
    follows = rows.follows()
    falls = follows & is_fall(rows.value)
    none = np.zeros(0, np.int64)
    dropped = np.zeros(len(rows.ts_ms), np.bool_)
    if not falls.any():
        empty = Events(none, none, none.astype(np.int8), np.zeros(0), np.zeros(0), np.zeros(0), none)
        return Glitches(dropped, empty, none)
    span = np.diff(rows.ts_ms, prepend=0)
    lost = follows & (span > MAX_SPREAD_MS)
    before, breaks = _marks(rows, follows, lost)
    top = register_max[rows.series]
    rollover = (before >= NEAR_TOP * top) & (rows.value <= (1 - NEAR_TOP) * top)
    fall = np.flatnonzero(falls & breaks & ~lost & ~rollover)
    up = np.flatnonzero(follows & is_anchor(rows.value))
    place = np.searchsorted(up, fall, "right")
    back = np.append(up, len(rows.ts_ms))[place]
    within = back < len(rows.ts_ms)
    at = np.where(within, back, 0)
    within &= rows.series[at] == rows.series[fall]
    rise = rows.value[at] - before[fall]
    most = limit_kwh(max_kw[rows.series[fall]], rows.ts_ms[at] - rows.ts_ms[fall - 1])
    returned = within & (rise >= 0) & ~(rise > most) & (span[at] <= MAX_RETURN_MS)
    edges = np.zeros(len(rows.ts_ms) + 1, np.int64)
    np.add.at(edges, fall[returned], 1)
    np.add.at(edges, back[returned], -1)
    dropped = np.cumsum(edges[:-1]) > 0
    first = np.flatnonzero(dropped & ~np.concatenate([[False], dropped[:-1]]))
    events = Events(
        rows.series[first], rows.ts_ms[first], np.full(len(first), Event.GLITCH, np.int8), before[first],
        rows.value[first], np.zeros(len(first)), rows.ts_ms[first - 1],
    )  # fmt: skip
    return Glitches(dropped, events, np.unique(rows.series[fall[~within]]))


def limit_kwh(max_kw: Floats, span_ms: Ints) -> Floats:
    """The most to be believed over `span_ms`: a tenth over `max_kw`, and 1 kWh for coarse counters; NaN: no limit."""
    return np.asarray(max_kw * 1.1 * (span_ms / HOUR_MS) + 1.0, np.float64)


def _scan(value: Floats, lost: Bools) -> tuple[Floats, Bools]:
    """Marks before each row and breaks of one counter series, row by row: only for counters that creep backward."""
    before = np.full(len(value), np.nan)
    breaks = np.zeros(len(value), np.bool_)
    mark = float(value[0])
    for i in range(1, len(value)):
        before[i] = mark
        current = float(value[i])
        breaks[i] = bool(lost[i]) or current < mark - float(resolution(mark))
        mark = current if breaks[i] else max(mark, current)
    return before, breaks


def _marks(rows: Rows, follows: Bools, lost: Bools) -> tuple[Floats, Bools]:
    """The high-water mark before each row, and where an epoch breaks (float64 [n], bool [n])."""
    value = rows.value
    before = np.full(len(value), np.nan)
    before[1:] = value[:-1]
    breaks = lost | (follows & (value < before - resolution(before)))
    dips = follows & ~breaks & (value < before)
    if not dips.any():
        return before, breaks
    affected = np.isin(rows.series, np.unique(rows.series[dips]))
    index = np.flatnonzero(affected)
    part = value[index]
    # Running maximum of each epoch, exact: on ranks, with the epoch's number above them.
    epoch = np.cumsum(~follows[index] | breaks[index])
    by_value = np.argsort(part, kind="stable")
    rank = np.empty(len(part), np.int64)
    rank[by_value] = np.arange(len(part))
    top = np.maximum.accumulate(epoch * len(part) + rank) - epoch * len(part)
    mark = part[by_value[top]]
    before[index[1:]] = mark[:-1]
    creeping = affected & follows & ~breaks & (value < before - resolution(before))
    for series in np.unique(rows.series[creeping]):
        one = slice(np.searchsorted(rows.series, series, "left"), np.searchsorted(rows.series, series, "right"))
        before[one], breaks[one] = _scan(value[one], lost[one])
    return before, breaks


def register_stretches(rows: Rows, register_max: Floats, max_kw: Floats) -> tuple[Stretches, Events, Floats]:
    """Energy between the readings of counters (kWh).

    The energy is how far the counter rose above its high-water mark, so that a dip and its recovery give nothing and
    the sum of an epoch is its highest value minus its first. Never negative.

    Args:
        rows: counter readings of many series; a carried row's value is the mark.
        register_max: kWh at which a series' counter starts again, NaN for never, by series number.
        max_kw: believable power of a series, NaN for unknown, by series number.

    Returns:
        The stretches, the events, and the mark after each row (float64 [n]).
    """
    follows = rows.follows()
    span = np.zeros(len(rows.ts_ms), np.int64)
    span[1:] = np.diff(rows.ts_ms)
    lost = follows & (span > MAX_SPREAD_MS)
    before, breaks = _marks(rows, follows, lost)
    value, top = rows.value, register_max[rows.series]
    rollover = breaks & ~lost & (before >= NEAR_TOP * top) & (value <= (1 - NEAR_TOP) * top)
    reset = breaks & ~lost & ~rollover & (value <= NEAR_ZERO * before)
    kwh = np.where(rollover, value + top - before, np.where(reset, value, value - before))
    kwh = np.maximum(kwh, 0.0)
    absurd = follows & (~breaks | rollover | reset) & (kwh > limit_kwh(max_kw[rows.series], span))
    counted = follows & (~breaks | rollover | reset) & ~absurd
    after = np.where(follows & ~breaks, np.fmax(before, value), value)

    code = np.zeros(len(value), np.int8)
    code[follows & ~breaks & (value < before)] = Event.DIP
    code[breaks] = Event.BACKWARD
    code[reset] = Event.RESET
    code[rollover] = Event.ROLLOVER
    code[lost] = Event.LOST
    code[absurd] = Event.IMPLAUSIBLE
    odd = np.flatnonzero(code)
    events = Events(
        rows.series[odd], rows.ts_ms[odd], code[odd], before[odd], value[odd],
        np.where(counted[odd], kwh[odd], 0.0), rows.ts_ms[odd - 1],
    )  # fmt: skip
    i = np.flatnonzero(counted)
    stretches = Stretches(
        rows.series[i], rows.ts_ms[i - 1], rows.ts_ms[i], kwh[i], span[i], np.zeros(len(i)),
        (span[i] <= MAX_GAP_MS) & ~rows.estimated[i] & ~rows.estimated[i - 1], np.ones(len(i), np.int64),
    )  # fmt: skip
    return stretches, events, after


def instant_stretches(rows: Rows, max_gap_ms: int = MAX_GAP_MS) -> Stretches:
    """Energy between powers (kW, signed): the trapezoid, where they are at most `max_gap_ms` apart."""
    span = np.zeros(len(rows.ts_ms), np.int64)
    span[1:] = np.diff(rows.ts_ms)
    i = np.flatnonzero(rows.follows() & (span <= max_gap_ms))
    hours = span[i] / HOUR_MS
    first, last = rows.value[i - 1], rows.value[i]
    return Stretches(
        rows.series[i], rows.ts_ms[i - 1], rows.ts_ms[i], (first + last) * 0.5 * hours, span[i],
        (last - first) * 0.5 * hours,
        ~rows.estimated[i] & ~rows.estimated[i - 1], np.ones(len(i), np.int64),
    )  # fmt: skip


def _owned(start: Ints, end: Ints) -> list[tuple[int, int, int]]:
    """Parts (owner, from, to) of overlapping intervals sorted by `end`: a time belongs to the shortest that covers it,
    of equal ones to the earlier."""
    order = np.argsort(start, kind="stable")
    cuts = np.unique(np.concatenate([start, end]))
    parts: list[tuple[int, int, int]] = []
    heap: list[tuple[int, int, int]] = []
    following = 0
    for low, high in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True):
        while following < len(order) and start[order[following]] <= low:
            i = int(order[following])
            heapq.heappush(heap, (int(end[i] - start[i]), int(end[i]), i))
            following += 1
        while heap and heap[0][1] <= low:
            heapq.heappop(heap)
        if not heap:
            continue
        owner = heap[0][2]
        if parts and parts[-1][0] == owner and parts[-1][2] == low:
            parts[-1] = (owner, parts[-1][1], high)
        else:
            parts.append((owner, low, high))
    return parts


def interval_stretches(rows: Rows) -> Stretches:
    """Energy of intervals (kWh of the `interval_ms` that end at the reading's time).

    Where intervals of a series overlap, the shortest counts (of equal ones the earlier), each in proportion to time. A
    carried row's time is the end of what was already counted: nothing before it is counted again.
    """
    follows = rows.follows()
    start = np.where(rows.carried, rows.ts_ms, rows.ts_ms - rows.interval_ms)
    previous = np.zeros(len(start), np.int64)
    previous[1:] = rows.ts_ms[:-1]
    overlaps = follows & (start < previous)
    whole = ~rows.carried & (rows.interval_ms > 0)
    owner, low, high = np.flatnonzero(whole), start[whole], rows.ts_ms[whole]
    if overlaps.any():
        troubled = np.isin(rows.series, np.unique(rows.series[overlaps]))
        keep = ~troubled[owner]
        parts = [(owner[keep], low[keep], high[keep])]
        for series in np.unique(rows.series[troubled]):
            first, stop = np.searchsorted(rows.series, series, "left"), np.searchsorted(rows.series, series, "right")
            own = np.arange(first, stop)[whole[first:stop]]
            begin = start[own]
            if rows.carried[first]:
                begin = np.maximum(begin, rows.ts_ms[first])
            found = _owned(begin, rows.ts_ms[own])
            columns = np.array(found, np.int64).reshape(-1, 3).T
            parts.append((own[columns[0]], columns[1], columns[2]))
        owner, low, high = (np.concatenate([part[c] for part in parts]) for c in range(3))
        order = np.lexsort((low, rows.series[owner]))
        owner, low, high = owner[order], low[order], high[order]
    return Stretches(
        rows.series[owner], low, high, rows.value[owner], rows.interval_ms[owner], np.zeros(len(owner)),
        ~rows.estimated[owner], (high == rows.ts_ms[owner]).astype(np.int64),
    )  # fmt: skip
