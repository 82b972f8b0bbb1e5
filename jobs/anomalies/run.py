"""Goes through recorded series as time went by: each step is judged by what was known before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.dataset import MeterSeries
from operators.detection.detector import DEFAULT, Settings
from operators.detection.events import Events
from operators.detection.next_step import next_step
from operators.detection.watch import BAND, Watch
from operators.features import CONTEXT_HOURS, HORIZON_HOURS, MIN_KNOWN_SHARE
from operators.forecaster import Forecaster

Progress = Callable[[float], None]


def detect(
    forecaster: Forecaster,
    series: MeterSeries,
    settings: Settings = DEFAULT,
    *,
    max_kw: NDArray[np.float64] | None = None,
    progress: Progress | None = None,
) -> Events:
    """All that there was to say about the series, as time went by.

    Bands are the model's own: the detector ranks each meter's errors among its own, which calibrates them.

    Args:
        series: of m meters.
        max_kw: [m] NaN: not known.

    Returns:
        In the order of time.
    """
    meters, steps = series.kwh.shape
    per = series.per_hour
    context, step_ms = CONTEXT_HOURS * per, series.step_s * 1000
    padded = np.full((meters, context + steps), np.nan)
    padded[:, context:] = series.kwh
    rows = np.arange(meters)
    watch = Watch(settings, kept_h=0)
    said = [Events.none()]
    for step in range(steps):
        end_ms = np.full(meters, series.start_ms + (step + 1) * step_ms)
        history = padded[:, step + 1 : step + 1 + context]

        def predict(cleaned: NDArray[Any], which: NDArray[np.int64], end_ms: NDArray[np.int64] = end_ms) -> Any:
            return next_step(forecaster, cleaned, end_ms[which], series.step_s, series.zone)

        issued = np.full((meters, len(BAND)), np.nan)
        enough = np.isfinite(history).mean(axis=1) >= MIN_KNOWN_SHARE
        if enough.any():
            issued[enough] = predict(history[enough], rows[enough])[:, BAND]
        said.append(watch.step(rows, end_ms, series.step_s, history, issued, predict, max_kw=max_kw))
        if progress is not None and step % (HORIZON_HOURS * per) == 0:
            progress(step / steps)
    return said[0].joined(*said[1:])
