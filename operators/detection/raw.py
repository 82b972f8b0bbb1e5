"""What one reading shows by itself, before any window: power that no connection carries, or that no site may draw.

The fast path: a batch of readings in, the impossible ones out; nothing is learnt, and no forecast is asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from operators.readings import Kind

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
_LEAST_MS = 1000
"""Readings that lie closer say nothing of power: a counter's last digit in a millisecond is a million kilowatts."""
_DIGITS = 2.0
"""Last digits that a counter's step may be off."""


@dataclass(frozen=True)
class Last:
    """The newest counter reading of each of s series; NaN: none yet."""

    ts_ms: Ints
    kwh: Floats


@dataclass(frozen=True)
class Breaches:
    """Readings whose power is more than is allowed; columns of n."""

    row: Ints
    """Position of the reading in the batch."""
    kw: Floats
    """Mean power since the reading before, over the interval, or as it was read."""
    limit_kw: Floats


def breaches(
    series: Ints,
    ts_ms: Ints,
    kind: NDArray[np.int8],
    value: Floats,
    interval_ms: Ints,
    limit_kw: Floats,
    last: Last,
    digit_kwh: float = 1e-3,
) -> tuple[Breaches, Last]:
    """Readings that imply more power than their series' limit.

    Args:
        series: [n] numbers 0..s-1; any order.
        ts_ms: [n] epoch ms UTC.
        kind: [n] `Kind`.
        value: [n] kWh, or kW of an instant; what is not finite is passed over.
        interval_ms: [n] of intervals.
        limit_kw: [s] absolute; NaN: not known.
        last: [s] from the call before.
        digit_kwh: the counters' last digit.

    Returns:
        The breaches by row, and the newest counter readings. A counter that falls, or a reading older than its series'
        newest, implies no power here: the derivation of energy judges those.
    """
    order = np.lexsort((ts_ms, series))
    s, t, v, k = series[order], ts_ms[order], value[order].astype(np.float64), kind[order]
    counter = (k == Kind.REGISTER) & np.isfinite(v)
    kw = np.where(k == Kind.INSTANT, v, np.nan)
    hours = np.where(interval_ms[order] >= _LEAST_MS, interval_ms[order] / 3.6e6, np.nan)
    kw = np.where(k == Kind.INTERVAL, v / hours, kw)
    at = np.flatnonzero(counter)
    if len(at):
        first = np.append(True, s[at][1:] != s[at][:-1])
        before_ms = np.where(first, last.ts_ms[s[at]], np.append(0, t[at][:-1]))
        before = np.where(first, last.kwh[s[at]], np.append(0.0, v[at][:-1]))
        apart = t[at] - before_ms
        step = v[at] - before - _DIGITS * digit_kwh
        usable = (apart >= _LEAST_MS) & np.isfinite(before) & (step > 0)
        kw[at] = np.where(usable, step * 3.6e6 / np.maximum(apart, 1), np.nan)
        newest = np.flatnonzero(np.append(s[at][1:] != s[at][:-1], True))
        rows, ends = s[at][newest], t[at][newest]
        later = (ends > last.ts_ms[rows]) | ~np.isfinite(last.kwh[rows])
        ts, kwh = last.ts_ms.copy(), last.kwh.copy()
        ts[rows[later]], kwh[rows[later]] = ends[later], v[at][newest][later]
        last = Last(ts, kwh)
    over = np.flatnonzero(np.abs(kw) > limit_kw[s])
    over = over[np.argsort(order[over])]
    return Breaches(order[over], kw[over], limit_kw[s][over]), last
