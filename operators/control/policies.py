"""How a site may be run: not at all, by a fixed rule, or with perfect foresight. What EnergyAI's planner is judged by.

The first two decide a step at a time from the clock and what a device needs. Foresight solves the planner's own program
on what happened, month by month, so that it is the bound of what the planner could reach.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from operators.control.clock import DAY_MS, in_span
from operators.control.outlook import Outlook
from operators.control.plan import optimise
from operators.control.site import BATTERY, Asset, Site, Window
from operators.control.solver import Floats, Ints, Solver
from operators.control.state import AssetState, SiteState

NIGHT = (22 * 60, 6 * 60)
"""Minutes of the local day in which the rule charges …"""
EVENING = (16 * 60, 20 * 60)
"""… and in which it discharges; loads wait until it is over when they can."""
ON_THE_WAY_MS = 3 * DAY_MS
"""How far beyond a month its foresight looks."""
SWITCHED_MS = DAY_MS


@dataclass(frozen=True)
class Moment:
    """A step of a site without forecasts."""

    time_ms: int
    """Epoch ms UTC."""
    step_s: float
    minute: int
    """Of the local day."""
    net_kw: float
    """Last known load less sun."""


def need_now(window: Window | None, asset: Asset, done_kwh: float, step_s: float) -> float:
    """Power that a load still wants in its window, kW; a load without needs wants all it can have."""
    if not asset.needs:
        return asset.max_kw
    if window is None:
        return 0.0
    left = max(0.0, window.kwh - done_kwh)
    if asset.switched:
        return asset.max_kw if left > asset.crumb_kwh else 0.0
    return min(asset.max_kw, left * 3600.0 / step_s)


def idle(asset: Asset, moment: Moment, window: Window | None, done_kwh: float) -> float:
    """No control: batteries rest, loads take what they need at once. kW."""
    return 0.0 if asset.kind == BATTERY else need_now(window, asset, done_kwh, moment.step_s)


def rule(asset: Asset, moment: Moment, window: Window | None, done_kwh: float) -> float:
    """Charge at night, discharge at the evening's peak, no more than the site uses; loads wait for its end. kW."""
    minute = np.array([moment.minute])
    evening = bool(in_span(minute, *EVENING)[0])
    if asset.kind == BATTERY:
        usable = asset.high_kwh - asset.low_kwh
        if bool(in_span(minute, *NIGHT)[0]):
            return min(asset.max_kw, usable / asset.one_way / 8.0)
        if evening:
            return max(asset.min_kw, -usable * asset.one_way / 4.0, -max(moment.net_kw, 0.0))
        return 0.0
    wanted = need_now(window, asset, done_kwh, moment.step_s)
    if evening and window is not None and wanted > 0 and not asset.switched:
        left_h = (window.end_ms - moment.time_ms) / 3_600_000
        if (window.kwh - done_kwh) / max(asset.max_kw, 1e-9) < left_h - 4.0:
            return 0.0
    return wanted


def foresight(site: Site, whole: Outlook, month: Ints, solver: Solver) -> Mapping[str, Floats]:
    """The best schedule, all known: by asset [n] kW.

    Each calendar month is solved with the three days that follow it, demand charge included, and ends where the next
    one begins. Loads that are switched are planned day by day within the peaks so found: a month of whole numbers would
    take too long.

    Args:
        site: the site; what its batteries hold at the end is worth the mean price.
        whole: n steps of the whole time.
        month: [n] local calendar month.
        solver: a solver.

    Raises:
        SolverError: the solver finds no answer.
    """
    result = {asset.asset_id: np.zeros(len(month)) for asset in site.assets}
    states = {a.asset_id: AssetState(power_kw=0.0, content_kwh=a.initial_kwh) for a in site.assets}
    switched = any(asset.switched for asset in site.assets)
    for number in np.unique(month):
        inside = np.flatnonzero(month == number)
        until = whole.start_ms[inside[-1]] + ON_THE_WAY_MS
        last = int(np.searchsorted(whole.start_ms, until, side="right"))
        part = _slice(whole, inside[0], last)
        end = float(whole.price.mean()) if last >= len(month) else None
        state = SiteState(states)
        schedule = optimise(site, state, part, site.tariff.demand, solver, end, whole=False)
        count = len(inside)
        if switched:
            peak = float(schedule.import_kw[:count].max())
            _daily(site, _slice(whole, inside[0], last), peak, states, solver, result, inside)
            continue
        for asset in site.assets:
            name = asset.asset_id
            power = schedule.power_kw[name][:count]
            result[name][inside] = power
            states[name] = after(asset, states[name], whole, inside, power, site.tz)
    return result


