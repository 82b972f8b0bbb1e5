"""Bands that keep their promise on each meter: quantiles corrected online by how often they were right.

A forecaster's 80% band holds 80% of the hours over all meters, and 60 or 95% of one of them. Each level of each meter
but the median has an offset, in units of the forecast's own spread, that a closed day moves: up when more than the
level's share of the day was above the quantile, else down. This is the quantile tracker of conformal control (Gibbs and
Candès 2021, adaptive conformal inference; Angelopoulos, Candès and Tibshirani 2023) with steps that get smaller
(Angelopoulos, Barber and Bates 2024), applied to conformalised quantile regression (Romano, Patterson and Candès 2019):
in the long run each level is right whatever the meter does, changes of use included.

The median stays the model's own: moving it as well made the point forecast worse, by 0.2 to 1% of NRMSE on the meters
tried. Nothing here reads a clock: the offsets are a function of the sequence of issued forecasts and what came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from operators.features import QUANTILES

FIRST_STEP = 0.6
"""How far the first days move an offset, in spreads for a whole day on the wrong side."""
LAST_STEP = 0.05
"""And all later ones: what forgets the past in a month or so."""
DECAY = 0.6
"""The n-th day's step is FIRST_STEP / n ** DECAY, at least LAST_STEP (Angelopoulos et al. 2024: DECAY in ½ to 1)."""
LARGEST_OFFSET = 2.0
"""Spreads; a dead meter that starts again must not leave bands of any width behind."""
MIN_SPREAD = 0.01
"""Of the day's mean absolute median: a band without width could not be widened."""

