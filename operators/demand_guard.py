"""Will the running quarter hour's mean break a site's limit? How likely, and said while something can be done.

The mean of the quarter hour is what came so far and what is still to come. What is still to come has the quantiles of
the forecast for the quarter hour, moved towards where the load is now: a load stays for a while, and then returns to
what was forecast. A burst weighs no more than its share of the time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
SLOT_S = 900.0
WARN_AT = 0.7
CLEAR_AT = 0.3
"""Chances at which a warning is given, and taken back."""
HOLD_S = 30.0
"""For so long a breach has to stay likely before it is warned of …"""
SMOOTH_S = 60.0
"""… and the present load is the mean of about so long, no reading moving it as if it were off by more than the limit: a
burst of seconds is no load that stays."""
STAYS_S = 1800.0
"""For about so long the load stays near where it is (first-order, for the rest of the quarter hour)."""
_LEAST_SPREAD = 0.02
"""Standard deviation of the rest, of the present load: what is still to come is never certain."""
_NORMAL_80 = 2.5631
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


@dataclass(frozen=True)
class Guards:
    """Of n sites."""

    slot_ms: Ints
    """[n] start of the running quarter hour, epoch ms UTC; -1: none."""
    kwh: Floats
    """[n] net import in it."""
    now_ms: Ints
    """[n] until when that is known."""
    load_kw: Floats
    """[n] the present load; NaN: not known."""
    likely_ms: Ints
    """[n] since when a breach is likely; -1: it is not."""
    warned: Bools
    """[n] for the running quarter hour."""

    @classmethod
    def empty(cls, sites: int) -> Self:
        """Nothing is known."""
        return cls(
            np.full(sites, -1), np.zeros(sites), np.full(sites, -1), np.full(sites, np.nan), np.full(sites, -1),
            np.zeros(sites, np.bool_),
        )  # fmt: skip


@dataclass(frozen=True)
class Outlook:
    """What is to be expected of the running quarter hour of n sites."""

    chance: Floats
    """[n] that its mean exceeds the limit; NaN without a limit."""
    mean_kw: Floats
    """[n] median of its mean."""
    left_s: Floats
    warned: Bools
    """[n] a warning stands."""
    began: Bools
    ended: Bools
    """[n] it was given, or taken back or passed, with this reading."""


def look(guards: Guards, now_ms: Ints, kwh: Floats, limit_kw: Floats, quantiles: Floats) -> tuple[Guards, Outlook]:
    """Takes in one reading of each site.

    Args:
        guards: of the n sites.
        now_ms: [n] end of the time that the reading is about, epoch ms UTC; not after it, nothing changes.
        kwh: [n] net import since the reading before; NaN: not known. Of one that spans a quarter hour's
            border the part after the border counts.
        limit_kw: [n] NaN: no limit.
        quantiles: [n, 9] forecast of the running quarter hour, kWh, 0.1 to 0.9; NaN: none, the load stays as it is.
    """
    later = (now_ms > guards.now_ms) & np.isfinite(kwh)
    slot_ms = now_ms // 900_000 * 900_000
    slot_ms = np.where(slot_ms == now_ms, slot_ms - 900_000, slot_ms)
    begun = later & (slot_ms != guards.slot_ms)
    since = np.where(guards.now_ms >= 0, guards.now_ms, slot_ms)
    spent_ms = np.maximum(now_ms - since, 1)
    power = np.where(later, kwh, 0.0) * 3.6e6 / spent_ms
    inside_ms = now_ms - np.maximum(since, slot_ms)
    added = power * inside_ms / 3.6e6
    total = np.where(begun, added, guards.kwh + np.where(later, added, 0.0))
    share = 1 - np.exp(-spent_ms / 1000 / SMOOTH_S)
    most = np.where(np.isfinite(limit_kw), np.abs(limit_kw), np.inf)
    load = guards.load_kw + share * np.clip(power - guards.load_kw, -most, most)
    load = np.where(np.isnan(guards.load_kw), power, load)
    after = Guards(
        np.where(later, slot_ms, guards.slot_ms),
        total,
        np.where(later, now_ms, guards.now_ms),
        np.where(later, load, guards.load_kw),
        np.where(begun, -1, guards.likely_ms),
        guards.warned & ~begun,
    )
    chance, mean_kw, left_s = _chance(after, limit_kw, quantiles)
    likely = chance >= WARN_AT
    since_ms = np.where(likely, np.where(after.likely_ms >= 0, after.likely_ms, now_ms), -1)
    since_ms = np.where(later, since_ms, after.likely_ms)
    # A quarter hour begins with a present load that is still that of the one before.
    long_enough = (now_ms - since_ms >= HOLD_S * 1000) & (now_ms - slot_ms >= (HOLD_S + SMOOTH_S) * 1000)
    held = likely & (long_enough | (after.kwh * 3600 > limit_kw * SLOT_S))
    warned = np.where(later, np.where(after.warned, chance > CLEAR_AT, held), after.warned)
    outlook = Outlook(chance, mean_kw, left_s, warned, warned & ~after.warned, guards.warned & ~warned)
    return Guards(after.slot_ms, after.kwh, after.now_ms, after.load_kw, since_ms, warned), outlook


def _chance(guards: Guards, limit_kw: Floats, quantiles: Floats) -> tuple[Floats, Floats, Floats]:
    """That the mean exceeds the limit; the median of the mean, kW; seconds left."""
    passed_s = np.clip((guards.now_ms - guards.slot_ms) / 1000, 0.0, SLOT_S)
    left_s = SLOT_S - passed_s
    forecast = quantiles * (3600 / SLOT_S)
    has = np.isfinite(forecast).all(axis=1)
    middle = np.where(has, forecast[:, forecast.shape[1] // 2], guards.load_kw)
    # How much of the present load's distance from the forecast is left, on average over the rest.
    turns = np.maximum(left_s / STAYS_S, 1e-9)
    stays = (1 - np.exp(-turns)) / turns
    rest = middle + stays * (guards.load_kw - middle)
    wide = np.where(has, (forecast[:, -1] - forecast[:, 0]) / _NORMAL_80, 0.0)
    # Near the end the load is known; what is far off is as uncertain as the forecast.
    spread = np.sqrt((wide * np.sqrt(1 - np.exp(-2 * turns))) ** 2 + (_LEAST_SPREAD * np.abs(rest)) ** 2)
    needed = (limit_kw * SLOT_S - guards.kwh * 3600) / np.maximum(left_s, 1e-9)
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (needed - rest) / spread
    chance = _erfc(z / math.sqrt(2)) / 2
    broken = guards.kwh * 3600 > limit_kw * SLOT_S
    chance = np.where(left_s <= 0, broken.astype(np.float64), chance)
    mean_kw = (guards.kwh * 3600 + rest * left_s) / SLOT_S
    known = np.isfinite(limit_kw) & np.isfinite(guards.load_kw)
    return np.where(known, chance, np.nan), mean_kw, left_s
