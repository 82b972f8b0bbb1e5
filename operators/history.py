"""A week of energy by quarter hour, for many series at once: a ring of columns, the newest overwriting the oldest."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from operators.energy import NEVER
from operators.features import CONTEXT_HOURS
from operators.flows import EXPORT, IMPORT, NET, NONE
from operators.increments import Floats, Ints

SLOTS_PER_HOUR = 4
SLOTS = CONTEXT_HOURS * SLOTS_PER_HOUR
_BYTES = 8 + 4 + 1
"""Of one series in one column."""


class History:
    """kWh, measured time and whether a reading came, by series and quarter hour (number: epoch ms // 900,000)."""

    def __init__(self) -> None:
        self.kwh = np.zeros((0, SLOTS))
        self.covered_ms = np.zeros((0, SLOTS), np.int32)
        self.read = np.zeros((0, SLOTS), np.uint8)
        """1 where a reading ended a stretch of energy."""
        self.head: int = NEVER
        """The newest quarter hour in the ring."""

    def grow(self, n: int) -> None:
        """Makes room for `n` series."""
        more = n - len(self.kwh)
        self.kwh = np.vstack([self.kwh, np.zeros((more, SLOTS))])
        self.covered_ms = np.vstack([self.covered_ms, np.zeros((more, SLOTS), np.int32)])
        self.read = np.vstack([self.read, np.zeros((more, SLOTS), np.uint8)])

    def oldest(self) -> int:
        """Number of the oldest quarter hour that is kept."""
        return self.head - SLOTS + 1

    def set(self, row: Ints, number: Ints, kwh: Floats, covered_ms: Ints, readings: Ints) -> NDArray[np.bool_]:
        """Puts quarter hours in, in full; which of the n given are kept: bool [n]."""
        if not len(row):
            return np.zeros(0, np.bool_)
        self._advance(int(number.max()))
        kept = np.asarray(number >= self.oldest(), np.bool_)
        row, column = row[kept], number[kept] % SLOTS
        self.kwh[row, column], self.covered_ms[row, column] = kwh[kept], covered_ms[kept]
        self.read[row, column] = readings[kept] > 0
        return kept

    def clear(self, row: int, first: int, stop: int) -> Ints:
        """Forgets the quarter hours [first, stop) of a series; which of them had anything."""
        if self.head == NEVER:
            return np.zeros(0, np.int64)
        number = np.arange(max(first, self.oldest()), min(stop, self.head + 1))
        column = number % SLOTS
        had = (self.kwh[row, column] != 0) | (self.covered_ms[row, column] > 0) | (self.read[row, column] > 0)
        self.kwh[row, column], self.covered_ms[row, column], self.read[row, column] = 0.0, 0, 0
        return np.asarray(number[had], np.int64)

    def _advance(self, newest: int) -> None:
        if newest <= self.head:
            return
        if self.head != NEVER:
            passed = np.arange(max(self.head + 1, newest - SLOTS + 1), newest + 1) % SLOTS
            self.kwh[:, passed], self.covered_ms[:, passed], self.read[:, passed] = 0.0, 0, 0
        self.head = newest

    def column(self, number: int) -> bytes:
        """One quarter hour of all series: float64 kWh, int32 measured ms, uint8 read."""
        at = number % SLOTS
        return self.kwh[:, at].tobytes() + self.covered_ms[:, at].tobytes() + self.read[:, at].tobytes()

    def load(self, number: int, column: bytes) -> None:
        """Puts back what `column` gave; series that came later were not there."""
        if self.oldest() <= number <= self.head:
            n, at = len(column) // _BYTES, number % SLOTS
            self.kwh[:n, at] = np.frombuffer(column, np.float64, n)
            self.covered_ms[:n, at] = np.frombuffer(column, np.int32, n, n * 8)
            self.read[:n, at] = np.frombuffer(column, np.uint8, n, n * 12)

    def known(self) -> tuple[Ints, Ints]:
        """By series: quarter hours of which something was measured, and those in which a reading came."""
        return np.count_nonzero(self.covered_ms, axis=1), np.count_nonzero(self.read, axis=1)

    def absent(self, number: Ints) -> NDArray[np.bool_]:
        """Which quarter hours the ring does not hold: it may be ahead of a time, or behind it."""
        return np.asarray((number > self.head) | (number < self.oldest()), np.bool_)


def net_of_registers(flow: Ints, kwh: Floats, covered_ms: NDArray[np.int32]) -> tuple[Floats, Ints]:
    """One meter's net energy from several registers, slot by slot, by the rule of `energy_15m`.

    Of the registers that tell of one direction the most direct that has energy counts (`operators.flows`); net power
    counts where there is neither import nor export.

    Args:
        flow: [s] of each series; kwh, covered_ms: [s, slots].

    Returns:
        [slots] kWh import minus export, and measured time.
    """
    present = (kwh != 0) | (covered_ms > 0)
    totals = {}
    for direction in (IMPORT, EXPORT, NET // 10 * 10):
        total = np.full(kwh.shape[1], np.nan)
        for code in np.unique(flow[flow // 10 == direction // 10]).tolist():
            of_code = flow == code
            there = present[of_code].any(0) & np.isnan(total)
            total[there] = kwh[of_code][:, there].sum(0)
        totals[direction] = total
    either = ~(np.isnan(totals[IMPORT]) & np.isnan(totals[EXPORT]))
    net = np.where(
        either,
        np.nan_to_num(totals[IMPORT]) - np.nan_to_num(totals[EXPORT]),
        np.nan_to_num(totals[NET // 10 * 10]),
    )
    return net, covered_ms[flow != NONE].max(0, initial=0).astype(np.int64)