_LEVELS = np.array(QUANTILES)
# Outer quantiles have fewer values around them, and have to move further for the same share: by the ratio of a normal
# distribution's density at its median to that at the level.
_SPEED = np.array([2.27, 1.42, 1.15, 1.03, 0.0, 1.03, 1.15, 1.42, 2.27])
_MEDIAN = len(QUANTILES) // 2
_OUTWARD = np.sign(_LEVELS - 0.5)
_MAGIC = b"CAL1"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Calibration:
    """State of m meters; never changed in place, so that a checkpoint may keep it."""

    offset: Floats
    """[m, 9] in spreads of the forecast; 0 leaves it as it is."""
    days: NDArray[np.int32]
    """[m] updates so far."""

    @classmethod
    def empty(cls, meters: int) -> Self:
        """The state of meters of which nothing is known: forecasts pass unchanged."""
        return cls(np.zeros((meters, len(QUANTILES)), np.float32), np.zeros(meters, np.int32))

    def grown(self, meters: int) -> Calibration:
        """The same with new meters after the old ones.

        Raises:
            ValueError: fewer meters than there are.
        """
        more = meters - len(self.days)
        if more < 0:
            raise ValueError(f"state of {len(self.days)} meters cannot shrink to {meters}")
        fresh = Calibration.empty(more)
        return Calibration(np.concatenate((self.offset, fresh.offset)), np.concatenate((self.days, fresh.days)))

    def take(self, meters: NDArray[Any]) -> Calibration:
        """The chosen meters, by positions or by a mask."""
        return Calibration(self.offset[meters], self.days[meters])

    def put(self, meters: NDArray[Any], part: Calibration) -> Calibration:
        """The state with the chosen meters' replaced by `part`."""
        offset, days = self.offset.copy(), self.days.copy()
        offset[meters], days[meters] = part.offset, part.days
        return Calibration(offset, days)

    def to_bytes(self) -> bytes:
        """For a checkpoint: a mark with the version, the number of meters, and the two arrays, little-endian."""
        count = np.array([len(self.days)], "<i4")
        return b"".join(
            (_MAGIC, count.tobytes(), self.days.astype("<i4").tobytes(), self.offset.astype("<f4").tobytes())
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """What `to_bytes` wrote.

        Raises:
            ValueError: another version, or damaged.
        """
        if content[:4] != _MAGIC or len(content) < 8:
            raise ValueError("state of a calibration of another version: start the job from a savepoint that fits")
        meters = int(np.frombuffer(content, "<i4", 1, 4)[0])
        levels = len(QUANTILES)
        if len(content) != 8 + 4 * meters * (1 + levels):
            raise ValueError("state of a calibration is damaged: its length does not fit its meters")
        days = np.frombuffer(content, "<i4", meters, 8).astype(np.int32)
        offset = np.frombuffer(content, "<f4", meters * levels, 8 + 4 * meters).astype(np.float32)
        return cls(offset.reshape(meters, levels), days)


def apply(quantiles: NDArray[Any], state: Calibration) -> Floats:
    """The corrected forecast, to be called at issue.

    Args:
        quantiles: [m, 9, h] kWh of each step, non-decreasing along the levels.
        state: of the same m meters.

    Returns:
        [m, 9, h], non-decreasing, its median that of the input; the input itself where the state is empty.
    """
    return _bounded(_moved(np.asarray(quantiles, dtype=np.float32), state))


def update(state: Calibration, quantiles: NDArray[Any], actual: NDArray[Any]) -> Calibration:
    """What the state becomes when a day that was forecast is over.

    Call it once a meter and day, with forecasts whose days do not overlap: hours that were counted twice would be
    learnt twice.

    Args:
        state: of m meters, as it was when the forecast was issued or later.
        quantiles: [m, 9, h] kWh as the model gave them, before `apply`.
        actual: [m, h] kWh, NaN = not measured; a day without any measured step changes nothing.
    """
    moved = _moved(np.asarray(quantiles, dtype=np.float32), state)
    corrected = _bounded(moved)
    known = np.isfinite(actual)[:, None, :]
    count = known.sum(axis=(1, 2))
    came = np.asarray(actual, dtype=np.float32)[:, None, :]
    divisor = np.maximum(count, 1)[:, None]
    below = (known & (came < corrected)).sum(axis=2) / divisor
    not_above = (known & (came <= corrected)).sum(axis=2) / divisor
    # A value on the quantile itself counts for either side: a meter at rest moves nothing.
    wrong = _SPEED * (_LEVELS - np.clip(_LEVELS, below, not_above))
    # A level that its inner neighbour holds back would be wound up by pushing on, and take as long to come back.
    inward = wrong * _OUTWARD < 0
    wrong = np.where(inward, wrong * (moved == corrected).mean(axis=2), wrong)
    days = state.days + (count > 0).astype(np.int32)
    step = np.maximum(FIRST_STEP / np.maximum(days, 1) ** DECAY, LAST_STEP) * count / came.shape[2]
    offset = np.clip(state.offset + step[:, None] * wrong, -LARGEST_OFFSET, LARGEST_OFFSET)
    return Calibration(offset.astype(np.float32), days)


def _moved(issued: Floats, state: Calibration) -> Floats:
    """The levels with their offsets, which may cross; the median as it was."""
    moved = np.multiply(state.offset[:, :, None], _spread(issued)[:, None, :])
    moved += issued
    moved[:, _MEDIAN] = issued[:, _MEDIAN]
    return np.asarray(moved)


def _bounded(moved: Floats) -> Floats:
    """Each level no nearer to the median's other side than the level within it: sorting would mix levels up."""
    bounded = moved.copy()
    for level in range(1, _MEDIAN + 1):
        lower, upper = bounded[:, _MEDIAN - level], bounded[:, _MEDIAN + level]
        np.minimum(lower, bounded[:, _MEDIAN - level + 1], out=lower)
        np.maximum(upper, bounded[:, _MEDIAN + level - 1], out=upper)
    return np.asarray(bounded)


def _spread(issued: Floats) -> Floats:
    """Width of the 80% band of each step, at least a little: [m, h]."""
    level = np.abs(issued[:, _MEDIAN]).mean(axis=1, keepdims=True)
    width = issued[:, -1] - issued[:, 0]
    return np.asarray(np.maximum(width, MIN_SPREAD * level), dtype=np.float32)
