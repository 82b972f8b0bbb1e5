"""What a forecaster sees: the one feature code, called by the Flink jobs, by training and by backtests.

A model reads a week of hourly values, scaled by the meter's own level, so that it is the same model for a kiosk and
a hospital. The day of the week enters as a smooth phase that training shifts at random (models/augment.py).

Feature set `week168-v2` adds what the calendar knows: the local hour, the season and public holidays. All of it is zero
for a meter whose place is unknown, and training hides it from a part of the rows: such a meter loses little.
`week168-v3` adds the weather, as it was known at the time of issue (`operators/weather.py`): training makes models for
it where there is weather to train on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
CONTEXT_HOURS = 168
HORIZON_HOURS = 24
FEATURE_SET = "week168-v2"
"""What training makes models for where it has no weather; written into each exported model."""
WITH_WEATHER = "week168-v3"
"""What it makes them for where it has."""

DAYS = CONTEXT_HOURS // HORIZON_HOURS
HISTORY_EXTRA = 6 + DAYS + 3
"""The first columns of `extra`, in every feature set: phase of the week, share missing of each day, roughness."""

DAY_CHANGE = HISTORY_EXTRA - 2
"""The column of `extra` with the log mean absolute change over a day: how wide a meter's band is, roughly."""

LOCAL_DATES = DAYS + 2
"""Local dates that a window touches at most: from seven days before the date of issue to the day after it."""

CALENDAR = 4 + 6 + (DAYS + 1) + 2
"""Further columns of `week168-v2`: local hour (two harmonics), day of the year (three), share of holiday of each day of
the window and of the forecast, and whether the forecast begins and ends on a holiday."""

WEATHER_VARIABLES = ("temperature_c", "irradiance_w_m2")
WEATHER_HOURS = CONTEXT_HOURS + HORIZON_HOURS
WEATHER = HORIZON_HOURS + 4 + DAYS + 1 + 4 + 3
"""Further columns of `week168-v3`: of the temperature the change of each hour ahead from the week's mean of that hour,
that of each quarter of the day ahead from the last day, the mean of each day of the window and of the day ahead; of the
sun the change of each quarter of the day ahead from the week's mean; and masks: which share is known of the temperature
in the window, of that ahead, and of the sun ahead."""

FEATURE_SETS = {
    "week168-v1": HISTORY_EXTRA,
    "week168-v2": HISTORY_EXTRA + CALENDAR,
    WITH_WEATHER: HISTORY_EXTRA + CALENDAR + WEATHER,
}
"""The feature sets that this version makes inputs for, and the columns of their `extra`."""

EXTRA = FEATURE_SETS[FEATURE_SET]

CLIP = 10.0
"""Bound of the network's view of a value, in mean levels: one spike must not drown the week."""

_LARGEST = 1e20
_SMALLEST = 1e-30
MIN_KNOWN_SHARE = 0.5
"""Of the history: with less there is no forecast."""
_HOUR_MS = 3_600_000
_WEEK_HOURS = 168.0
_DAY_MS = 86_400_000
_YEAR_DAYS = 365.2425
_MILD = np.float32(12)
"""°C, around which temperatures are scaled."""
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
    return np.asarray(known[:, -1] & (known.mean(axis=1) >= MIN_KNOWN_SHARE))


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
    history: NDArray[Any],
    issued_at_ms: NDArray[np.int64],
    utc_offset_s: NDArray[np.int64],
    holidays: NDArray[np.bool_] | None = None,
    placed: NDArray[np.bool_] | None = None,
    feature_set: str = FEATURE_SET,
    weather: NDArray[np.float32] | None = None,
) -> tuple[Inputs, Floats]:
    """The model's inputs from what is known at the time of issue; nothing later is asked for.

    Args:
        history: [m, 168] kWh of each hour, oldest first, NaN = missing; the last hour ends at `issued_at_ms`.
        issued_at_ms: [m] epoch ms, UTC.
        utc_offset_s: [m] seconds that local time is ahead of UTC; 0 when unknown.
        holidays: [m, LOCAL_DATES] public holidays (`operators.local_time`): local dates from seven days before the date
            of issue to the day after it; None when no meter's place is known.
        placed: [m] meters whose place is known; None: all, if there are `holidays`.
        feature_set: one of FEATURE_SETS: what the model was made for.
        weather: [m, 192, 2] `operators.weather.Weather.known` at the times of issue, NaN = not known; None: of none.

    Returns:
        The inputs, float32 and finite: `window` [m, 168] in units of the scale, and `extra` [m, columns of the feature
        set]; and the scale [m], kWh of an hour: the mean absolute known value, 0 for a meter that is all zero or all
        missing (its forecast is zero).

    Raises:
        ValueError: `history` does not hold 168 hours.
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
    extra = np.zeros((len(values), FEATURE_SETS[feature_set]), dtype=np.float32)
    local_ms = issued_at_ms + utc_offset_s * 1000
    extra[:, :6] = _week_phase(local_ms)
    extra[:, 6 : 6 + DAYS] = missing
    extra[:, 6 + DAYS : HISTORY_EXTRA] = _roughness(window)
    if holidays is not None and extra.shape[1] > HISTORY_EXTRA:
        known_place = np.ones(len(values), dtype=np.bool_) if placed is None else placed
        extra[:, HISTORY_EXTRA : HISTORY_EXTRA + CALENDAR] = _calendar(local_ms, holidays) * known_place[:, None]
    if weather is not None and extra.shape[1] > HISTORY_EXTRA + CALENDAR:
        extra[:, HISTORY_EXTRA + CALENDAR :] = _weather(weather)
    return {"window": window, "extra": extra}, scale


def feature_set_of(columns: int) -> str:
    """The feature set whose `extra` has so many columns."""
    return next(name for name, width in FEATURE_SETS.items() if width == columns)


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


def _week_phase(local_ms: NDArray[np.int64]) -> NDArray[np.float32]:
    """Three harmonics of the local hour of the week at issue: [m, 6]; as many as tell seven days apart."""
    hours = local_ms / _HOUR_MS + _EPOCH_WEEK_SHIFT
    return _harmonics((hours % _WEEK_HOURS) / _WEEK_HOURS, 3)


def _calendar(local_ms: NDArray[np.int64], holidays: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Hour, season and holidays at issue: [m, CALENDAR]."""
    day = local_ms / _DAY_MS
    passed = (day % 1.0).astype(np.float32)[:, None]  # share of the local date that is over at issue
    off = holidays.astype(np.float32)
    shares = (1 - passed) * off[:, :-1] + passed * off[:, 1:]
    ends = np.where(passed > 0, off[:, -1:], off[:, -2:-1])
    season = _harmonics(day % _YEAR_DAYS / _YEAR_DAYS, 3)
    return np.concatenate((_harmonics(passed[:, 0], 2), season, shares, off[:, -2:-1], ends), axis=1)


