"""What a forecaster sees: the one feature code, called by the Flink jobs, by training and by backtests.

A model reads a week of hourly values, scaled by the meter's own level, so that it is the same model for a kiosk and
a hospital. It never reads the hour of the day: the position in the history tells it, and a meter whose time zone is
unknown loses little. The day of the week enters as a smooth phase that training shifts at random
(models/augment.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
CONTEXT_HOURS = 168
HORIZON_HOURS = 24
FEATURE_SET = "week168-v1"
"""Written into each exported model; a model made for other features is refused."""

DAYS = CONTEXT_HOURS // HORIZON_HOURS
EXTRA = 6 + DAYS + 3
"""Columns of `extra`: phase of the week, share missing of each day, roughness."""

CLIP = 10.0
"""Bound of the network's view of a value, in mean levels: one spike must not drown the week."""

_LARGEST = 1e20
_SMALLEST = 1e-30
_MIN_KNOWN_SHARE = 0.5
_HOUR_MS = 3_600_000
_WEEK_HOURS = 168.0
_EPOCH_WEEK_SHIFT = 72.0  # 1970-01-01 was a Thursday: hours since Monday 00:00

Floats = NDArray[np.float64]
Inputs = dict[str, NDArray[np.float32]]


def has_context(known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which meters can be forecast: the newest slot is known, and at least half of all slots.

    Args:
        known: [m, n], oldest first; True where the slot's energy is measured.

    Returns:
        [m].
    """
    return np.asarray(known[:, -1] & (known.mean(axis=1) >= _MIN_KNOWN_SHARE))


def fill_missing(history: NDArray[Any]) -> Floats:
    """Replaces each missing hour by the mean of the same hour on other days, or else by the mean of all that is known.

    Args:
        history: [m, 168], oldest first, any unit; what is not finite or beyond 1e20 is missing.

    Returns:
        [m, 168], all finite; zeros where a meter has no value at all.
    """
    values = np.asarray(history, dtype=np.float64)
    known = np.abs(values) <= _LARGEST
    return values if known.all() else _filled(values, known)


def model_inputs(
    history: NDArray[Any], issued_at_ms: NDArray[np.int64], utc_offset_s: NDArray[np.int64]
) -> tuple[Inputs, Floats]:
    """The model's inputs from what is known at the time of issue; nothing later is asked for.

    Args:
        history: [m, 168] kWh of each hour, oldest first, NaN = missing; the last hour ends at `issued_at_ms`.
        issued_at_ms: [m] epoch ms, UTC.
        utc_offset_s: [m] seconds that local time is ahead of UTC; 0 when unknown.

    Returns:
        The inputs, float32 and finite: `window` [m, 168] in units of the scale, and `extra` [m, EXTRA]; and the
        scale [m], kWh of an hour: the mean absolute known value, 0 for a meter that is all zero or all missing (its
        forecast is zero).
    """
    values = np.asarray(history, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != CONTEXT_HOURS:
        raise ValueError(f"history must be [meters, {CONTEXT_HOURS}], not {values.shape}")
    magnitude = np.abs(values)
    known = magnitude <= _LARGEST
    missing = np.zeros((len(values), DAYS), dtype=np.float32)
    if not known.all():
        values = _filled(values, known)
        magnitude = np.where(known, magnitude, 0.0)
        missing = 1.0 - known.reshape(-1, DAYS, HORIZON_HOURS).mean(axis=2, dtype=np.float32)
        count = np.maximum(known.sum(axis=1), 1)
    else:
        count = np.full(len(values), CONTEXT_HOURS)
    scale = magnitude.sum(axis=1) / count
    scale[scale < _SMALLEST] = 0.0
    inverse = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)
    window = (values * inverse[:, None]).astype(np.float32)
    extra = np.concatenate((_week_phase(issued_at_ms, utc_offset_s), missing, _roughness(window)), axis=1)
    return {"window": window, "extra": extra}, scale


def to_phases(history: NDArray[Any], steps_per_hour: int) -> Floats:
    """Splits finer histories into hourly series, one a phase of the hour, as hourly rates.

    A missing slot takes the mean of the known slots of its hour, so that a meter that reports each half hour only
    is not half empty.

    Args:
        history: [m, 168 * k] kWh of each step, oldest first.
        steps_per_hour: k.

    Returns:
        [m * k, 168] kWh per hour; row `i * k + p` is phase p of meter i.
    """
    hours = np.asarray(history, dtype=np.float64).reshape(len(history), CONTEXT_HOURS, steps_per_hour)
    known = np.abs(hours) <= _LARGEST
    if not known.all():
        total = np.where(known, hours, 0.0).sum(axis=2)
        count = known.sum(axis=2)
        mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
        hours = np.where(known, hours, mean[:, :, None])
    phases: Floats = np.ascontiguousarray(hours.transpose(0, 2, 1)).reshape(-1, CONTEXT_HOURS)
    return phases * steps_per_hour


def phase_issue_times(issued_at_ms: NDArray[np.int64], steps_per_hour: int) -> NDArray[np.int64]:
    """The end of each phase's newest slot, epoch ms UTC: [m * k], ordered as `to_phases`."""
    step_ms = _HOUR_MS // steps_per_hour
    lag = (np.arange(steps_per_hour, dtype=np.int64) - (steps_per_hour - 1)) * step_ms
    return np.asarray((issued_at_ms[:, None] + lag).reshape(-1))


def from_phases(forecast: NDArray[Any], steps_per_hour: int) -> NDArray[np.float32]:
    """Interleaves forecasts of phases, [m * k, 9, 24] kWh per hour, into steps, [m, 9, 24 * k] kWh of each step."""
    rows, quantiles, hours = forecast.shape
    phases = forecast.reshape(rows // steps_per_hour, steps_per_hour, quantiles, hours) / steps_per_hour
    steps = phases.transpose(0, 2, 3, 1).reshape(-1, quantiles, hours * steps_per_hour)
    return np.ascontiguousarray(steps, dtype=np.float32)


def _filled(values: Floats, known: NDArray[np.bool_]) -> Floats:
    shape = (len(values), DAYS, HORIZON_HOURS)
    kept = np.where(known, values, 0.0)
    count = known.reshape(shape).sum(axis=1)
    level = kept.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    same_hour = np.where(count > 0, kept.reshape(shape).sum(axis=1) / np.maximum(count, 1), level[:, None])
    return np.where(known, values, np.tile(same_hour, DAYS))


def _week_phase(issued_at_ms: NDArray[np.int64], utc_offset_s: NDArray[np.int64]) -> NDArray[np.float32]:
    """Three harmonics of the local hour of the week at issue: [m, 6]; as many as tell seven days apart."""
    hours = (issued_at_ms + utc_offset_s * 1000) / _HOUR_MS + _EPOCH_WEEK_SHIFT
    angle = (hours % _WEEK_HOURS)[:, None] * (2.0 * np.pi / _WEEK_HOURS) * np.arange(1, 4)
    phase: NDArray[np.float32] = np.concatenate((np.sin(angle), np.cos(angle)), axis=1, dtype=np.float32)
    return phase


def _roughness(window: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log mean absolute change over an hour, over a day, and over a day on the calmest of the days: [m, 3].

    How far a meter is from repeating itself sets the width of its band; a linear layer cannot see it in the values.
    """
    hour = np.abs(window[:, 1:] - window[:, :-1]).mean(axis=1)
    day_change = np.abs(window[:, HORIZON_HOURS:] - window[:, :-HORIZON_HOURS])
    calmest = day_change.reshape(-1, DAYS - 1, HORIZON_HOURS).mean(axis=2).min(axis=1)
    changes = np.stack((hour, day_change.mean(axis=1), calmest), axis=1)
    return np.asarray(np.log(changes + np.float32(1e-3)))
