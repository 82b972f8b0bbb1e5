"""Counts what came out of a run, and how far it is from what should have. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.bench.workload import CLOSING, MINUTE_MS, START_MS, TOLERANCE, Floats, meter_number


class Results:
    """Counts and errors of the windows found so far."""

    def __init__(self, expected: Floats) -> None:
        self.expected = expected
        self.seen = np.zeros(expected.shape, np.int64)
        self.error = np.zeros(expected.shape)
        self.unexpected = 0

    def add(self, meter_id: str, end_ms: int, y: float) -> None:
        """One result."""
        if meter_id.startswith(CLOSING):
            return
        number, minute = meter_number(meter_id), (end_ms - START_MS) // MINUTE_MS - 1
        if not (0 <= number < self.seen.shape[0] and 0 <= minute < self.seen.shape[1]):
            self.unexpected += 1
            return
        expected = self.expected[number, minute]
        self.note(number, minute, abs(y - expected) / max(1.0, abs(expected)))

    def note(self, number: int, step: int, error: float) -> None:
        """One result of a meter and step, with its error."""
        self.seen[number, step] += 1
        # Not `max`: an error that is no number must stay one.
        self.error[number, step] = np.maximum(self.error[number, step], error)

    def summary(self) -> dict[str, Any]:
        """All that is to be said of them."""
        wrong = int((~(self.error <= TOLERANCE)).sum())
        missing, repeated = int((self.seen == 0).sum()), int((self.seen > 1).sum())
        return {
            "expected": self.seen.size,
            "missing": missing,
            "repeated": repeated,
            "wrong": wrong,
            "unexpected": self.unexpected,
            "largest_error": float(np.nanmax(self.error, initial=0.0)),
            "complete": not (missing or repeated or wrong or self.unexpected),
        }
