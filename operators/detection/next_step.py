"""The forecast that a step is held against: of the next step alone, without the rest of the day."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.features import phase_issue_times, to_phases
from operators.forecaster import Forecaster


def next_step(
    forecaster: Forecaster,
    history: NDArray[Any],
    end_ms: NDArray[np.int64],
    step_s: int,
    zones: Sequence[str] | str | None,
) -> NDArray[np.float64]:
    """The forecast of the next step alone: the first of `Forecaster.predict`'s, without the other phases of the hour.

    Args:
        forecaster: of 24 hours.
        history: [n, 168 * k] kWh of each step, NaN missing; the last ends at `end_ms`.
        end_ms: [n] epoch ms UTC.
        step_s: 900 or 3600.
        zones: [n] or one for all; IANA time zones, "" unknown.

    Returns:
        [n, 9] kWh.
    """
    k = 3600 // step_s
    phases = to_phases(history, k)[::k]
    issued = phase_issue_times(end_ms, k)[::k]
    return np.asarray(forecaster.predict(phases, issued, 3600, 0, zones or None)[:, :, 0] / k, np.float64)
