"""What the plain loop of workload R knows of its meters, as arrays. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from operators.shard import Due
from tests.bench.realistic import START_MS, STEP_MS, TENTHS_A_KWH, TICKS, WEEK, Size, history, meter_name, tenths_a_tick

TENANT, ZONE = "default", "UTC"


class Meters:
    """What the loop knows: each counter's last reading, the open quarter hours, and a week."""

    def __init__(self, size: Size) -> None:
        self.names = [meter_name(number) for number in range(size.meters)]
        self.week = np.roll(history(size, 0), 1, axis=1)
        slots = tenths_a_tick(size)[:, : WEEK - 1]
        self.value = slots.sum(axis=1) * TICKS / TENTHS_A_KWH
        self.at = np.full(size.meters, START_MS + (WEEK - 1) * STEP_MS, np.int64)
        self.open: dict[int, np.ndarray[Any, Any]] = {}

    def add(self, rows: np.ndarray[Any, Any], ts: np.ndarray[Any, Any], kwh: np.ndarray[Any, Any]) -> None:
        """Readings of a batch: what each counted since the one before goes to its quarter hours by time."""
        order = np.lexsort((ts, rows))
        rows, ts, kwh = rows[order], ts[order], kwh[order]
        first = np.r_[True, rows[1:] != rows[:-1]]
        last = np.r_[first[1:], True]
        before_at = np.where(first, self.at[rows], np.roll(ts, 1))
        before = np.where(first, self.value[rows], np.roll(kwh, 1))
        self.at[rows[last]], self.value[rows[last]] = ts[last], kwh[last]
        used = np.where(kwh >= before, kwh - before, kwh)
        for slot in range(int(before_at.min() // STEP_MS), int((ts.max() - 1) // STEP_MS) + 1):
            begin, end = slot * STEP_MS, (slot + 1) * STEP_MS
            inside = np.clip(np.minimum(ts, end) - np.maximum(before_at, begin), 0, None)
            if inside.any():
                share = used * inside / np.maximum(ts - before_at, 1)
                energy = self.open.setdefault(slot, np.zeros(len(self.names)))
                energy += np.bincount(rows, share, len(self.names))

    def close(self, slot: int) -> Due:
        """The histories at the end of a quarter hour."""
        self.week = np.roll(self.week, -1, axis=1)
        self.week[:, -1] = self.open.pop(slot)
        n = len(self.names)
        return Due((slot + 1) * STEP_MS, STEP_MS // 1000, self.names, [TENANT] * n, [ZONE] * n, self.week)
