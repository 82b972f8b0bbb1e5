"""One run of one engine: what was measured, and whether all of its results were there."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


class EngineError(Exception):
    """An engine that did not get to its end; the message ends with its log's last lines."""


@dataclass(frozen=True)
class Sample:
    """A run that came to its end."""

    engine: str
    count: int
    """Results for W, readings for R."""
    seconds: float
    """From when all of the engine was ready to read, to when the broker had the last result."""
    startup_s: float
    """From its start to there."""
    cpu_s: float
    """CPU seconds of the whole tree of processes, in `seconds`."""
    startup_cpu_s: float
    peak_mb: float
    readings: int
    check: dict[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.count / self.seconds if self.seconds > 0 else 0.0

    @property
    def cpu_per_million(self) -> float:
        return self.cpu_s / self.readings * 1e6

    @property
    def complete(self) -> bool:
        return bool(self.check.get("complete"))


@dataclass(frozen=True)
class Summary:
    """Medians over the repeats of one engine."""

    engine: str
    runs: int
    failed: int
    rate: float | None
    lowest: float | None
    highest: float | None
    cpu_per_million: float | None
    startup_s: float | None
    peak_mb: float | None
    complete: bool


def summarise(engine: str, samples: Sequence[Sample], failed: int) -> Summary:
    """The summary of an engine's runs; its figures are None when none came to its end."""
    if not samples:
        return Summary(engine, 0, failed, None, None, None, None, None, None, False)
    rates = [sample.rate for sample in samples]
    return Summary(
        engine,
        len(samples),
        failed,
        statistics.median(rates),
        min(rates),
        max(rates),
        statistics.median(sample.cpu_per_million for sample in samples),
        statistics.median(sample.startup_s for sample in samples),
        statistics.median(sample.peak_mb for sample in samples),
        not failed and all(sample.complete for sample in samples),
    )