def _weather(weather: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weather known at issue: [m, 192, 2] to [m, WEATHER]; what is not known is zero, as is what stays as it was."""
    rows = len(weather)
    by_day = weather.reshape(rows, DAYS + 1, HORIZON_HOURS, len(WEATHER_VARIABLES))
    known = np.isfinite(by_day)
    share = known[:, :, :, 0].mean(axis=2, dtype=np.float32)
    before, ahead = by_day[:, :DAYS], by_day[:, DAYS]
    same_hour = _mean(before, known[:, :DAYS], 1)
    quarters = (rows, 4, HORIZON_HOURS // 4)

    def by_quarter(change: NDArray[np.float32]) -> NDArray[np.float32]:
        pieces = change.reshape(quarters)
        return _mean(pieces, np.isfinite(pieces), 2)

    daily = (_mean(by_day[..., 0], known[..., 0], 2) - _MILD) / _MILD
    columns = (
        (ahead[..., 0] - same_hour[..., 0]) / 10,
        by_quarter(ahead[..., 0] - before[:, -1, :, 0]) / 10,
        daily,
        by_quarter(ahead[..., 1] - same_hour[..., 1]) / 300,
        share[:, :DAYS].mean(axis=1, keepdims=True),
        share[:, DAYS:],
        known[:, DAYS, :, 1].mean(axis=1, dtype=np.float32)[:, None],
    )
    return np.clip(np.nan_to_num(np.concatenate(columns, axis=1, dtype=np.float32)), -5, 5)


def _mean(values: NDArray[np.float32], known: NDArray[np.bool_], axis: int) -> NDArray[np.float32]:
    """The mean of what is known, NaN where nothing is."""
    count = known.sum(axis=axis)
    total = np.where(known, values, np.float32(0)).sum(axis=axis)
    return np.divide(total, count, out=np.full(total.shape, np.nan, np.float32), where=count > 0)


def _harmonics(turns: NDArray[Any], count: int) -> NDArray[np.float32]:
    """Sines, then cosines of `count` harmonics: [m, 2 * count]."""
    angle = turns[:, None] * (2.0 * np.pi) * np.arange(1, count + 1)
    return np.concatenate((np.sin(angle), np.cos(angle)), axis=1, dtype=np.float32)


def _roughness(window: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log mean absolute change over an hour, over a day, and over a day on the calmest of the days: [m, 3].

    How far a meter is from repeating itself sets the width of its band; a linear layer cannot see it in the values.
    """
    hour = np.abs(window[:, 1:] - window[:, :-1]).mean(axis=1)
    day_change = np.abs(window[:, HORIZON_HOURS:] - window[:, :-HORIZON_HOURS])
    calmest = day_change.reshape(-1, DAYS - 1, HORIZON_HOURS).mean(axis=2).min(axis=1)
    changes = np.stack((hour, day_change.mean(axis=1), calmest), axis=1)
    return np.asarray(np.log(changes + np.float32(1e-3)))
