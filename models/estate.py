"""The meters that a training sees and is judged on: in memory here, on a cluster in jobs/retraining."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models import training
from models.contract import Batch
from models.dataset import MeterSeries, cut, inputs_of
from models.evaluate import Score, score_split
from models.training import Part, Split
from operators.features import Inputs
from operators.forecaster import Forecaster
from operators.serving import drift

_JUDGED_WINDOWS = 4000


@dataclass(frozen=True)
class Facts:
    """For the card, and for the person who waits."""

    meters: int
    unseen: tuple[str, ...]
    """Names of the meters kept out."""
    windows: int
    """To train on."""
    first_ms: int
    """Begin of the earliest series, epoch ms UTC."""


class Estate(Protocol):
    """Meters, those that training sees and those that it does not."""

    def facts(self) -> Facts:
        """How much there is.

        Raises:
            ValueError: no window to train on.
        """
        ...

    def batches(self, seed: int, steps: int, rows: int) -> Iterator[Batch]:
        """Training batches; the same seed gives the same, wherever the meters lie."""
        ...

    def probe(self, seed: int) -> Inputs:
        """Real inputs to compare an export on."""
        ...

    def reference(self) -> str:
        """How the trained windows are distributed, as a model carries it (`operators/serving/drift.py`); or empty."""
        ...

    def judged(self, first_ms: int, last_ms: int) -> tuple[Inputs, NDArray[np.float32]] | None:
        """Inputs and targets of seen meters in a period, in units of their scales; None when there is none."""
        ...

    def scores(self, forecaster: Forecaster, content: bytes, label: str, first_ms: int, last_ms: int) -> list[Score]:
        """Figures of a period, seen and unseen meters apart; `content` is the forecaster's file, to be sent around."""
        ...

    def earlier(self, until_ms: int) -> Estate:
        """The same meters, trained on until an earlier time, epoch ms UTC."""
        ...


class InMemory:
    """Meters whose series are all here."""

    def __init__(self, found: Sequence[Split], until_ms: int) -> None:
        """`until_ms`: no training target at or after this, epoch ms UTC."""
        self._found = found
        self._until_ms = until_ms
        self._parts: list[Part] | None = None

    @classmethod
    def of(cls, sets: Sequence[MeterSeries], until_ms: int, seed: int, unseen_share: float) -> InMemory:
        """Sets of meters of one grid and zone each, a share of each kept out by the seed."""
        return cls(training.splits(sets, seed, unseen_share), until_ms)

    def facts(self) -> Facts:
        """As `Estate.facts`."""
        unseen = tuple(split.series.names[i] for split in self._found for i in split.unseen)
        meters = sum(len(split.series.names) for split in self._found)
        first_ms = min(split.series.start_ms for split in self._found)
        return Facts(meters, unseen, sum(len(part.at) for part in self._trained()), first_ms)

    def batches(self, seed: int, steps: int, rows: int) -> Iterator[Batch]:
        """As `Estate.batches`."""
        return training.batches(self._trained(), seed, steps, rows)

    def probe(self, seed: int) -> Inputs:
        """As `Estate.probe`."""
        return training.probe(self._trained()[0], seed)

    def reference(self) -> str:
        """As `Estate.reference`."""
        return reference_of(training.inputs_seen(self._trained()))

    def judged(self, first_ms: int, last_ms: int) -> tuple[Inputs, NDArray[np.float32]] | None:
        """As `Estate.judged`: of the seen meters of the first set that has any."""
        for split in self._found:
            series = training.hourly(split.series.take(split.seen))
            at = training.windows(series, first_ms, last_ms, 25)
            if len(at):
                return scaled(series, at[:: max(1, len(at) // _JUDGED_WINDOWS)])
        return None

    def scores(self, forecaster: Forecaster, content: bytes, label: str, first_ms: int, last_ms: int) -> list[Score]:
        """As `Estate.scores`."""
        return score_split(forecaster, self._found, label, first_ms, last_ms)

    def earlier(self, until_ms: int) -> InMemory:
        """As `Estate.earlier`."""
        return InMemory(self._found, until_ms)

    def _trained(self) -> list[Part]:
        if self._parts is None:
            self._parts = training.parts(self._found, self._until_ms)
        return self._parts


def reference_of(seen: drift.Counts) -> str:
    """What a model carries of them; empty when there is nothing."""
    return drift.reference_of(seen) if any(map(sum, seen.values())) else ""


def scaled(series: MeterSeries, at: NDArray[np.int64]) -> tuple[Inputs, NDArray[np.float32]]:
    """Inputs and targets of the windows with any load at pairs (meter, hour) of hourly series, by their scales."""
    chosen = cut(series, at)
    inputs, scale = inputs_of(chosen, series.zone)
    used = scale > 0
    target = (chosen.target[used] / scale[used, None]).astype(np.float32)
    return {name: value[used] for name, value in inputs.items()}, target
