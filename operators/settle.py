"""How much of the past a late reading changes: which stored readings decide the slots that must be derived again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from operators.energy import SLOT_MS, end_slot
from operators.increments import Bools, Floats, Ints, is_anchor, is_fall
from operators.readings import Kind

OPEN_END = np.iinfo(np.int64).max // 2


@dataclass(frozen=True)
class Range:
    """Rows [first, stop) of a window decide the slots [from_ms, until_ms); `head`: and where the series stands."""

    first: int
    stop: int
    from_ms: int
    until_ms: int
    head: bool


def decide(
    kind: int, ts_ms: Ints, start_ms: Ints, value: Floats, *, touched: tuple[int, int], complete: tuple[bool, bool]
) -> Range | None:
    """The rows and slots to derive again after changes of one series, or None where the window must be wider.

    Args:
        kind: the series' `Kind`.
        ts_ms: times of the window's valid readings, sorted.
        start_ms: starts of intervals (other kinds: unused).
        value: kWh or kW.
        touched: first and last time that changed, both ends included (of an interval also its start).
        complete: whether the window holds the series' first reading, and its last.
    """
    low, high = touched
    if kind == Kind.INTERVAL:
        from_ms, until_ms = _floor(low), _ceil(high)
        inside = np.flatnonzero((ts_ms > from_ms) & (start_ms < until_ms))
        first, stop = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
        last = int(ts_ms[-1]) if len(ts_ms) else low
        return Range(first, stop, from_ms, until_ms, head=complete[1] and until_ms >= _ceil(last))
    power = kind == Kind.INSTANT
    settled = np.ones(len(ts_ms), np.bool_) if power else is_anchor(value)
    # What a counter said after a fall may turn out to be a glitch, up to its next step up.
    falls = np.zeros(len(ts_ms), np.bool_) if power else is_fall(value)
    backward = _backward(ts_ms, settled, falls, low, complete[0])
    forward = _forward(ts_ms, settled, falls, high, complete[1], own=power)
    if backward is None or forward is None:
        return None
    stop, until_ms = forward
    return Range(backward[0], stop, backward[1], until_ms, head=stop == len(ts_ms) and complete[1])


def _backward(ts_ms: Ints, settled: Bools, falls: Bools, low: int, complete: bool) -> tuple[int, int] | None:
    """First row needed and first slot that changes: from the reading before `low`, or before the fall it follows."""
    before = int(np.searchsorted(ts_ms, low, "left")) - 1
    if before < 0:
        return (0, _floor(low)) if complete else None
    firm = np.flatnonzero(settled[: before + 1])
    since = int(firm[-1]) if len(firm) else 0
    if falls[since : before + 1].any():
        if not len(firm) and not complete:
            return None
        before = since
    from_ms = _floor(int(ts_ms[before]))
    anchors = np.flatnonzero(settled[: int(np.searchsorted(ts_ms, from_ms, "right"))])
    if len(anchors):
        return int(anchors[-1]), from_ms
    return (0, from_ms) if complete else None


def _forward(
    ts_ms: Ints, settled: Bools, falls: Bools, high: int, complete: bool, *, own: bool
) -> tuple[int, int] | None:
    """End of the rows needed, and of the slots that change: to the first anchor that no changed reading made.

    `own`: a reading is an anchor by itself; otherwise by the step from the one before, which must be later than `high`.
    """
    after = int(np.searchsorted(ts_ms, high, "right")) + (0 if own else 1)
    anchors = np.flatnonzero(settled[after:])
    if not len(anchors):
        return (len(ts_ms), OPEN_END) if complete else None
    until_ms = _ceil(int(ts_ms[after + int(anchors[0])]))
    last = int(np.searchsorted(ts_ms, until_ms, "left"))
    if last == len(ts_ms):
        return (last, OPEN_END) if complete else None
    stop = last + 1
    firm = np.flatnonzero(settled[:stop])
    if falls[(int(firm[-1]) if len(firm) else 0) : stop].any():
        # Whether the last of the rows fell is decided by the next step up.
        later = np.flatnonzero(settled[stop:])
        if not len(later):
            return (len(ts_ms), until_ms) if complete else None
        stop += int(later[0]) + 1
    return stop, until_ms


def _floor(ms: int) -> int:
    return ms // SLOT_MS * SLOT_MS


def _ceil(ms: int) -> int:
    return end_slot(ms) * SLOT_MS
