"""Forecasts as they would have been issued at any step of a recorded time: the shipped model, on what was known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from jobs.simulation.folder import SLOT_S, Case
from operators.control.outlook import FURTHER_HOURS, Forecast
from operators.features import CONTEXT_HOURS, HORIZON_HOURS, QUANTILES, has_context
from operators.forecaster import Forecaster

Floats = NDArray[np.float64]

AT_ONCE = 256
"""Issue times that are forecast in one call."""
BAND = 0.15
"""Half the width of the band where the model has too little history, as a share of the value."""
DAYS_BACK = 7


class Forecasts:
    """Issues forecasts of a case's load and sun; `issue(k)` sees the steps before k only.

    Args:
        case: the recorded case.
        model: the forecaster.
    """

    def __init__(self, case: Case, model: Forecaster) -> None:
        self.case, self.model = case, model
        self.repeat = case.step_s // SLOT_S
        per_hour = 3600 // case.step_s
        self.day = HORIZON_HOURS * per_hour
        self.context = CONTEXT_HOURS * per_hour
        self.ahead = (HORIZON_HOURS + FURTHER_HOURS) * per_hour
        every = slice(None, None, self.repeat)
        self.start_ms = case.start_ms[every]
        self.load = np.where(case.known[every], case.load_kw[every], np.nan)
        self.pv = case.pv_kw[every]
        self.has_pv = bool((self.pv > 0).any())
        padded = np.concatenate([np.full(self.context, np.nan), self.load])
        self._windows = np.lib.stride_tricks.sliding_window_view(padded, self.context)
        self._first = -1
        self._rows = np.zeros((0, len(QUANTILES), self.day))
        self._good = np.zeros(0, dtype=bool)

    def issue(self, k: int) -> Forecast:
        """The forecast at the beginning of step k of the series (not of the quarter hours).

        Its first day is the model's; the hours after it are those of a week before.
        """
        block = k // AT_ONCE * AT_ONCE
        if block != self._first:
            self._predict(block)
        row = k - block
        history = self._windows[k]
        load = np.empty((len(QUANTILES), self.ahead))
        load[:, : self.day] = self._rows[row] if self._good[row] else self._usual(history, self.day)
        load[:, self.day :] = self._usual(history, self.ahead)[:, self.day :].mean(axis=0)
        pv = self._sun(k) if self.has_pv else None
        issued = int(self.start_ms[k])
        return Forecast(issued, self.case.step_s, load, pv, issued, self.model.sha256)

    def _predict(self, block: int) -> None:
        last = min(block + AT_ONCE, len(self.load))
        history = self._windows[block:last] * self.case.step_s / 3600
        self._good = has_context(np.isfinite(history))
        kwh = self.model.predict(history, self.start_ms[block:last], self.case.step_s, zones=self.case.site.tz)
        self._rows = kwh.astype(np.float64) * 3600 / self.case.step_s
        self._first = block

    def _usual(self, history: Floats, steps: int) -> Floats:
        """[9, steps]: the same time on the days before, a week before the most; with a wide band."""
        days = history.reshape(DAYS_BACK, self.day)
        known = np.isfinite(days)
        count = known.sum(axis=0)
        mean = np.divide(np.where(known, days, 0.0).sum(axis=0), count, out=np.full(self.day, np.nan), where=count > 0)
        overall = float(mean[count > 0].mean()) if count.any() else np.nan
        mean = np.where(count > 0, mean, overall)
        ahead = np.resize(mean, steps)
        # Step j from now was, a week before, j after the window's beginning.
        week = np.resize(history, steps)
        middle = np.where(np.isfinite(week), week, ahead)
        band = (np.array(QUANTILES) - 0.5) * 2 * BAND
        return np.asarray(middle + np.abs(middle) * band[:, None])

    def _sun(self, k: int) -> Floats:
        """[9, ahead]: quantiles of the same time on as many of the last seven days as are known; none: dark."""
        known = self.pv[max(0, k - DAYS_BACK * self.day) : k]
        days = len(known) // self.day
        if not days:
            return np.zeros((len(QUANTILES), self.ahead))
        past = known[len(known) - days * self.day :].reshape(days, self.day)
        quantiles = np.quantile(past, QUANTILES, axis=0)
        return np.asarray(np.tile(quantiles, (1, -(-self.ahead // self.day)))[:, : self.ahead])
