"""One site's decisions: told what comes in and what time it is, it says what to send. One instance a site.

    place, book    what is configured, and demand response; set by whoever owns it
    reading, forecast, report, ack    take one message each
    decide(now)    everything that follows from them by now

A site whose meters are stale gets no setpoints: its leases run out, and its devices fall back by themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from operators.control import guard as guarding
from operators.control.outlook import Prices, price_steps
from operators.control.plan import Plan, plan_site
from operators.control.setpoints import TTL_S, setpoints
from operators.control.site import Site
from operators.control.solver import Solver
from operators.control.state import SiteState
from operators.control.steering import needed, running_window, steady
from operators.control_lifecycle import overrides
from operators.control_lifecycle.alerts import Alerts
from operators.control_lifecycle.dr_book import DrBook
from operators.control_lifecycle.issue import Setpoint, issue
from operators.control_lifecycle.receipts import seal
from operators.control_lifecycle.timeline import SiteConstraints
from operators.control_lifecycle.times import iso
from operators.control_site import demand, feeds
from operators.control_site.again import forecast_of
from operators.control_site.gate import gate
from operators.control_site.live import SLOT_MS
from operators.control_site.memory import Memory
from operators.control_site.outputs import ALERTS, LOG, SETPOINTS, Output, plan_record, slot_record
from operators.control_site.situation import Place, dispatched, in_shadow, signals, summed

HOUR_MS = 3_600_000
REPLAN_SHARE = 0.05
"""A new plan when the load is off the planned one by this share of the highest seen, at most once a quarter hour."""
DEADBAND_W = 10.0
DISPATCH_PRIORITY = 5
"""Of a demand-response dispatch: before the plan, after a manager's hand."""
JUMP_MS = 60_000
"""Live time that goes back by more was wrong before: it begins anew."""
LEAST_COVERED = 0.8
"""A quarter hour of which less was measured does not count."""
MOST_CLOSED = 96
"""Quarter hours that are closed at once after a gap; older ones stay unknown."""


