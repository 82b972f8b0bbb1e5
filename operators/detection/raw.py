"""What one reading shows by itself, before any window: more power than is possible, or far more than there ever was.

The fast path: readings in, the odd ones out; no forecast is asked. A limit of a meter's own is known from its `max_kw`
at once, and from its past after a week: three times the most of the last 28 to 56 days. A bound as wide is seldom
passed by what is merely unusual; what is less is found with the forecast, when its step is closed.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from operators.energy import NEVER
from operators.readings import Kind

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

TIMES = 3.0
"""So many times the most there ever was is odd."""
LEARN_MS = 7 * 86_400_000
"""So long a series is only watched; and again after it was silent for as long."""
EPOCH_MS = 28 * 86_400_000
"""The most is kept by epochs of this length: the running one and the one before."""
_LEAST_MS = 1000
"""Readings that lie closer say nothing of power: a counter's last digit in a millisecond is a million kilowatts."""
_DIGITS = 2.0
"""Last digits that a counter's step may be off."""
_COARSE_KWH, _FINE_KWH = 0.5, 1e-3
"""A counter's last digit is no more than its smallest step so far; no coarser and no finer than these."""


@dataclass(frozen=True)
class Past:
    """What is kept of each of s series."""

    ts_ms: Ints
    kwh: Floats
    """The newest counter reading; NaN: none yet."""
    digit_kwh: Floats
    newest_ms: Ints
    """Time of the newest reading; NEVER: none yet."""
    since_ms: Ints
    """Since when it is watched without a gap of `LEARN_MS`."""
    epoch: Ints
    peak_kw: Floats
    """The most in the running epoch …"""
    before_kw: Floats
    """… and in the one before."""

    @classmethod
    def empty(cls, n: int) -> Self:
        """Nothing is known of n series."""
        never, zero = np.full(n, NEVER), np.zeros(n)
        coarse = np.full(n, _COARSE_KWH)
        return cls(never, np.full(n, np.nan), coarse, never.copy(), never.copy(), never.copy(), zero, zero.copy())

    def grown(self, n: int) -> Self:
        """The same, of n series."""
        more = self.empty(n - len(self.kwh))
        return type(self)(*(np.concatenate([getattr(self, f.name), getattr(more, f.name)]) for f in fields(self)))


@dataclass(frozen=True)
class Powers:
    """What n readings imply."""

    kw: Floats
    """Mean power since the reading before, over the interval, or as it was read; NaN: nothing is implied."""
    from_ms: Ints
    """Since when."""
    limit_kw: Floats
    """The most to be believed, or to be expected; NaN: not known."""
    usual_kw: Floats
    """The most there ever was; NaN: not known."""

    @property
    def over(self) -> Bools:
        """[n] whether the power, in either direction, is more than the limit."""
        return np.asarray(np.abs(self.kw) > self.limit_kw, np.bool_)


def powers(
    series: Ints, ts_ms: Ints, kind: NDArray[np.int8], value: Floats, interval_ms: Ints, max_kw: Floats, past: Past
) -> tuple[Powers, Past]:
    """Power that readings imply, and their series' limits as they stood before each of them.

    Args:
        series: [n] numbers 0..s-1.
        ts_ms: [n] epoch ms UTC. Readings of a series in their order; within a call any order.
        kind: [n] `Kind`.
        value: [n] kWh, or kW of an instant; what is not finite is passed over.
        interval_ms: [n] of intervals.
        max_kw: [s] that the connection carries; NaN: not known.
        past: of the s series, from the call before.

    Returns:
        The powers by row, and the past with them in it. A counter that falls, or a reading older than its series'
        newest, implies no power here: the derivation of energy judges those.
    """
    n = len(series)
    out = Powers(np.full(n, np.nan), ts_ms.copy(), np.full(n, np.nan), np.full(n, np.nan))
    past = Past(*(getattr(past, f.name).copy() for f in fields(past)))
    for rows in _turns(series, ts_ms):
        columns = (series[rows], ts_ms[rows], kind[rows], value[rows].astype(np.float64), interval_ms[rows])
        found = _next(*columns, max_kw, past)
        for f in fields(found):
            getattr(out, f.name)[rows] = getattr(found, f.name)
    return out, past


def _turns(series: Ints, ts_ms: Ints) -> list[Ints]:
    """Rows in turns: the first reading of each series, then the second, …; nearly always there is but one turn."""
    order = np.lexsort((ts_ms, series))
    sorted_ = series[order]
    first = np.flatnonzero(np.append(True, sorted_[1:] != sorted_[:-1])[: len(order)])
    turn = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    by_turn = order[np.argsort(turn, kind="stable")]
    return np.split(by_turn, np.cumsum(np.bincount(turn))[:-1]) if len(order) else []


def _next(
    s: Ints, t: Ints, kind: NDArray[np.int8], value: Floats, interval_ms: Ints, max_kw: Floats, past: Past
) -> Powers:
    """One reading a series; `past` is changed in place."""
    counter = (kind == Kind.REGISTER) & np.isfinite(value)
    fresh = t > past.newest_ms[s]
    anew = fresh & ((past.newest_ms[s] == NEVER) | (t - past.newest_ms[s] > LEARN_MS))
    past.since_ms[s[anew]], past.peak_kw[s[anew]], past.before_kw[s[anew]] = t[anew], 0.0, 0.0
    epoch = t // EPOCH_MS
    turned = fresh & (epoch > past.epoch[s])
    past.before_kw[s[turned]], past.peak_kw[s[turned]], past.epoch[s[turned]] = (
        past.peak_kw[s[turned]], 0.0, epoch[turned]
    )  # fmt: skip

    apart = np.where(np.isfinite(past.kwh[s]), t - past.ts_ms[s], 0)
    rise = value - past.kwh[s]
    usable = counter & (apart >= _LEAST_MS) & (rise > 0)
    sure = np.maximum(rise - _DIGITS * past.digit_kwh[s], 0.0)
    kw = np.where(kind == Kind.INSTANT, value, np.nan)
    hours = np.where(interval_ms >= _LEAST_MS, interval_ms / 3.6e6, np.nan)
    kw = np.where(kind == Kind.INTERVAL, value / hours, kw)
    kw = np.where(usable, sure * 3.6e6 / np.maximum(apart, 1), kw)
    begin = np.where(kind == Kind.INTERVAL, t - interval_ms, np.where(usable, past.ts_ms[s], t))

    most = np.maximum(past.peak_kw[s], past.before_kw[s])
    usual = np.where((t - past.since_ms[s] >= LEARN_MS) & (most > 0), most, np.nan)
    limit = np.fmin(max_kw[s], TIMES * usual)

    # A wrong reading must not hide all that come after it; a level that stays is known after a few.
    learn = fresh & np.isfinite(kw)
    past.peak_kw[s[learn]] = np.maximum(past.peak_kw[s], np.fmin(np.abs(kw), limit))[learn]
    finer = usable & (rise < past.digit_kwh[s])
    past.digit_kwh[s[finer]] = np.maximum(rise[finer], _FINE_KWH)
    later = counter & ((t > past.ts_ms[s]) | ~np.isfinite(past.kwh[s]))
    past.ts_ms[s[later]], past.kwh[s[later]] = t[later], value[later]
    past.newest_ms[s[fresh]] = t[fresh]
    return Powers(kw, begin, limit, usual)
