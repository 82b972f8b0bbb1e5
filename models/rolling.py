"""Rolling calibration in a backtest: as the stream does it, a day's correction from days that are over."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators import calibration
from operators.calibration import Calibration


class Rolling:
    """The calibration of m meters, moved on from issue to issue; a forecast is corrected by what was over by then."""

    def __init__(self, meters: int, horizon: int) -> None:
        """`horizon`: steps of a forecast."""
        self._state = Calibration.empty(meters)
        self._horizon = horizon
        self._taken = np.full(meters, -(1 << 62), dtype=np.int64)
        """By meter: the issue that was learnt from last; days that overlap would be learnt twice."""
        self._open: list[tuple[int, NDArray[np.int64], NDArray[Any], NDArray[Any]]] = []

    def corrected(
        self, issue: NDArray[np.int64], meter: NDArray[np.int64], quantiles: NDArray[Any], target: NDArray[Any]
    ) -> NDArray[np.float32]:
        """Corrects forecasts, and learns from them once their day is over.

        Args:
            issue: [n] step of issue, ascending, and not before that of an earlier call.
            meter: [n] position of each forecast's meter, at most once an issue.
            quantiles: [n, 9, h] kWh.
            target: [n, h] kWh: looked at only for issues a horizon or more later.

        Returns:
            [n, 9, h] kWh.
        """
        result = np.empty(quantiles.shape, dtype=np.float32)
        starts = np.flatnonzero(np.diff(issue, prepend=issue[:1] - 1))
        for rows in np.split(np.arange(len(issue)), starts[1:]):
            if not len(rows):
                continue
            now, meters = int(issue[rows[0]]), meter[rows]
            self._learn(now)
            result[rows] = calibration.apply(quantiles[rows], self._state.take(meters))
            new = now - self._taken[meters] >= self._horizon
            if new.any():
                self._taken[meters[new]] = now
                self._open.append((now, meters[new], quantiles[rows[new]], target[rows[new]]))
        return result

    def _learn(self, now: int) -> None:
        while self._open and self._open[0][0] + self._horizon <= now:
            _, meters, quantiles, target = self._open.pop(0)
            self._state = self._state.put(meters, calibration.update(self._state.take(meters), quantiles, target))
