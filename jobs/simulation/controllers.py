"""The policies as the simulation calls them: a command before each quarter hour, and one after its first reading."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.simulation.devices import Device
from jobs.simulation.folder import SLOT_S, Case
from jobs.simulation.forecasts import Forecasts
from operators.control import policies
from operators.control.clock import DAY_MS, local
from operators.control.guard import Live, Memory, guard
from operators.control.outlook import Outlook, Prices
from operators.control.plan import Plan, plan_site
from operators.control.solver import Solver, SolverError
from operators.control.state import SiteState
from operators.control.steering import steady
from operators.control.target import DAYS, best_peak, expected_peaks, whole_past

EXACT = 1e-4
"""How near to its bound foresight is solved."""
READING_S = 60.0
"""The site's meter is read so often: what a quarter hour's load is, is known after so long."""
REPLAN_SHARE = 0.05
"""A new plan when the load is off the planned one by this share of the highest seen, at most once a quarter hour."""
DAY_SLOTS = DAY_MS // (SLOT_S * 1000)

Commands = dict[str, float]


class Controller(Protocol):
    """Runs a site's devices."""

    reads: bool
    """Whether it acts on the reading within a quarter hour."""

    def before(self, k: int, devices: Mapping[str, Device]) -> Commands:
        """Commands for quarter hour k, kW, from what was known before it."""
        ...

    def after_reading(self, k: int, devices: Mapping[str, Device], used_kwh: float) -> Commands:
        """Commands for the rest of it, with its load known."""
        ...

    def ended(self, k: int, import_kw: float) -> None:
        """Quarter hour k is over; its mean import, kW."""
        ...


class ByClock:
    """`none` and `rule`."""

    reads = False

    def __init__(self, case: Case, how: str) -> None:
        self._case = case
        self._decide = {"none": policies.idle, "rule": policies.rule}[how]
        self._minute = local(case.start_ms, case.site.tz).minute
        self._net = case.load_kw - case.pv_kw

    def before(self, k: int, devices: Mapping[str, Device]) -> Commands:
        """The rule's commands, within the devices' bounds."""
        known = float(self._net[k - 1]) if k else 0.0
        moment = policies.Moment(int(self._case.start_ms[k]), SLOT_S, int(self._minute[k]), known)
        result = {}
        for name, device in devices.items():
            asset, window = device.asset, device.window(moment.time_ms)
            wanted = self._decide(asset, moment, window, device.done_kwh)
            result[name] = _steady(device, wanted, SLOT_S)
        return result

    def after_reading(self, k: int, devices: Mapping[str, Device], used_kwh: float) -> Commands:
        """It does not look."""
        raise NotImplementedError

    def ended(self, k: int, import_kw: float) -> None:
        """It keeps nothing."""


class Foresight:
    """`foresight`: the schedule was made with all known."""

    reads = False

    def __init__(self, case: Case) -> None:
        # Prices may change within the load's steps.
        repeat = 1 if _varies(case) else case.step_s // SLOT_S
        every = slice(None, None, repeat)
        whole = replace(
            whole_past(
                case.start_ms[every], repeat * SLOT_S, case.load_kw[every], case.pv_kw[every],
                case.cost_price[every], case.export[every],
            ),
            month=case.month[every],
        )  # fmt: skip
        schedule = policies.foresight(case.site, whole, whole.month, Solver(gap=EXACT))
        times = len(case.start_ms) // len(whole.start_ms)
        self._power = {name: np.repeat(power, times) for name, power in schedule.items()}

    def before(self, k: int, devices: Mapping[str, Device]) -> Commands:
        """The schedule's step."""
        return {name: _steady(device, float(self._power[name][k]), SLOT_S) for name, device in devices.items()}

    def after_reading(self, k: int, devices: Mapping[str, Device], used_kwh: float) -> Commands:
        """It knew."""
        raise NotImplementedError

    def ended(self, k: int, import_kw: float) -> None:
        """It keeps nothing."""


