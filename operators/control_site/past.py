"""Four weeks of a site's quarter hours: what peak would have been best, what the devices usually take, the month's
peak."""

from __future__ import annotations

import json
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from operators.control.clock import DAY_MS, local
from operators.control.outlook import Prices, price_steps
from operators.control.site import Site
from operators.control.solver import Solver, SolverError
from operators.control.target import DAYS, best_peak, expected_peaks, whole_past
from operators.control_site.live import SLOT_MS

SLOTS = DAYS * 96
DAY = 96
LEAST_DAYS = 7
LOOK_EVERY_DAYS = 4
"""So often the best peak of the weeks behind is sought again: it costs about a second."""


class Past:
    """Mean powers by quarter hour, the last `SLOTS` of them; NaN where not known."""

    def __init__(self) -> None:
        self.first = 0
        """Number (epoch ms // 900,000) of the first slot."""
        self.load_kw: NDArray[np.float32] = np.full(SLOTS, np.nan, np.float32)
        """Import without the devices."""
        self.devices_kw: NDArray[np.float32] = np.full(SLOTS, np.nan, np.float32)
        self.peak_kw = 0.0
        """Highest quarter hour of import, with the devices, in the running month."""
        self.month = 0
        self.best_kw = 0.0
        self.looked_day = 0

    def add(self, slot_ms: int, load_kw: float, devices_kw: float, tz: str) -> None:
        """A quarter hour that is over (its start, epoch ms UTC); one that is older than all is dropped."""
        number = slot_ms // SLOT_MS
        if number >= self.first + SLOTS:
            self._move(number - SLOTS + 1)
        if number < self.first:
            return
        self.load_kw[number - self.first] = load_kw
        self.devices_kw[number - self.first] = devices_kw
        month = int(local([slot_ms], tz).month[0])
        if month > self.month:
            self.month, self.peak_kw = month, 0.0
        if month == self.month:
            self.peak_kw = max(self.peak_kw, load_kw + devices_kw)

    def highest_kw(self) -> float:
        """Highest known load; 0 when none is known."""
        known = self.load_kw[np.isfinite(self.load_kw)]
        return float(np.abs(known).max()) if len(known) else 0.0

    def usual_devices_kw(self, starts_ms: NDArray[np.int64], step_s: int) -> NDArray[np.float64]:
        """What the devices took in the last week at the same times of day: [n] kW for steps from `starts_ms`; 0 if
        unknown."""
        week = self.devices_kw[-7 * DAY :].reshape(7, DAY).astype(np.float64)
        known = np.isfinite(week)
        count = known.sum(axis=0)
        mean = np.divide(np.where(known, week, 0.0).sum(axis=0), count, out=np.zeros(DAY), where=count > 0)
        parts = max(1, step_s // 900)
        position = (starts_ms[:, None] // SLOT_MS + np.arange(parts) - (self.first + SLOTS)) % DAY
        return np.asarray(mean[position].mean(axis=1))

    def peaks(self, now_ms: int, tz: str, *, next_month: bool) -> tuple[float, ...]:
        """Peaks that the rest of this month, or the next one, may have anyway (`operators.control.target`)."""
        day = pd.Timestamp(now_ms, unit="ms", tz="UTC").tz_convert(tz)
        left = 30.0 if next_month else float(day.days_in_month - day.day)
        days = self.load_kw.reshape(DAYS, DAY).astype(np.float64)
        full = days[np.isfinite(days).mean(axis=1) > 0.5]
        highest = np.nanmax(full, axis=1) if len(full) else np.zeros(0)
        return expected_peaks(self.best_kw, highest, left)

    def look(self, site: Site, now_ms: int, solver: Solver) -> bool:
        """Seeks the best peak of the weeks behind when that is due; whether it did."""
        day = now_ms // DAY_MS
        known = np.isfinite(self.load_kw)
        due = self.best_kw <= 0 or day >= self.looked_day + LOOK_EVERY_DAYS
        if site.tariff.demand <= 0 or day == self.looked_day or not due or known.sum() < LEAST_DAYS * DAY:
            return False
        self.looked_day = day
        begin = int(np.flatnonzero(known)[0])
        load = self.load_kw[begin:].astype(np.float64)
        where = np.arange(len(load))
        load = np.interp(where, where[known[begin:]], load[known[begin:]])
        starts = (self.first + begin + where) * SLOT_MS
        price, export, _ = price_steps(site, Prices(now_ms, 900), starts, np.full(len(load), 900.0), [])
        try:
            self.best_kw = best_peak(
                site, whole_past(starts.astype(np.float64), 900.0, load, np.zeros_like(load), price, export), solver
            )
        except SolverError:
            self.best_kw = float(load.max())
        return True

    def dump(self) -> bytes:
        """For Flink's state."""
        head = {name: getattr(self, name) for name in ("first", "peak_kw", "month", "best_kw", "looked_day")}
        return json.dumps(head).encode() + b"\n" + self.load_kw.tobytes() + self.devices_kw.tobytes()

    @classmethod
    def load(cls, packed: bytes | None) -> Self:
        """What `dump` gave; None begins anew."""
        made = cls()
        if packed is None:
            return made
        head, _, body = packed.partition(b"\n")
        for name, value in json.loads(head).items():
            setattr(made, name, value)
        both = np.frombuffer(body, np.float32).reshape(2, SLOTS)
        made.load_kw, made.devices_kw = both[0].copy(), both[1].copy()
        return made

    def _move(self, first: int) -> None:
        shift = min(first - self.first, SLOTS)
        for name in ("load_kw", "devices_kw"):
            old = getattr(self, name)
            setattr(self, name, np.concatenate([old[shift:], np.full(shift, np.nan, np.float32)]))
        self.first = first
