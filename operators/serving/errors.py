"""Errors of models on the same days, as sums that any order of the shards adds up to.

Each meter-day counts once, in units of the meter's own level, so that a large meter decides no more than a small one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from operators.features import QUANTILES

KNOWN_SHARE = 0.5
"""A day of which less was measured is compared by nobody."""
CLIP = 10.0
"""Levels: the most that one meter-day may weigh."""
_LEVELS = np.array(QUANTILES)
_MEDIAN = len(QUANTILES) // 2


@dataclass(frozen=True)
class ErrorSums:
    """Sums over meter-days of one model."""

    days: int = 0
    squared: float = 0.0
    """Mean squared error of a day's median, over the level squared."""
    pinball: float = 0.0
    """Twice the mean pinball loss of a day's nine quantiles, over the level."""
    error: float = 0.0
    """Mean of forecast minus actual, over the level."""
    inside: float = 0.0
    """Share of the day's steps in the 80% band."""

    def plus(self, other: ErrorSums) -> ErrorSums:
        """Both together."""
        return ErrorSums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @classmethod
    def total(cls, parts: Iterable[ErrorSums]) -> Self:
        """All together, added exactly (`math.fsum`): the order of the parts does not matter."""
        rows = list(parts)
        sums = [math.fsum(getattr(row, f.name) for row in rows) for f in fields(cls)]
        return cls(round(sums[0]), *sums[1:])

    def nrmse(self) -> float:
        """Root mean squared error in levels; NaN of nothing."""
        return math.sqrt(self.squared / self.days) if self.days else math.nan

    def loss(self) -> float:
        """Mean quantile loss in levels; NaN of nothing."""
        return self.pinball / self.days if self.days else math.nan

    def bias(self) -> float:
        """Mean residual in levels: above 0, the forecast was too high; NaN of nothing."""
        return self.error / self.days if self.days else math.nan

    def coverage(self) -> float:
        """Share in the 80% band; NaN of nothing."""
        return self.inside / self.days if self.days else math.nan

    def to_json(self) -> dict[str, Any]:
        """For a message."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class DayErrors:
    """Of m meters on one day by one model."""

    counts: NDArray[np.bool_]
    """[m] whether the meter's day can be judged."""
    squared: NDArray[np.float64]
    pinball: NDArray[np.float64]
    error: NDArray[np.float64]
    inside: NDArray[np.float64]

    def sums(self) -> ErrorSums:
        """Over the meters."""
        columns = (self.squared, self.pinball, self.error, self.inside)
        return ErrorSums(int(self.counts.sum()), *(math.fsum(column[self.counts].tolist()) for column in columns))


def day_errors(quantiles: NDArray[Any], actual: NDArray[Any], level: NDArray[Any]) -> DayErrors:
    """How far forecasts of one day were off.

    Args:
        quantiles: [m, 9, h] kWh.
        actual: [m, h] kWh, NaN = not measured.
        level: [m] kWh of a step, what is normal for the meter; 0: nothing can be said.
    """
    known = np.isfinite(actual)
    counts = (known.mean(axis=1) >= KNOWN_SHARE) & (level > 0)
    came = np.where(known, actual, 0.0)
    steps = np.maximum(known.sum(axis=1), 1)
    scale = np.where(level > 0, level, 1.0).astype(np.float64)
    error = np.where(known, quantiles[:, _MEDIAN] - came, 0.0)
    short = (came[:, None, :] - quantiles) * known[:, None, :]
    loss = np.maximum(_LEVELS[:, None] * short, (_LEVELS[:, None] - 1) * short).mean(axis=1).sum(axis=1)
    inside = ((came >= quantiles[:, 0]) & (came <= quantiles[:, -1]) & known).sum(axis=1) / steps
    return DayErrors(
        counts,
        np.minimum((error**2).sum(axis=1) / steps / scale**2, CLIP**2),
        np.minimum(2 * loss / steps / scale, CLIP),
        np.clip(error.sum(axis=1) / steps / scale, -CLIP, CLIP),
        inside,
    )
