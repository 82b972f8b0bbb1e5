"""The optimisation of one site as a linear program: what may be decided, what it costs, what must hold.

Decided for each step: power of every device, production that is curtailed, and through them import and export. The
cost is energy at its price (carbon included), wear, the demand charge above the month's peak, loads that go without;
and, far above all of these, what is not kept of needs and limits, so that a plan always exists (`RELAXED`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from operators.control.outlook import Outlook
from operators.control.schedule import Schedule
from operators.control.site import BATTERY, Asset, Site, Window
from operators.control.solver import Floats, Ints, Program, Solution
from operators.control.state import AssetState, SiteState

RELAXED = ("needs", "limit", "grid_limit")
"""What gives way when not all can be kept, first to last; devices' own bounds never do."""
STEEPER = 10.0
"""How much more each of them costs than the one before."""
ON_KW = 1e-6
KEPT_VALUE = 0.9
"""A kWh left in a battery at the end is worth this share of the mean price, less the loss on its way out."""


class SiteModel:
    """The program of a site, its state and outlook; `program` is to be solved, `schedule` reads the solution.

    Args:
        site: the site.
        state: where it stands.
        outlook: the time ahead.
        demand_price: currency per kW of each month's peak above what is paid already.
        end_price: what a kWh is worth that a battery could give at the end; None: `KEPT_VALUE` of the mean price.
    """

    def __init__(
        self,
        site: Site,
        state: SiteState,
        outlook: Outlook,
        demand_price: float,
        end_price: float | None = None,
        whole: bool = True,
    ) -> None:
        self.site, self.state, self.outlook = site, state, outlook
        self.demand_price, self.whole = demand_price, whole
        mean = float(np.average(outlook.price, weights=outlook.hours))
        self.end_price = KEPT_VALUE * mean if end_price is None else end_price
        self.n = len(outlook.start_ms)
        self.program = program = Program()
        self._power: dict[str, list[tuple[Ints, float]]] = {}
        self._short: dict[str, list[Ints]] = {name: [] for name in RELAXED}
        usual = float(np.abs(outlook.price).max()) * 24 + demand_price / float(outlook.hours.min())
        self._penalty = {name: 5.0 * (usual + 1.0) * STEEPER**rank for rank, name in enumerate(RELAXED)}
        self._import = program.add_columns(self.n, outlook.price * outlook.hours)
        export_high = np.inf if site.export_limit_kw is None else site.export_limit_kw
        self._export = program.add_columns(self.n, -outlook.export * outlook.hours, high=export_high)
        self._curtailed = program.add_columns(self.n, 1e-6, high=np.maximum(outlook.pv_kw, 0.0))
        net = outlook.load_kw - outlook.pv_kw
        self._balance = program.add_rows(net, net)
        program.put(self._balance, self._import, 1.0)
        program.put(self._balance, self._export, -1.0)
        program.put(self._balance, self._curtailed, -1.0)
        for asset in site.assets:
            own = state.of(asset)
            if not own.available:
                self._idle(asset, own)
            elif asset.kind == BATTERY:
                self._battery(asset, own)
            else:
                self._load(asset, own)
        self._peaks()
        self._limits = {name: limit for name, limit in self._limits_of().items() if np.isfinite(limit).any()}
        for name, limit in self._limits.items():
            self._limit(name, limit)

    # --- devices ----------------------------------------------------------------------------------------------------

    def _idle(self, asset: Asset, own: AssetState) -> None:
        """A load that is not controlled goes on as it is; a battery is taken as being at rest."""
        power = 0.0 if asset.kind == BATTERY else min(max(own.power_kw or 0.0, asset.min_kw), asset.max_kw)
        self._draw(asset, self.program.add_columns(self.n, low=power, high=power), 1.0)

    def _draw(self, asset: Asset, columns: Ints, sign: float) -> None:
        self.program.put(self._balance, columns, -sign)
        self._power.setdefault(asset.asset_id, []).append((columns, sign))

    def _battery(self, asset: Asset, own: AssetState) -> None:
        program, hours, n = self.program, self.outlook.hours, self.n
        content = own.content_kwh or 0.0
        charge = program.add_columns(n, asset.wear * hours, high=max(asset.max_kw, 0.0))
        discharge = program.add_columns(n, asset.wear * hours, high=max(-asset.min_kw, 0.0))
        low, high = min(asset.low_kwh, content), max(asset.high_kwh, content)
        cost = np.zeros(n)
        cost[-1] = -self.end_price * asset.one_way
        level = program.add_columns(n, cost, low=low, high=high)
        first = np.zeros(n)
        first[0] = content
        rows = program.add_rows(first, first)
        program.put(rows, level, 1.0)
        program.put(rows[1:], level[:-1], -1.0)
        program.put(rows, charge, -asset.one_way * hours)
        program.put(rows, discharge, hours / asset.one_way)
        self._one_way(asset, charge, discharge)
        self._draw(asset, charge, 1.0)
        self._draw(asset, discharge, -1.0)
        self._ramp(asset, own, [(charge, 1.0), (discharge, -1.0)])

    def _one_way(self, asset: Asset, charge: Ints, discharge: Ints) -> None:
        """A whole number forbids charging and discharging at once where being paid for using energy invites it.

        Or where a slow ramp does: a full battery would burn what it still takes while it comes to rest.
        """
        lost = 1.0 - asset.efficiency
        pays = -self.outlook.price * lost > asset.wear * (1.0 + asset.efficiency)
        at = np.arange(self.n) if lost > 0 and self._is_slow(asset) else np.flatnonzero(pays)
        if not len(at) or asset.min_kw >= 0 or asset.max_kw <= 0:
            return
        program = self.program
        charging = program.add_columns(len(at), high=1.0, whole=True)
        rows = program.add_rows(-np.inf, 0.0, len(at))
        program.put(rows, charge[at], 1.0)
        program.put(rows, charging, -asset.max_kw)
        rows = program.add_rows(-np.inf, -asset.min_kw, len(at))
        program.put(rows, discharge[at], 1.0)
        program.put(rows, charging, -asset.min_kw)

    def _load(self, asset: Asset, own: AssetState) -> None:
        """An EV or flexible load: energy in windows, or a load that may be shed at a cost."""
        program, outlook = self.program, self.outlook
        windows = self._windows(asset, own)
        high = np.full(self.n, asset.max_kw)
        cost = np.zeros(self.n)
        if windows is None:
            cost = -asset.shed_cost * outlook.hours
        else:
            high = high * np.minimum(1.0, sum((self._share(w) for w in windows), start=np.zeros(self.n)))
        if asset.switched and (own.power_kw or 0.0) > ON_KW:
            # What has just begun goes on, needed or not.
            high = np.where(self._held(asset.min_run_s, own), asset.max_kw, high)
        low = np.minimum(asset.min_kw, high)
        if asset.ramp_kw_per_s and own.power_kw:
            # It may need time to come down from where it is.
            reach = asset.ramp_kw_per_s * np.cumsum(outlook.step_s)
            high = np.maximum(high, np.minimum(own.power_kw, asset.max_kw) - reach)
        power = program.add_columns(self.n, cost, low=low, high=high)
        self._draw(asset, power, 1.0)
        self._ramp(asset, own, [(power, 1.0)])
        if asset.switched and self.whole:
            self._switch(asset, own, power, high)
        for window in windows or ():
            self._need(asset, window, power)

    def _windows(self, asset: Asset, own: AssetState) -> list[Window] | None:
        """What it needs in this outlook; None: it has no needs, it is a load that may be shed."""
        now, end = int(self.outlook.start_ms[0]), self.outlook.end_ms
        if own.needs_kwh is not None and own.connected is not False:
            ready = own.ready_by_ms or end
            return [Window(now, max(ready, now + 1), max(own.needs_kwh, 0.0))]
        if not asset.needs:
            return None if own.connected is not False else []
        found = []
        for window in asset.windows(now, end, self.site.tz):
            running = window.start_ms <= now
            if running and own.connected is False:
                continue
            left = window.kwh - own.done_kwh if running else window.kwh
            if left > asset.crumb_kwh:
                found.append(Window(window.start_ms, window.end_ms, left))
        return found

    def _share(self, window: Window) -> Floats:
        """[n] share of each step that lies in the window."""
        start, size = self.outlook.start_ms, self.outlook.step_s * 1000
        overlap = np.minimum(start + size, window.end_ms) - np.maximum(start, window.start_ms)
        return np.asarray(np.clip(overlap / size, 0.0, 1.0))

    def _need(self, asset: Asset, window: Window, power: Ints) -> None:
        share = self._share(window)
        inside = np.flatnonzero(share > 0)
        if not len(inside):
            return
        # What can still be had after this outlook is not needed within it.
        later_h = max(0, window.end_ms - max(self.outlook.end_ms, window.start_ms)) / 3_600_000
        least = max(0.0, window.kwh - asset.max_kw * later_h)
        # Whole runs may give somewhat more, and leave a crumb.
        run = asset.max_kw * max(float(self.outlook.hours[inside].max()), asset.min_run_s / 3600)
        more = run if asset.switched and self.whole else 0.0
        row = self.program.add_rows([max(0.0, least - asset.crumb_kwh)], [max(window.kwh + more, least)])
        short = self.program.add_columns(1, self._penalty["needs"] * (1.0 + 0.01 * np.clip(asset.priority, -50, 50)))
        self.program.put(row, power[inside], self.outlook.hours[inside])
        self.program.put(row, short, 1.0)
        self._short["needs"].append(short)

    def _switch(self, asset: Asset, own: AssetState, power: Ints, high: Floats) -> None:
        """On for a minimum time, off for a minimum time: whole numbers, one a step."""
        program, n = self.program, self.n
        was = (own.power_kw or 0.0) > ON_KW
        fixed = self._held(asset.min_run_s if was else asset.min_rest_s, own)
        low, top = np.zeros(n), (high > 1e-9).astype(np.float64)
        low[fixed] = top[fixed] = float(was)
        on = program.add_columns(n, low=np.minimum(low, top), high=top, whole=True)
        start, stop = program.add_columns(n, 1e-6, high=1.0), program.add_columns(n, 1e-6, high=1.0)
        most, least = program.add_rows(-np.inf, 0.0, n), program.add_rows(0.0, np.inf, n)
        program.put(most, power, 1.0)
        program.put(most, on, -high)
        program.put(least, power, 1.0)
        program.put(least, on, -np.minimum(asset.on_kw, high))
        change = program.add_rows(np.r_[float(was), np.zeros(n - 1)], np.r_[float(was), np.zeros(n - 1)])
        program.put(change, on, 1.0)
        program.put(change[1:], on[:-1], -1.0)
        program.put(change, start, -1.0)
        program.put(change, stop, 1.0)
        for begun, seconds, sign in ((start, asset.min_run_s, 1.0), (stop, asset.min_rest_s, -1.0)):
            low_row, high_row = (-np.inf, 0.0) if sign > 0 else (-np.inf, 1.0)
            rows = program.add_rows(low_row, high_row, n)
            program.put(rows, on, -sign)
            starts = self.outlook.start_ms
            for k in range(n):
                recent = np.flatnonzero(starts[: k + 1] > starts[k] - seconds * 1000)
                program.put(rows[k], begun[recent], 1.0)

    def _held(self, least_s: float, own: AssetState) -> NDArray[np.bool_]:
        """[n] steps that begin before it has been on, or off, for so long."""
        begin = np.cumsum(self.outlook.step_s) - self.outlook.step_s
        return np.asarray(begin < least_s - own.same_for_s)

    def _is_slow(self, asset: Asset) -> bool:
        """It may need more than a step from one bound to the other."""
        ramp = asset.ramp_kw_per_s
        return bool(ramp) and (ramp or 0.0) * float(self.outlook.step_s.min()) < asset.max_kw - asset.min_kw

    def _ramp(self, asset: Asset, own: AssetState, parts: list[tuple[Ints, float]]) -> None:
        if not self._is_slow(asset):
            return
        most = (asset.ramp_kw_per_s or 0.0) * self.outlook.step_s
        before = np.zeros(self.n)
        before[0] = min(max(own.power_kw or 0.0, asset.min_kw), asset.max_kw)
        rows = self.program.add_rows(before - most, before + most)
        for columns, sign in parts:
            self.program.put(rows, columns, sign)
            self.program.put(rows[1:], columns[:-1], -sign)

    # --- peaks and limits -------------------------------------------------------------------------------------------

    def _peaks(self) -> None:
        """The demand charge: the price of a month's peak, over the peaks that this month may have anyway."""
        outlook, state, program = self.outlook, self.state, self.program
        if self.demand_price <= 0:
            return
        for number, month in enumerate(np.unique(outlook.month)):
            inside = np.flatnonzero(outlook.month == month)
            paid = max(state.month_peak_kw, 0.0) if number == 0 else 0.0
            expected = state.expected_peaks_kw if number == 0 else state.next_peaks_kw
            floors = np.maximum(np.array(expected or (paid,)), paid)
            for weight, margin in zip(outlook.peak_weight, outlook.peak_margin_kw, strict=True):
                peak = program.add_columns(1, low=paid)
                rows = program.add_rows(-np.inf, -margin[inside])
                program.put(rows, self._import[inside], 1.0)
                program.put(rows, peak, -1.0)
                price = self.demand_price * float(weight) / len(floors)
                above = program.add_columns(len(floors), price, low=floors)
                over = program.add_rows(0.0, np.inf, len(floors))
                program.put(over, above, 1.0)
                program.put(over, peak, -1.0)

    def _limits_of(self) -> dict[str, Floats]:
        """[n] each; infinite where there is none."""
        agreed, ordered = self.site.limit_kw, self.state.grid_limit_kw
        grid = np.full(self.n, np.inf) if self.outlook.grid_limit_kw is None else self.outlook.grid_limit_kw
        return {
            "limit": np.full(self.n, np.inf if agreed is None else agreed),
            "grid_limit": np.minimum(grid, np.inf if ordered is None else ordered),
        }

    def _limit(self, name: str, limit_kw: Floats) -> None:
        over = self.program.add_columns(self.n, self._penalty[name] * self.outlook.hours)
        rows = self.program.add_rows(-np.inf, limit_kw - self.outlook.limit_margin_kw)
        self.program.put(rows, self._import, 1.0)
        self.program.put(rows, over, -1.0)
        self._short[name].append(over)

    # --- the answer -------------------------------------------------------------------------------------------------

    def schedule(self, solution: Solution) -> Schedule:
        """The program's solution as powers by asset."""
        values = solution.values
        power = {
            name: np.asarray(sum(sign * values[columns] for columns, sign in parts))
            for name, parts in self._power.items()
        }
        hours = self.outlook.hours
        missing = dict.fromkeys(RELAXED, 0.0)
        missing["needs"] = float(sum(values[columns].sum() for columns in self._short["needs"]))
        grid = values[self._import] - values[self._export]
        for name, limit in self._limits.items():
            missing[name] = float((np.maximum(grid - limit, 0.0) * hours).sum())
        return Schedule(power, values[self._curtailed], grid, missing, solution.objective)
