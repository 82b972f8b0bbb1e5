"""The same hour a week ago (seasonal naive), with a band of its past errors."""

from __future__ import annotations

from models.day_mean import DayMean
from operators.features import DAYS


def architecture() -> DayMean:
    """Untrained: only its band is learnt."""
    return DayMean("seasonal_naive", (1.0, *(0.0,) * (DAYS - 1)))