def _daily(
    site: Site,
    part: Outlook,
    peak_kw: float,
    states: dict[str, AssetState],
    solver: Solver,
    result: Mapping[str, Floats],
    inside: Ints,
) -> None:
    begin = 0
    while begin < len(inside):
        start = part.start_ms[begin]
        end = int(np.searchsorted(part.start_ms[: len(inside)], start + SWITCHED_MS))
        far = int(np.searchsorted(part.start_ms, start + 3 * SWITCHED_MS // 2))
        day = _slice(part, begin, far)
        schedule = optimise(site, SiteState(dict(states), month_peak_kw=peak_kw), day, site.tariff.demand, solver)
        for asset in site.assets:
            name = asset.asset_id
            power = schedule.power_kw[name][: end - begin]
            result[name][inside[begin:end]] = power
            states[name] = after(asset, states[name], part, np.arange(begin, end), power, site.tz)
        begin = end


def after(asset: Asset, state: AssetState, outlook: Outlook, inside: Ints, power: Floats, tz: str) -> AssetState:
    """A device's state after some steps of a schedule."""
    hours = outlook.hours[inside]
    kwh = power * hours
    content = (state.content_kwh or 0.0) + float(np.where(kwh > 0, kwh * asset.one_way, kwh / asset.one_way).sum())
    if asset.kind == BATTERY:
        content = min(max(content, asset.low_kwh), asset.high_kwh)
    end = int(outlook.start_ms[inside[-1]] + 1000 * outlook.step_s[inside[-1]])
    running = [w for w in asset.windows(end, end + 1, tz) if w.start_ms < end] if asset.needs else []
    done = float(kwh[outlook.start_ms[inside] >= running[0].start_ms].sum()) if running else 0.0
    if running and outlook.start_ms[inside[0]] > running[0].start_ms:
        done += state.done_kwh
    same = _same_for(power > 1e-6, outlook.step_s[inside], (state.power_kw or 0.0) > 1e-6, state.same_for_s)
    return AssetState(power_kw=float(power[-1]), content_kwh=content, done_kwh=done, same_for_s=same)


def _same_for(on: np.ndarray[tuple[int], np.dtype[np.bool_]], step_s: Floats, was: bool, held: float) -> float:
    changed = np.flatnonzero(on != on[-1])
    if len(changed):
        return float(step_s[changed[-1] + 1 :].sum())
    return float(step_s.sum()) + (held if was == bool(on[-1]) else 0.0)


def _slice(outlook: Outlook, begin: int, end: int) -> Outlook:
    part = slice(begin, end)
    return replace(
        outlook,
        start_ms=outlook.start_ms[part],
        step_s=outlook.step_s[part],
        load_kw=outlook.load_kw[part],
        pv_kw=outlook.pv_kw[part],
        peak_margin_kw=outlook.peak_margin_kw[:, part],
        limit_margin_kw=outlook.limit_margin_kw[part],
        price=outlook.price[part],
        export=outlook.export[part],
        carbon=outlook.carbon[part],
        month=outlook.month[part],
        grid_limit_kw=None if outlook.grid_limit_kw is None else outlook.grid_limit_kw[part],
    )
