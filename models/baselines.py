"""Forecasts that need no training: what every model must beat. Pure functions on history arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.features import CONTEXT_HOURS, DAYS, QUANTILES, fill_missing

Floats = NDArray[np.float64]


def _days(history: NDArray[Any]) -> Floats:
    """[m, 168 * k] to [m, 7, 24 * k], with gaps filled as the models' own are: both are judged on the same rows."""
    meters, steps = history.shape
    per_hour, rest = divmod(steps, CONTEXT_HOURS)
    if rest or not per_hour:
        raise ValueError(f"history must hold {CONTEXT_HOURS} hours of equal steps, not {steps} columns")
    phases = np.asarray(history, dtype=np.float64).reshape(meters, CONTEXT_HOURS, per_hour).transpose(0, 2, 1)
    filled = fill_missing(phases.reshape(-1, CONTEXT_HOURS)).reshape(meters, per_hour, CONTEXT_HOURS)
    return filled.transpose(0, 2, 1).reshape(meters, DAYS, steps // DAYS)


def previous_week(history: NDArray[Any]) -> Floats:
    """The same time a week before: [m, 168 * k] kWh a step, oldest first, NaN = missing, to [m, 24 * k]."""
    return _days(history)[:, 0]


def previous_day(history: NDArray[Any]) -> Floats:
    """The same time a day before; shapes as `previous_week`."""
    return _days(history)[:, -1]


def mean_day_week(history: NDArray[Any]) -> Floats:
    """The mean of the previous day and the previous week; shapes as `previous_week`."""
    days = _days(history)
    return (days[:, 0] + days[:, -1]) / 2


def persistence_ensemble(history: NDArray[Any]) -> Floats:
    """The mean of the same time on the last seven days (BuildingsBench, NeurIPS 2023); shapes as `previous_week`."""
    return np.asarray(_days(history).mean(axis=1))


def persistence_quantiles(history: NDArray[Any]) -> Floats:
    """The empirical quantiles of the same time on the last seven days: [m, 168 * k] to [m, 9, 24 * k]."""
    quantiles = np.quantile(_days(history), QUANTILES, axis=1)
    return np.asarray(np.moveaxis(quantiles, 0, 1))
