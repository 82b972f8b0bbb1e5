"""A plan for one site: the next day optimised, checked by an independent checker, and said as setpoints.

When not everything can be kept, the plan gives way in the order of `operators.control.model.RELAXED`. With no load to
plan with, no answer from the solver, or an answer that the checker refuses, there is a plan all the same: batteries at
rest, and loads as their needs and the limit allow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from operators.control import checker
from operators.control.clock import iso, local
from operators.control.model import RELAXED, SiteModel
from operators.control.outlook import Forecast, Outlook, Prices, build, price_steps, steps
from operators.control.schedule import Schedule, exact, net_power
from operators.control.site import BATTERY, EV, Asset, Site
from operators.control.solver import Floats, Ints, Solver, SolverError
from operators.control.state import SiteState

DECAY = 0.95
"""Share of the load's deviation from its forecast that is still there an hour later (docs/decisions/012)."""
DEMAND_SHARE = 0.25
"""Share of the demand charge that one day is charged with (docs/decisions/012)."""
ENOUGH_KWH = 1e-3


@dataclass(frozen=True)
class Plan:
    """What each device is to do from `start_ms` on, and why."""

    site_id: str
    start_ms: Ints
    """[n] epoch ms UTC."""
    step_s: Floats
    power_kw: Mapping[str, Floats]
    """By asset: [n] kW."""
    curtailed_kw: Floats
    import_kw: Floats
    """[n] expected at the median load; negative is export."""
    reason: str
    """Of the whole plan: `optimal`, `relaxed:…`, or why there is only a safe one: `no_forecast`, `no_solution`, …"""
    cost: float
    """Expected, of the energy in the first day."""
    kg_co2: float
    baseline_cost: float
    """The same with the devices at rest."""
    baseline_kg_co2: float
    notes: tuple[str, ...] = ()
    violations: tuple[checker.Violation, ...] = ()
    """What the checker found in the plan that was thrown away."""
    inputs: Mapping[str, Any] = field(default_factory=dict)

    def at(self, asset_id: str, time_ms: int) -> float:
        """The power of a device at a time, kW; after the plan's end the last one."""
        return float(self.power_kw[asset_id][self.step_at(time_ms)])

    def step_at(self, time_ms: int) -> int:
        """The number of the step at a time; before the first one the first, after the plan's end the last one."""
        return max(int(np.searchsorted(self.start_ms, time_ms, side="right")) - 1, 0)


def plan_site(
    site: Site,
    state: SiteState,
    forecast: Forecast,
    prices: Prices,
    now_ms: int,
    *,
    step_s: int = 900,
    solver: Solver | None = None,
) -> Plan:
    """The best known plan from now on; never none, and never one that breaks a device's bounds.

    Args:
        site: the checked site.
        state: what its meters and devices say.
        forecast: quantiles of load and sun.
        prices: what is known of prices.
        now_ms: epoch ms UTC.
        step_s: seconds of the plan's steps in the first day.
        solver: kept between plans, it starts warm.
    """
    outlook = build(site, forecast, prices, now_ms, step_s)
    if outlook is None:
        return safe_plan(site, state, prices, now_ms, step_s, "no_forecast")
    outlook = outlook.known_now(state.load_kw, state.pv_kw, DECAY)
    inputs = {
        "forecast_issued_at": iso(forecast.issued_at_ms),
        "model_sha256": forecast.model_sha256,
        "limit_kw": site.limit_kw,
        "grid_limit_kw": state.grid_limit_kw,
        "month_peak_kw": round(state.month_peak_kw, 3),
        "live_load_kw": state.load_kw,
        "notes": list(outlook.notes),
    }
    try:
        schedule = _optimised(site, state, outlook, solver or Solver())
    except SolverError as error:
        plan = safe_plan(site, state, prices, now_ms, step_s, "no_solution")
        return replace(plan, notes=(*plan.notes, str(error)), inputs=inputs)
    plan = _plan(site, outlook, schedule, _why(schedule), inputs)
    if found := check_plan(site, state, plan):
        safe = safe_plan(site, state, prices, now_ms, step_s, "refused_by_checker")
        return replace(safe, violations=tuple(found), inputs=inputs)
    return plan


def _optimised(site: Site, state: SiteState, outlook: Outlook, solver: Solver) -> Schedule:
    """The optimum; without switched loads, which go on as they are, when whole numbers were too much."""
    price = DEMAND_SHARE * site.tariff.demand
    try:
        return optimise(site, state, outlook, price, solver)
    except SolverError:
        switched = {a.asset_id: replace(state.of(a), available=False) for a in site.assets if a.switched}
        if not switched:
            raise
        return optimise(site, replace(state, assets={**state.assets, **switched}), outlook, price, solver)


def optimise(
    site: Site,
    state: SiteState,
    outlook: Outlook,
    demand_price: float,
    solver: Solver,
    end_price: float | None = None,
    whole: bool = True,
) -> Schedule:
    """Solves a site's program and makes its answer exact: no charging and discharging at once, contents in bounds.

    Raises:
        SolverError: there is no answer.
    """
    model = SiteModel(site, state, outlook, demand_price, end_price, whole)
    solution = solver.solve(model.program)
    if not solution.integral and whole and any(asset.switched for asset in site.assets):
        raise SolverError("no plan: minimum run and rest times could not be met in the solver's bound")
    schedule = model.schedule(solution)
    before = net_power(schedule)
    power = dict(schedule.power_kw)
    for asset in site.assets:
        power[asset.asset_id] = exact(asset, state, power[asset.asset_id], outlook.step_s)
    made = replace(schedule, power_kw=power)
    return replace(made, import_kw=schedule.import_kw + net_power(made) - before)


