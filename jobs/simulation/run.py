"""A case run under each policy, quarter hour by quarter hour, and the bill of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from jobs.simulation.controllers import READING_S, ByClock, Controller, EnergyAI, Foresight
from jobs.simulation.devices import Device, devices
from jobs.simulation.folder import SLOT_S, Case
from jobs.simulation.forecasts import Forecasts
from operators.control.site import BATTERY
from operators.forecaster import Forecaster

Floats = NDArray[np.float64]

POLICIES = ("none", "rule", "foresight", "energyai")
HOUR_SHARE = SLOT_S / 3600
TOLERANCE_KW = 1e-3
PROGRESS_EVERY = 2000


@dataclass(frozen=True)
class Outcome:
    """What a policy came to. Amounts in the tariff's currency."""

    cost: float
    """All of the following, less the value of what the batteries hold more at the end than at the beginning."""
    energy_cost: float
    demand_cost: float
    carbon_cost: float
    wear_cost: float
    stored_value: float
    peak_kw: float
    """Highest quarter hour of import."""
    mean_month_peak_kw: float
    kg_co2: float
    import_kwh: float
    export_kwh: float
    curtailed_kwh: float
    unmet_kwh: float
    """What EVs and flexible loads needed and did not get."""
    bound_violations: int
    """Found by the independent checker in what the devices did: power, ramp, content, minimum run and rest."""
    limit_exceeded_share: float
    """Of the quarter hours in which foresight kept the limit (of all, when it was not run)."""
    plans: dict[str, int] = field(default_factory=dict)
    """EnergyAI: plans by reason."""


@dataclass(frozen=True)
class Trace:
    """A policy's quarter hours."""

    import_kw: Floats
    """[n] mean; negative is export."""
    content_kwh: Floats
    """[n] of all batteries, at the end."""
    asset_kw: dict[str, Floats]
    """By asset: [n] mean power."""
    curtailed_kw: Floats
    devices: Mapping[str, Device]
    plans: dict[str, int]


def simulate(
    case: Case, names: Sequence[str], model: Forecaster | None, progress: Callable[[str, float], None]
) -> dict[str, tuple[Outcome, Trace]]:
    """Runs policies over a case.

    Args:
        case: from `jobs.simulation.folder.read`.
        names: of `POLICIES`.
        model: the forecaster; needed for `energyai`.
        progress: called with a policy's name and the share that is done.

    Raises:
        SolverError: foresight's optimum cannot be found.
    """
    traces = {
        name: _run(case, _controller(case, name, model), lambda done, n=name: progress(n, done)) for name in names
    }
    attainable = np.ones(len(case.start_ms), dtype=bool)
    if case.site.limit_kw is not None and "foresight" in traces:
        attainable = traces["foresight"].import_kw <= case.site.limit_kw + TOLERANCE_KW
    return {name: (_outcome(case, trace, attainable), trace) for name, trace in traces.items()}


def _controller(case: Case, name: str, model: Forecaster | None) -> Controller:
    if name == "foresight":
        return Foresight(case)
    if name == "energyai":
        return EnergyAI(case, Forecasts(case, model or Forecaster.load()))
    return ByClock(case, name)


def _run(case: Case, controller: Controller, progress: Callable[[float], None]) -> Trace:
    n = len(case.start_ms)
    own = devices(case.site, int(case.start_ms[0]), int(case.start_ms[-1]) + SLOT_S * 1000)
    grid, content, held = np.empty(n), np.empty(n), np.zeros(n)
    means = {name: np.empty(n) for name in own}
    curtail = controller if isinstance(controller, EnergyAI) else None
    for k in range(n):
        if k % PROGRESS_EVERY == 0:
            progress(k / n)
        for device in own.values():
            device.window(int(case.start_ms[k]))
        net = float(case.load_kw[k] - case.pv_kw[k])
        first = controller.before(k, own)
        first_s = READING_S if controller.reads else float(SLOT_S)
        kwh = {name: device.run(first[name], first_s) * first_s for name, device in own.items()}
        if controller.reads:
            used = (net * first_s + sum(kwh.values())) / 3600
            rest_s = SLOT_S - first_s
            rest = controller.after_reading(k, own, used)
            for name, device in own.items():
                kwh[name] += device.run(rest[name], rest_s) * rest_s
        held[k] = curtail.curtailed_kw(k) * (SLOT_S - READING_S) / SLOT_S if curtail else 0.0
        for name in own:
            means[name][k] = kwh[name] / SLOT_S
        grid[k] = net + held[k] + sum(kwh.values()) / SLOT_S
        content[k] = sum(device.content_kwh for device in own.values())
        controller.ended(k, float(grid[k]))
    end = int(case.start_ms[-1]) + SLOT_S * 1000
    for device in own.values():
        device.window(end)
    progress(1.0)
    return Trace(grid, content, means, held, own, curtail.plans if curtail else {})


def _outcome(case: Case, trace: Trace, attainable: NDArray[np.bool_]) -> Outcome:
    tariff, limit = case.site.tariff, case.site.limit_kw
    bought = np.maximum(trace.import_kw, 0.0) * HOUR_SHARE
    sold = np.maximum(-trace.import_kw, 0.0) * HOUR_SHARE
    peaks = np.array([max(0.0, trace.import_kw[case.month == month].max()) for month in np.unique(case.month)])
    kg = float((bought * case.carbon).sum())
    batteries = [device for device in trace.devices.values() if device.asset.kind == BATTERY]
    more = sum((device.content_kwh - device.asset.initial_kwh) * device.asset.one_way for device in batteries)
    energy = float((bought * case.price - sold * case.export).sum())
    parts = {
        "energy_cost": energy,
        "demand_cost": tariff.demand * float(peaks.sum()),
        "carbon_cost": tariff.carbon * kg,
        "wear_cost": sum(device.asset.wear * device.through_kwh for device in batteries),
        "stored_value": more * float(case.cost_price.mean()),
    }
    cost = sum(parts.values()) - 2 * parts["stored_value"]
    over = trace.import_kw > limit + TOLERANCE_KW if limit is not None else np.zeros(len(bought), dtype=bool)
    share = float(over[attainable].mean()) if attainable.any() else 0.0
    return Outcome(
        cost=cost,
        **parts,
        peak_kw=float(max(0.0, trace.import_kw.max())),
        mean_month_peak_kw=float(peaks.mean()),
        kg_co2=kg,
        import_kwh=float(bought.sum()),
        export_kwh=float(sold.sum()),
        curtailed_kwh=float(trace.curtailed_kw.sum() * HOUR_SHARE),
        unmet_kwh=sum(device.missed_kwh for device in trace.devices.values()),
        bound_violations=sum(len(device.violations()) for device in trace.devices.values()),
        limit_exceeded_share=share,
        plans=trace.plans,
    )


def as_dict(outcome: Outcome) -> dict[str, object]:
    """For JSON: rounded, so that the same run prints the same line."""
    return {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in asdict(outcome).items()
        if name != "plans" or value
    }
