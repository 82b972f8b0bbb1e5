"""The mean of the same hour on the last seven days (BuildingsBench, NeurIPS 2023), with a band of its past errors."""

from __future__ import annotations

from models.day_mean import DayMean
from operators.features import DAYS


def architecture() -> DayMean:
    """Untrained: only its band is learnt."""
    return DayMean("persistence_ensemble", (1.0 / DAYS,) * DAYS)