class EnergyAI:
    """`energyai`: planner and guard, with forecasts and what the meters showed until then."""

    reads = True

    def __init__(self, case: Case, forecasts: Forecasts) -> None:
        self._case, self._forecasts = case, forecasts
        self._solver = Solver()
        self._plan: Plan | None = None
        self._memory = Memory()
        self._peak = 0.0
        self._highest = 0.0
        self._best: float = 0.0
        self._day_peaks: NDArray[np.float64] = np.zeros(0)
        self.plans: dict[str, int] = {}
        """How many plans were made, by reason."""

    def before(self, k: int, devices: Mapping[str, Device]) -> Commands:
        """The plan in force, whatever the load of this quarter hour will be."""
        if k and self._case.month[k] != self._case.month[k - 1]:
            self._peak = 0.0
        if k and self._case.start_ms[k] % DAY_MS == 0:
            self._look_back(k)
        if self._plan is None:
            return {name: _steady(device, 0.0, READING_S) for name, device in devices.items()}
        return self._planned(k, int(self._case.start_ms[k]), devices, READING_S)

    def after_reading(self, k: int, devices: Mapping[str, Device], used_kwh: float) -> Commands:
        """A new plan each hour or when the load is not as planned, and the guard on top."""
        case = self._case
        now = int(case.start_ms[k] + 1000 * READING_S)
        state = self._state(k, devices)
        load, sun = float(case.load_kw[k]), float(case.pv_kw[k])
        self._highest = max(self._highest, load)
        if self._plan is None or case.start_ms[k] % 3_600_000 == 0 or self._is_off(k, devices):
            self._plan = self._replan(k, now, state)
        wanted = self._planned(k, now, devices, SLOT_S - READING_S)
        step = self._plan.step_at(now)
        soon = self._plan.start_ms < now + 3_600_000
        ceiling = max(self._peak, float(self._plan.import_kw[soon].max()))
        follow = self._plan.import_kw[step] >= ceiling - 1e-3
        live = Live(now, load - sun + self._curtailed(step), max(used_kwh, 0.0))
        ceiling = ceiling if case.site.tariff.demand > 0 else float("inf")
        found = guard(case.site, state, wanted, ceiling, live, self._memory, follow=follow)
        self._memory = found.memory
        return found.power_kw

    def ended(self, k: int, import_kw: float) -> None:
        """The month's peak so far."""
        self._peak = max(self._peak, import_kw)

    def curtailed_kw(self, k: int) -> float:
        """Production that is held back in quarter hour k, kW."""
        if self._plan is None:
            return 0.0
        step = self._plan.step_at(int(self._case.start_ms[k] + 1000 * READING_S))
        return min(self._curtailed(step), float(self._case.pv_kw[k]))

    def _curtailed(self, step: int) -> float:
        return 0.0 if self._plan is None else float(self._plan.curtailed_kw[step])

    def _planned(self, k: int, time_ms: int, devices: Mapping[str, Device], seconds: float) -> Commands:
        assert self._plan is not None
        result = {}
        for name, device in devices.items():
            wanted = self._plan.at(name, time_ms)
            window = device.window(int(self._case.start_ms[k]))
            if device.asset.needs:
                wanted = min(wanted, policies.need_now(window, device.asset, device.done_kwh, seconds))
            result[name] = _steady(device, wanted, seconds)
        return result

    def _is_off(self, k: int, devices: Mapping[str, Device]) -> bool:
        assert self._plan is not None
        now = int(self._case.start_ms[k] + 1000 * READING_S)
        step = self._plan.step_at(now)
        planned = sum(float(power[step]) for power in self._plan.power_kw.values())
        net = float(self._case.load_kw[k] - self._case.pv_kw[k]) + self._curtailed(step)
        return abs(net - (float(self._plan.import_kw[step]) - planned)) > REPLAN_SHARE * self._highest

    def _state(self, k: int, devices: Mapping[str, Device]) -> SiteState:
        return SiteState(
            assets={name: device.state() for name, device in devices.items()},
            month_peak_kw=self._peak,
            load_kw=float(self._case.load_kw[k]),
            pv_kw=float(self._case.pv_kw[k]),
        )

    def _days_left(self, k: int) -> float:
        """Whole days of the calendar month after this one."""
        day = pd.Timestamp(int(self._case.start_ms[k]), unit="ms", tz="UTC").tz_convert(self._case.site.tz)
        return float(day.days_in_month - day.day)

    def _replan(self, k: int, now_ms: int, state: SiteState) -> Plan:
        case = self._case
        state = replace(
            state,
            expected_peaks_kw=expected_peaks(self._best, self._day_peaks, self._days_left(k)),
            next_peaks_kw=expected_peaks(self._best, self._day_peaks, 30.0),
        )
        forecast = self._forecasts.issue(k // (case.step_s // SLOT_S))
        # Day-ahead prices: known from the day before to a day ahead, carbon likewise.
        known = slice(max(0, k - DAY_SLOTS), k + DAY_SLOTS)
        prices = Prices(
            int(case.start_ms[known.start]), SLOT_S, case.price[known], case.export[known], case.carbon[known]
        )
        step_s = case.step_s if not _varies_now(case, k) else SLOT_S
        plan = plan_site(case.site, state, forecast, prices, now_ms, step_s=step_s, solver=self._solver)
        self.plans[plan.reason] = self.plans.get(plan.reason, 0) + 1
        return plan

    def _look_back(self, k: int) -> None:
        """Once a day: what peak would have been best in the weeks behind."""
        case = self._case
        repeat = case.step_s // SLOT_S
        begin = max(0, k - DAYS * DAY_SLOTS)
        net = (case.load_kw - case.pv_kw)[begin:k]
        self._day_peaks = net[len(net) % DAY_SLOTS :].reshape(-1, DAY_SLOTS).max(axis=1)
        day = k // DAY_SLOTS
        if case.site.tariff.demand <= 0 or (self._best and day % 4):
            return
        part = slice(begin, k, repeat)
        past: Outlook = whole_past(
            case.start_ms[part],
            case.step_s,
            case.load_kw[part],
            case.pv_kw[part],
            case.cost_price[part],
            case.export[part],
        )
        try:
            self._best = best_peak(case.site, past, self._solver)
        except SolverError:
            self._best = float(self._day_peaks.max())


def _steady(device: Device, wanted: float, seconds: float) -> float:
    """The command nearest to what is wanted that breaks no bound of the device."""
    return steady(device.asset, device.state(), wanted, seconds)


def _varies(case: Case, begin: int = 0, end: int | None = None) -> bool:
    """Whether prices change within the load's steps between two quarter hours."""
    repeat = case.step_s // SLOT_S
    parts = (x[begin:end].reshape(-1, repeat) for x in (case.cost_price, case.export))
    return repeat > 1 and any(bool((np.ptp(x, axis=1) > 1e-12).any()) for x in parts)


def _varies_now(case: Case, k: int) -> bool:
    """The same of the day from quarter hour k on, in whole steps."""
    repeat = case.step_s // SLOT_S
    begin = k - k % repeat
    end = min(len(case.start_ms), begin + DAY_SLOTS)
    return _varies(case, begin, end - (end - begin) % repeat)