class SiteController:
    """Decides for one site; `memory` is all its state."""

    def __init__(self, memory: Memory, solver: Solver) -> None:
        self.memory = memory
        self.solver = solver
        self.place: Place | None = None
        self.book = DrBook()
        self.refused = 0
        """Commands that the last look did not let pass."""

    def configure(self, place: Place | None, book: DrBook) -> None:
        """From now on; a change is planned with at once."""
        self.book = book
        self.memory.replan = True
        self.place = place
        if place is not None:
            self.memory.devices.keep(place.site)
            self.memory.live.keep({*place.grid_meters, *place.load_meters})

    # --- what comes in ----------------------------------------------------------------------------------------------

    def reading(self, reading: feeds.Reading) -> bool:
        """A meter's reading; whether it says something new of now."""
        place = self.place
        if place is None or reading.meter_id not in {*place.grid_meters, *place.load_meters}:
            return False
        return self.memory.live.take(reading)

    def forecast(self, forecast: feeds.MeterForecast) -> bool:
        """A forecast; False when a newer one is known, or its meter is none of the site's."""
        place, known = self.place, self.memory.forecasts.get(forecast.meter_id)
        if place is None or forecast.meter_id not in place.forecast_meters:
            return False
        if known is not None and known.issued_at_ms >= forecast.issued_at_ms:
            return False
        self.memory.forecasts[forecast.meter_id] = forecast
        self.memory.changed.add("plans")
        if self.memory.plan is None or self.memory.plan.reason == "no_forecast":
            self.memory.replan = True
        return True

    def report(self, report: feeds.Report) -> bool:
        """A device's report."""
        if self.place is None or not self.memory.devices.report(self.place.site, report):
            return False
        if report.power_kw is not None:
            self.memory.acks.measured(report.asset_id, report.ts_ms, report.power_kw * 1000)
        return True

    def ack(self, ack: Mapping[str, Any]) -> bool:
        """A device's answer."""
        return self.memory.acks.ack(ack)

    # --- what follows -----------------------------------------------------------------------------------------------

    def decide(self, now_ms: int, *, current: bool = True) -> list[Output]:
        """What to send at a time (epoch ms UTC); nothing at one before an earlier one, unless a clock was set back.

        Args:
            now_ms: event time.
            current: the data are of now; else nothing is live, whatever the site says.
        """
        place, memory = self.place, self.memory
        if place is None:
            return []
        if now_ms < memory.now_ms:
            if not current or memory.now_ms - now_ms <= JUMP_MS:
                return []
            memory.rewind(now_ms)
        memory.now_ms = now_ms
        if not place.site.assets:
            return self._limit(place)
        site = place.site if current else in_shadow(place.site)
        if site.mode == "shadow":
            memory.devices.imagine(site, now_ms, memory.commands)
        found = self._limit(place) + self._answers(site, current)
        found += self._close_slots(place, site)
        prices, held = signals(self.book, place, now_ms)
        live = self._live(place, site, now_ms)
        found += self._sight(place, site, seen=live is not None)
        if live is None:
            return found
        state = self._state(site, live, prices)
        if self._plan_due(site, live):
            found.append(self._replan(place, site, state, prices))
        return found + self._send(place, site, state, live, prices, held)

    def _limit(self, place: Place) -> list[Output]:
        """The alert that the running quarter hour is likely to break the site's limit, and its end."""
        memory, site, meters = self.memory, place.site, place.grid_meters
        if site.limit_kw is None:
            return []
        guards = demand.restored(memory.demand)
        now_ms = memory.live.passed(meters)
        slot_ms = (now_ms - 1) // SLOT_MS * SLOT_MS
        planned = 0.0
        if memory.plan is not None and place.load_meters:
            planned = sum(memory.plan.at(name, now_ms) for name in memory.plan.power_kw)
        quantiles = demand.running(memory.forecasts, place.forecast_meters, slot_ms, planned)
        found = demand.watch(guards, memory.live, meters, site.limit_kw, quantiles)
        if found is None:
            return []
        guards, outlook = found
        memory.demand = demand.saved(guards)
        alerts = Alerts(memory.firing)
        actions = []
        if outlook.ended[0] or outlook.began[0]:
            actions += alerts.resolve(demand.NAME, site.site_id, now_ms)
        if outlook.began[0]:
            subject = {"site_id": site.site_id, "tenant_id": site.tenant_id}
            text = demand.told(outlook, guards, site.limit_kw)
            mean_kw = round(float(outlook.mean_kw[0]), 2)
            actions += alerts.fire(demand.NAME, "critical", subject, text, mean_kw, site.limit_kw, now_ms)
        memory.firing = alerts.firing
        return [Output(ALERTS, action["alert"]["fingerprint"], action["alert"]) for action in actions]

    def _answers(self, site: Site, current: bool) -> list[Output]:
        found = []
        for action in self.memory.acks.advance(self.memory.now_ms):
            if action["action"] == "reissue" and current and site.mode == "live":
                again: Setpoint = action["setpoint"]
                self.memory.last[f"{again['asset_id']}/{again['type']}"] = again
                found.append(Output(SETPOINTS, again["asset_id"], again))
            elif action["action"] == "alert":
                found.append(Output(ALERTS, action["alert"]["fingerprint"], action["alert"]))
            elif action["action"] in ("exclude", "replan"):
                self.memory.replan = True
        return found

    def _close_slots(self, place: Place, site: Site) -> list[Output]:
        """Quarter hours that all meters have passed go into the past, and into the log."""
        memory, meters = self.memory, place.grid_meters
        passed = memory.live.passed(meters) // SLOT_MS * SLOT_MS
        found = []
        for slot in range(max(memory.closed_ms, passed - MOST_CLOSED * SLOT_MS), passed, SLOT_MS):
            kwh, covered = memory.live.slot(meters, slot)
            if covered < LEAST_COVERED * SLOT_MS:
                continue
            measured = memory.devices.mean_kw(slot, slot + SLOT_MS, real=True)
            devices = memory.devices.mean_kw(slot, slot + SLOT_MS, real=False)
            load = kwh * HOUR_MS / covered - measured
            memory.past.add(slot, load, devices, site.tz)
            prices, _ = signals(self.book, place, slot + SLOT_MS)
            energy, export, kg = price_steps(site, prices, np.array([slot]), np.array([900.0]), [])
            record = slot_record(
                site.site_id, site.tenant_id, slot, load, devices,
                float(energy[0] - site.tariff.carbon * kg[0]), float(export[0]), float(kg[0]), site.mode,
                on_paper=devices != measured,
            )  # fmt: skip
            found.append(Output(LOG, site.site_id, record))
        if passed > memory.closed_ms:
            memory.closed_ms = passed
            memory.changed.add("past")
            memory.past.look(site, memory.now_ms, self.solver)
        return found

    def _live(self, place: Place, site: Site, now_ms: int) -> guarding.Live | None:
        """The site as its meters show it; None: they do not."""
        memory = self.memory
        grid = memory.live.power(place.grid_meters, now_ms)
        if grid is None:
            return None
        other = grid.kw - memory.devices.mean_kw(grid.begin_ms, grid.end_ms, real=True)
        if place.load_meters:
            load = memory.live.power(place.load_meters, now_ms)
            if load is None:
                return None
            other = load.kw
        slot = now_ms - now_ms % SLOT_MS
        kwh, covered = memory.live.slot(place.grid_meters, slot)
        on_paper = memory.devices.mean_kw(slot, now_ms, real=False) - memory.devices.mean_kw(slot, now_ms, real=True)
        kwh += on_paper * (now_ms - slot) / HOUR_MS
        # What is not measured yet of this quarter hour goes on as it was last seen.
        kwh += grid.kw * max(0, now_ms - slot - covered) / HOUR_MS
        return guarding.Live(now_ms, other, kwh)

    def _sight(self, place: Place, site: Site, *, seen: bool) -> list[Output]:
        alerts = Alerts(self.memory.firing)
        if seen:
            actions = alerts.resolve("SiteNotMeasured", site.site_id, self.memory.now_ms)
        elif self.memory.plan is None:
            actions = []  # It was never seen yet
        else:
            subject = {"site_id": site.site_id, "tenant_id": site.tenant_id}
            text = f"meters {', '.join(place.grid_meters)} are silent: no setpoints, devices fall back"
            actions = alerts.fire("SiteNotMeasured", "critical", subject, text, 0.0, 1.0, self.memory.now_ms)
        self.memory.firing = alerts.firing
        return [Output(ALERTS, action["alert"]["fingerprint"], action["alert"]) for action in actions]

    def _state(self, site: Site, live: guarding.Live, prices: Prices) -> SiteState:
        memory, now = self.memory, self.memory.now_ms
        held = overrides.active(self.book, site.site_id, now)
        excluded = {**memory.acks.excluded(now), **dict.fromkeys(held, now)}
        peaks = (memory.past.peaks(now, site.tz, next_month=later) for later in (False, True))
        this, following = (tuple(round(kw, 6) for kw in found) for found in peaks)
        return SiteState(
            assets=memory.devices.now(site, now, excluded, shadow=site.mode == "shadow"),
            month_peak_kw=round(memory.past.peak_kw, 6),
            load_kw=round(live.other_kw, 6),
            expected_peaks_kw=this,
            next_peaks_kw=following,
            grid_limit_kw=prices.import_limit_at(now),
        )

    # --- the plan ---------------------------------------------------------------------------------------------------

    def _plan_due(self, site: Site, live: guarding.Live) -> bool:
        memory, now = self.memory, self.memory.now_ms
        if memory.plan is None or memory.replan or set(memory.plan.power_kw) != set(site.by_id):
            return True
        if now // HOUR_MS != memory.planned_ms // HOUR_MS:
            return True
        if now // SLOT_MS == memory.planned_ms // SLOT_MS:
            return False
        step = memory.plan.step_at(now)
        planned = sum(float(power[step]) for power in memory.plan.power_kw.values())
        off = abs(live.other_kw - (float(memory.plan.import_kw[step]) - planned))
        return off > REPLAN_SHARE * max(memory.past.highest_kw(), abs(live.other_kw))

    def _replan(self, place: Place, site: Site, state: SiteState, prices: Prices) -> Output:
        memory, now = self.memory, self.memory.now_ms
        real = any(own["real"] for own in memory.devices.state.values())
        forecast = summed(
            memory.forecasts, place.forecast_meters, memory.past, without_devices=real and not place.load_meters
        )
        plan = plan_site(site, state, forecast or forecast_of(None), prices, now, solver=self.solver)
        record = plan_record(place.raw, state, forecast, prices, now, plan, site.tenant_id)
        memory.plan, memory.plan_id, memory.planned_ms, memory.replan = plan, record["plan_id"], now, False
        memory.changed.add("plans")
        return Output(LOG, site.site_id, record)

    # --- what is sent -----------------------------------------------------------------------------------------------

    def _send(
        self,
        place: Place,
        site: Site,
        state: SiteState,
        live: guarding.Live,
        prices: Prices,
        held: SiteConstraints | None,
    ) -> list[Output]:
        memory, now = self.memory, self.memory.now_ms
        plan = memory.plan
        assert plan is not None
        hold_s = (SLOT_MS - now % SLOT_MS) / 1000 + TTL_S
        wanted = self._wanted(site, state, plan, hold_s)
        ordered = dispatched(held, site, now)
        wanted |= {name: kw for name, kw in ordered.items() if name in wanted}
        ceiling, follow = self._ceiling(site, plan)
        result = guarding.guard(
            site, state, wanted, ceiling, live, memory.guard, follow=follow, hold_s=hold_s
        )  # fmt: skip
        memory.guard = result.memory
        powers = {
            asset.asset_id: steady(asset, state.of(asset), result.power_kw[asset.asset_id], hold_s)
            for asset in site.assets
            if state.of(asset).available
        }
        limits = (site.limit_kw, state.grid_limit_kw, np.inf)
        passed = gate(
            site, state, powers, hold_s, live.other_kw + sum(powers.values()), min(x for x in limits if x is not None)
        )
        self.refused += len(passed.refused)
        memory.commands = passed.power_kw
        receipt = {
            "plan_id": memory.plan_id,
            "planned_at": iso(memory.planned_ms),
            "plan": plan.reason,
            "live": {"load_kw": round(live.other_kw, 3), "slot_kwh": round(live.slot_kwh, 4)},
            "guard": result.reason,
            "grid_limit_kw": state.grid_limit_kw,
            "dr_events": [] if held is None else list(held.event_ids),
        }
        planned = setpoints(site, plan, now, passed.power_kw, result.reason)
        for one in planned:
            name = one["asset_id"]
            own = state.of(site.by_id[name])
            device = {"power_kw": own.power_kw, "content_kwh": own.content_kwh}
            one["inputs"] = seal({**plan.inputs, **receipt, "device": device})
            if name in ordered:
                one |= {"priority": DISPATCH_PRIORITY, "reason": "demand_response"}
        planned += self._by_hand(place, site)
        sent, memory.last = issue(planned, memory.last, now, DEADBAND_W)
        for one in sent:
            memory.acks.setpoint(one)
        return [Output(SETPOINTS, one["asset_id"], one) for one in sent]

    def _wanted(self, site: Site, state: SiteState, plan: Plan, hold_s: float) -> dict[str, float]:
        now = self.memory.now_ms
        result = {}
        for asset in site.assets:
            own = state.of(asset)
            window = running_window(asset, now, site.tz)
            kw = needed(asset, own, window, plan.at(asset.asset_id, now), hold_s)
            result[asset.asset_id] = steady(asset, own, kw, hold_s)
        return result

    def _ceiling(self, site: Site, plan: Plan) -> tuple[float, bool]:
        """The highest quarter hour that is planned for the next hour, and whether it is now."""
        if site.tariff.demand <= 0:
            return np.inf, False
        now = self.memory.now_ms
        soon = (plan.start_ms < now + HOUR_MS) & (plan.start_ms + 1000 * plan.step_s > now)
        planned = float(plan.import_kw[soon].max()) if soon.any() else -np.inf
        ceiling = max(self.memory.past.peak_kw, planned)
        return ceiling, bool(plan.import_kw[plan.step_at(now)] >= ceiling - 1e-3)

    def _by_hand(self, place: Place, site: Site) -> list[dict[str, Any]]:
        """A manager's overrides; one outside of the asset's bounds is not sent."""
        found = []
        now = self.memory.now_ms
        for name, override in overrides.active(self.book, site.site_id, now).items():
            asset = site.by_id.get(name)
            if asset is None or not self.memory.devices.state.get(name, {}).get("real", site.mode == "shadow"):
                continue
            bounds = {"min_w": asset.min_kw * 1000, "max_w": asset.max_kw * 1000}
            try:
                made = overrides.setpoint(
                    override, bounds, site_id=site.site_id, now_ms=now, mode=site.mode, ttl_s=TTL_S
                )  # fmt: skip
            except ValueError:
                self.refused += 1
                continue
            if made is not None:
                made["inputs"] = seal(made["inputs"])
                found.append({**made, "tenant_id": site.tenant_id})
        return found
