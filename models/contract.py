"""The contract of an architecture: one file each in this folder, all trained, judged and exported by the same code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from operators.features import Inputs


class NotTrainedError(RuntimeError):
    """An architecture was asked for forecasts, or for its export, before `fit`."""

    def __init__(self) -> None:
        super().__init__("the model is not trained: call fit first")


@dataclass(frozen=True)
class Batch:
    """Training rows: inputs of `operators.features.model_inputs`, and what came after, in units of each row's scale."""

    inputs: Inputs
    target: NDArray[np.float32]
    """[m, 24], NaN = missing."""


@dataclass(frozen=True)
class Fit:
    """How long to train, and from which seed."""

    seed: int
    steps: int
    device: str = "cpu"
    limit_s: float | None = None
    """Stop in good order by then; None: never. A limit that is met makes the result depend on the machine's speed."""


@dataclass(frozen=True)
class Limits:
    """What an export may be; networks keep the defaults."""

    size: int = 2_000_000
    """Bytes of the file; trees are larger than networks."""
    flips: float = 0.0
    """Share of rows that may differ from the trainer. A tree compares in float64 where it was trained and in float32
    where it runs: a value between the two takes the other branch."""


NETWORK = Limits()


@dataclass(frozen=True)
class Range:
    """What a search may choose a setting from: whole numbers by steps, or real ones by their logarithm."""

    low: float
    high: float
    step: int | None = None
    """Of whole numbers; None: real numbers."""


class Architecture(Protocol):
    """A forecaster that can be trained and exported."""

    name: str
    limits: Limits

    def fit(self, batches: Iterator[Batch], how: Fit, progress: Callable[[float, float], None]) -> bool:
        """Trains; calls `progress(done share, loss)`; True when the whole training ran, False when time was up."""
        ...

    def predict(self, inputs: Inputs) -> NDArray[np.float32]:
        """Quantiles in units of the scale, non-decreasing: [m, 9, 24]."""
        ...

    def to_onnx(self) -> bytes:
        """One ONNX file: inputs `window` and `extra`, output `quantiles`, any number of rows."""
        ...