def _plan(site: Site, outlook: Outlook, schedule: Schedule, reason: str, inputs: Mapping[str, Any]) -> Plan:
    day = outlook.start_ms < outlook.start_ms[0] + 86_400_000
    rest = outlook.load_kw - outlook.pv_kw

    def bill(grid: Floats) -> tuple[float, float]:
        kwh = (grid * outlook.hours)[day]
        bought, sold = np.maximum(kwh, 0.0), np.maximum(-kwh, 0.0)
        cost = float((bought * outlook.price[day] - sold * outlook.export[day]).sum())
        return cost, float((bought * outlook.carbon[day]).sum())

    cost, kg = bill(schedule.import_kw)
    base_cost, base_kg = bill(rest)
    return Plan(
        site_id=site.site_id,
        start_ms=outlook.start_ms,
        step_s=outlook.step_s,
        power_kw=schedule.power_kw,
        curtailed_kw=schedule.curtailed_kw,
        import_kw=schedule.import_kw,
        reason=reason,
        cost=cost,
        kg_co2=kg,
        baseline_cost=base_cost,
        baseline_kg_co2=base_kg,
        notes=outlook.notes,
        inputs=inputs,
    )


def _why(schedule: Schedule) -> str:
    given = [name for name in RELAXED if schedule.missing_kwh[name] > ENOUGH_KWH]
    return "relaxed:" + ",".join(given) if given else "optimal"


def safe_plan(site: Site, state: SiteState, prices: Prices, now_ms: int, step_s: int, reason: str) -> Plan:
    """Batteries at rest, loads as they need and as the limit leaves room above the live load, when that is known."""
    start_ms, length = steps(now_ms, step_s)
    n = len(start_ms)
    price, export, carbon = price_steps(site, prices, start_ms, length, [])
    load = np.full(n, state.load_kw if state.load_kw is not None and np.isfinite(state.load_kw) else 0.0)
    zero = np.zeros(n)
    outlook = Outlook(
        start_ms, length, load, zero, zero[None], np.ones(1), zero, price, export, carbon,
        local(start_ms, site.tz).month,
    )  # fmt: skip
    now = prices.import_limit_at(now_ms)
    limit = min(x for x in (site.limit_kw, state.grid_limit_kw, now, np.inf) if x is not None)
    room = np.maximum(limit - load, 0.0) if state.load_kw is not None else np.full(n, np.inf)
    power: dict[str, Floats] = {}
    for asset in sorted(site.assets, key=lambda a: -a.priority):
        wanted = _unplanned(asset, state, now_ms, site.tz, n)
        wanted = np.clip(np.minimum(wanted, room), asset.min_kw, asset.max_kw)
        wanted = _keep_running(asset, state, wanted, length)
        power[asset.asset_id] = exact(asset, state, wanted, length)
        room = np.maximum(room - np.maximum(power[asset.asset_id], 0.0), 0.0)
    grid = load + np.asarray(sum(power.values(), start=zero.copy()))
    schedule = Schedule(power, zero, grid, dict.fromkeys(RELAXED, 0.0), 0.0)
    return _plan(site, outlook, schedule, reason, {"limit_kw": site.limit_kw})


def _unplanned(asset: Asset, state: SiteState, now_ms: int, tz: str, n: int) -> Floats:
    own = state.of(asset)
    if asset.kind == BATTERY or own.connected is False:
        return np.zeros(n)
    if asset.kind != EV and not asset.needs:
        return np.full(n, asset.max_kw)
    running = [w for w in asset.windows(now_ms, now_ms + 1, tz) if w.start_ms <= now_ms]
    left = own.needs_kwh if own.needs_kwh is not None else max((w.kwh - own.done_kwh for w in running), default=0.0)
    return np.full(n, asset.max_kw if left > ENOUGH_KWH else 0.0)


def _keep_running(asset: Asset, state: SiteState, wanted: Floats, step_s: Floats) -> Floats:
    """A load with a minimum run or rest stays as it is until that is over."""
    if not asset.switched:
        return wanted
    own = state.of(asset)
    on = (own.power_kw or 0.0) > 1e-6
    left = (asset.min_run_s if on else asset.min_rest_s) - own.same_for_s
    held = np.cumsum(step_s) - step_s < left
    return np.where(held, (own.power_kw or 0.0) if on else 0.0, np.where(wanted >= asset.on_kw - 1e-9, wanted, 0.0))


def check_plan(site: Site, state: SiteState, plan: Plan) -> list[checker.Violation]:
    """What the independent checker finds in a plan: bounds, ramps, contents, minimum run and rest, numbers."""
    found = []
    for asset in site.assets:
        own = state.of(asset)
        found += checker.check_device(
            spec_of(asset),
            plan.power_kw[asset.asset_id].tolist(),
            plan.step_s.tolist(),
            own.power_kw if own.power_kw is not None else float(plan.power_kw[asset.asset_id][0]),
            own.content_kwh if own.content_kwh is not None else asset.low_kwh,
            same_for_s=own.same_for_s,
        )
    unlimited = [np.inf] * len(plan.step_s)
    return found + checker.check_limit(plan.import_kw.tolist(), unlimited, site.site_id)


def spec_of(asset: Asset) -> checker.Spec:
    """A device as the checker wants it."""
    stores = asset.kind == BATTERY
    return checker.Spec(
        asset_id=asset.asset_id,
        min_kw=asset.min_kw,
        max_kw=asset.max_kw,
        ramp_kw_per_s=asset.ramp_kw_per_s,
        low_kwh=asset.low_kwh if stores else None,
        high_kwh=asset.high_kwh if stores else None,
        efficiency=asset.efficiency if stores else 1.0,
        min_run_s=asset.min_run_s,
        min_rest_s=asset.min_rest_s,
    )
