"""Between two plans: holds a site's quarter-hour mean under its limit, and to its planned peak, within one reading.

Batteries act first, then loads are shed by priority (the smallest first), never below what a device may do; what was
shed comes back, the most important first, when the site has stayed clear of the limit for a while.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from operators.control.devices import fit
from operators.control.site import BATTERY, Asset, Site
from operators.control.state import SiteState

SLOT_S = 900.0
CLEAR_SHARE = 0.95
"""Of the limit: shed loads come back below it …"""
CLEAR_S = 300.0
"""… after so long."""
_LEAST_S = 1.0


@dataclass(frozen=True)
class Live:
    """What one reading of the site's meter says."""

    now_ms: int
    """Epoch ms UTC, its end."""
    other_kw: float
    """Mean power since the reading before, without the controllable assets; negative: more sun than load."""
    slot_kwh: float
    """Imported in the present quarter hour so far."""


@dataclass(frozen=True)
class Memory:
    """What the guard keeps from one reading to the next."""

    shed: frozenset[str] = field(default=frozenset())
    clear_since_ms: int | None = None


@dataclass(frozen=True)
class Guarded:
    """What the devices are to do until the next reading."""

    power_kw: dict[str, float]
    memory: Memory
    reason: str | None = None
    """`limit` or `peak_shaving` when something differs from the plan."""


def guard(
    site: Site,
    state: SiteState,
    planned_kw: Mapping[str, float],
    ceiling_kw: float,
    live: Live,
    memory: Memory,
    *,
    follow: bool = False,
    hold_s: float | None = None,
) -> Guarded:
    """The plan's powers, corrected by what the meter shows.

    Args:
        site: the site.
        state: contents, powers and the grid operator's limit in force.
        planned_kw: by asset, from the plan.
        ceiling_kw: the highest quarter hour that is planned; batteries keep to it, loads are not shed for it.
        live: the reading. One that is not finite changes nothing but the devices' own bounds.
        memory: what this function returned last.
        follow: the plan discharges to hold its ceiling: with less load it discharges less.
        hold_s: how long the result will be held; default: to the end of the quarter hour.
    """
    left_s = max(SLOT_S - live.now_ms % int(SLOT_S * 1000) / 1000.0, _LEAST_S)
    hold = left_s if hold_s is None else hold_s
    own = {asset.asset_id: state.of(asset) for asset in site.assets}
    bound = {asset.asset_id: _reach(asset, state, hold) for asset in site.assets}
    power = {}
    for name, (low, high) in bound.items():
        wanted_kw = planned_kw.get(name, 0.0)
        power[name] = min(max(wanted_kw if np.isfinite(wanted_kw) else 0.0, low), high)
    if not (np.isfinite(live.other_kw) and np.isfinite(live.slot_kwh)):
        return Guarded(power, memory)
    hard = _allowed(site.limit_kw, live, left_s)
    if state.grid_limit_kw is not None:
        hard = min(hard, state.grid_limit_kw)  # of the power itself, not of a mean
    soft = min(_allowed(ceiling_kw, live, left_s), hard)
    wanted = dict(power)
    total = live.other_kw + sum(power.values())
    batteries = sorted(site.of_kind(BATTERY), key=lambda asset: asset.priority)
    for asset in batteries:
        name = asset.asset_id
        if not own[name].available:
            continue
        step = soft - total
        if step > 0 and not (follow and power[name] < 0):
            continue
        target = power[name] + step if step < 0 else min(power[name] + step, 0.0)
        target = min(max(target, bound[name][0]), bound[name][1])
        total += target - power[name]
        power[name] = target
    memory = _shed(site, state, power, bound, total, hard, memory, live.now_ms)
    reason = None
    if any(abs(power[name] - wanted[name]) > 1e-9 for name in power):
        reason = "limit" if memory.shed or soft >= hard else "peak_shaving"
    return Guarded(power, memory, reason)


def _shed(
    site: Site,
    state: SiteState,
    power: dict[str, float],
    bound: Mapping[str, tuple[float, float]],
    total: float,
    hard: float,
    memory: Memory,
    now_ms: int,
) -> Memory:
    """Lowers loads in `power`, those of least priority first; returns which are held down."""
    loads = sorted((a for a in site.assets if a.kind != BATTERY), key=lambda asset: asset.priority)
    clear = total <= CLEAR_SHARE * hard if np.isfinite(hard) else True
    since = (memory.clear_since_ms if memory.clear_since_ms is not None else now_ms) if clear else None
    come_back = since is not None and now_ms - since >= 1000 * CLEAR_S
    shed = set(memory.shed)
    if come_back and shed:
        back = [asset for asset in loads if asset.asset_id in shed]
        shed.discard(back[-1].asset_id)
        since = now_ms  # one at a time: the next must earn its own calm
    for asset in loads:
        name = asset.asset_id
        if not _may_stop(asset, state):
            continue
        low = bound[name][0]
        if name in shed:
            total -= power[name] - low
            power[name] = low
        elif total > hard + 1e-9 and power[name] > low:
            less = min(total - hard, power[name] - low)
            less = power[name] - low if asset.switched else less
            power[name] -= less
            total -= less
            shed.add(name)
    return Memory(frozenset(shed), since)


def _allowed(limit_kw: float | None, live: Live, left_s: float) -> float:
    """Mean power for the rest of the quarter hour that ends it at the limit."""
    if limit_kw is None or not np.isfinite(limit_kw):
        return float("inf")
    return (limit_kw * SLOT_S / 3600.0 - live.slot_kwh) * 3600.0 / left_s


def _reach(asset: Asset, state: SiteState, hold_s: float) -> tuple[float, float]:
    """The least and the greatest command that a device can hold without breaking a bound."""
    own = state.of(asset)
    now = own.power_kw if own.power_kw is not None else 0.0
    if asset.kind == BATTERY and not own.available:
        return 0.0, 0.0
    content = own.content_kwh or 0.0
    return (
        fit(asset, content, now, asset.min_kw, hold_s),
        fit(asset, content, now, asset.max_kw, hold_s),
    )


def _may_stop(asset: Asset, state: SiteState) -> bool:
    own = state.of(asset)
    return not asset.switched or own.same_for_s >= asset.min_run_s
