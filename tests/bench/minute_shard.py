"""The state of workload W for the meters of one key: the last 96 means of each, by minute. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.bench.workload import HISTORY


class MinuteShard:
    """The last 96 means of the meters of one key, by minute: a column a minute, whatever came in it."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._row: dict[str, int] = {}
        self._columns = np.zeros((0, HISTORY), np.float32)
        self._newest = 0

    def introduce(self, names: list[str]) -> np.ndarray[Any, Any]:
        """Their rows; new ones are added."""
        for name in names:
            if name not in self._row:
                self._row[name] = len(self.names)
                self.names.append(name)
        room = len(self.names) - len(self._columns)
        if room:
            self._columns = np.concatenate([self._columns, np.zeros((room, HISTORY), np.float32)])
        return np.array([self._row[name] for name in names], np.int64)

    def put(self, minute: int, rows: np.ndarray[Any, Any], means: np.ndarray[Any, Any]) -> None:
        """The means of a minute, which is none of those that are forgotten."""
        first = self._newest + 1 if self._newest else minute
        for skipped in range(max(first, minute - HISTORY + 1), minute + 1):
            self._columns[:, skipped % HISTORY] = 0.0
        self._newest = max(self._newest, minute)
        self._columns[rows, minute % HISTORY] = means

    def window(self, minute: int, rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """[rows, 96] up to and with `minute`, oldest first."""
        order = (minute + 1 + np.arange(HISTORY)) % HISTORY
        return np.asarray(self._columns[rows[:, None], order])

    def column(self, minute: int) -> bytes:
        """One minute, for the state."""
        return self._columns[:, minute % HISTORY].tobytes()

    @classmethod
    def restore(cls, names: list[str], columns: Mapping[int, bytes]) -> MinuteShard:
        """As it was."""
        shard = cls()
        shard.introduce(names)
        for minute in sorted(columns):
            means = np.frombuffer(columns[minute], np.float32)
            shard.put(minute, np.arange(len(means)), means)
        return shard
