"""The mean of the day and the week before, the best simple forecast, with a band of its past errors."""

from __future__ import annotations

from models.day_mean import DayMean
from operators.features import DAYS


def architecture() -> DayMean:
    """Untrained: only its band is learnt."""
    return DayMean("mean_day_week", (0.5, *(0.0,) * (DAYS - 2), 0.5))
