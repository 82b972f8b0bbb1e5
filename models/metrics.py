"""Figures of forecasts, kept as sums a meter: any order and any split of the windows gives the same figures.

NRMSE, NMAE and NMBE are shares of the meter's mean absolute load, so that a meter that feeds in has them too; for one
that only draws, NRMSE is CV(RMSE) and NMBE is that of ASHRAE Guideline 14 (whose n - p is n here: there is no
regression to lose degrees of freedom to).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from operators.features import HORIZON_HOURS, QUANTILES

ASHRAE_CV_RMSE = 0.30
ASHRAE_NMBE = 0.10
"""ASHRAE Guideline 14-2014: limits of a calibrated model on hourly data."""

LEVELS = np.array(QUANTILES)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sums:
    """What is added up over the steps of m meters; steps that are not measured are left out."""

    count: Floats
    """[m] measured steps."""
    load: Floats
    """[m] absolute kWh."""
    squared: Floats
    """[m] squared error of the point forecast (forecast - actual)."""
    absolute: Floats
    error: Floats
    pinball: Floats
    """[m, 9] loss of each quantile."""
    below: Floats
    """[m, 9] steps whose actual value is not above the quantile."""
    inside: Floats
    """[m] steps within the 80% band."""
    width: Floats
    """[m] kWh of the 80% band."""
    lead_squared: Floats
    """[m, 24] `squared` by hours since the issue."""
    lead_count: Floats

    @classmethod
    def zeros(cls, meters: int) -> Self:
        """No window yet."""
        shapes = {
            "pinball": len(LEVELS),
            "below": len(LEVELS),
            "lead_squared": HORIZON_HOURS,
            "lead_count": HORIZON_HOURS,
        }
        made = {f.name: np.zeros((meters, shapes[f.name]) if f.name in shapes else meters) for f in fields(cls)}
        return cls(**made)

    def add(
        self, meter: NDArray[np.int64], target: NDArray[Any], point: NDArray[Any], quantiles: NDArray[Any] | None
    ) -> None:
        """Adds windows, in place.

        Args:
            meter: [n] position of each window's meter.
            target: [n, 24 * k] kWh, NaN = not measured.
            point: [n, 24 * k] kWh.
            quantiles: [n, 9, 24 * k] kWh, or None for a forecast without a band: its point stands for each.
        """
        known = np.isfinite(target)
        actual = np.where(known, target, 0.0).astype(np.float64)
        error = np.where(known, point - actual, 0.0)
        band = (
            np.broadcast_to(point[:, None, :], (len(point), len(LEVELS), point.shape[1]))
            if quantiles is None
            else quantiles
        )
        short = (actual[:, None, :] - band) * known[:, None, :]
        loss = np.maximum(LEVELS[:, None] * short, (LEVELS[:, None] - 1) * short).sum(axis=2)
        below = ((actual[:, None, :] <= band) & known[:, None, :]).sum(axis=2)
        inside = (actual >= band[:, 0]) & (actual <= band[:, -1]) & known
        by_lead = (len(point), HORIZON_HOURS, -1)
        added = {
            "count": known.sum(axis=1),
            "load": np.abs(actual).sum(axis=1),
            "squared": (error**2).sum(axis=1),
            "absolute": np.abs(error).sum(axis=1),
            "error": error.sum(axis=1),
            "pinball": loss,
            "below": below,
            "inside": inside.sum(axis=1),
            "width": ((band[:, -1] - band[:, 0]) * known).sum(axis=1),
            "lead_squared": (error**2).reshape(by_lead).sum(axis=2),
            "lead_count": known.reshape(by_lead).sum(axis=2),
        }
        for name, values in added.items():
            np.add.at(getattr(self, name), meter, values)

    def take(self, meters: NDArray[Any]) -> Sums:
        """The chosen meters only."""
        return Sums(*(getattr(self, f.name)[meters] for f in fields(self)))


@dataclass(frozen=True)
class Figures:
    """Figures of m meters, one value a meter; NaN for a meter without load."""

    nrmse: Floats
    nmae: Floats
    nmbe: Floats
    """Above 0: forecast too high."""
    mase: Floats
    """Mean absolute error over that of the previous week's value in the past (Hyndman and Koehler 2006)."""
    wql: Floats
    """Weighted quantile loss: twice the mean pinball loss over the mean absolute load."""
    coverage80: Floats
    width80: Floats
    """Width of the 80% band over the mean absolute load."""

    @classmethod
    def of(cls, sums: Sums, seasonal_error: Floats) -> Self:
        """Figures of sums; `seasonal_error` [m] kWh is what MASE divides by, NaN where unknown."""
        with np.errstate(divide="ignore", invalid="ignore"):
            load = sums.load / sums.count
            load = np.where(load > 0, load, np.nan)
            absolute = sums.absolute / sums.count
            return cls(
                np.sqrt(sums.squared / sums.count) / load,
                absolute / load,
                sums.error / sums.count / load,
                absolute / np.where(seasonal_error > 0, seasonal_error, np.nan),
                2 * sums.pinball.mean(axis=1) / sums.count / load,
                sums.inside / sums.count,
                sums.width / sums.count / load,
            )

    def ashrae_passes(self) -> NDArray[np.bool_]:
        """Meters within both limits of ASHRAE Guideline 14: [m]."""
        return np.asarray((self.nrmse <= ASHRAE_CV_RMSE) & (np.abs(self.nmbe) <= ASHRAE_NMBE))


def median(values: Floats) -> float:
    """Over the meters that have the figure; NaN if none has."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else float("nan")


def worst_decile(values: Floats) -> float:
    """What nine of ten meters stay below (the 0.9 quantile of the figure)."""
    known = values[np.isfinite(values)]
    return float(np.quantile(known, 0.9)) if len(known) else float("nan")


def pooled_wql(sums: Sums) -> float:
    """Weighted quantile loss over all meters and steps together: large meters count more."""
    load = float(sums.load.sum())
    return float(2 * sums.pinball.sum() / len(LEVELS) / load) if load > 0 else float("nan")


def seasonal_error(kwh: NDArray[Any], period: int) -> Floats:
    """Mean absolute difference from a period before: [m, t] kWh to [m], NaN with fewer than a day's pairs."""
    pairs = np.abs(kwh[:, period:].astype(np.float64) - kwh[:, :-period])
    known = np.isfinite(pairs)
    count = known.sum(axis=1)
    total = np.where(known, pairs, 0.0).sum(axis=1)
    return np.where(count * 7 >= period // 7, total / np.maximum(count, 1), np.nan)
