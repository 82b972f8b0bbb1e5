"""How far the inputs of today are from those of training: population stability index of four figures of a week.

PSI is the sum over bins of (p - q) ln(p / q) (Siddiqi 2006, credit scorecards): below 0.1 nothing has changed, above
0.25 much has. The figures are free of units, as the model's inputs are. A model carries its reference in its ONNX file,
metadata key `reference`; for one that has none, the first days that the job sees are it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from operators.features import DAYS

REFERENCE = "reference"
"""Key of the ONNX metadata: JSON of `reference_of`."""
EDGES: Mapping[str, tuple[float, ...]] = {
    "last_day": (0.4, 0.6, 0.75, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0),
    "day_change": (0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.3),
    "peak": (1.1, 1.3, 1.6, 2.0, 2.5, 3.2, 4.5, 7.0, 12.0),
    "missing": (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5),
}
"""Inner edges of the bins: mean of the last day over that of the week; mean change over a day, largest value, both
over the mean; share of missing steps."""
BINS = 10
_FLOOR = 1e-4
"""A share that is taken for an empty bin, whose logarithm would be infinite."""

Counts = dict[str, list[int]]


def counts(history: NDArray[Any]) -> Counts:
    """How many of m meters lie in each bin.

    Args:
        history: [m, 168 * k] kWh of each step, oldest first, NaN = missing.

    Returns:
        By figure, of `EDGES`: [BINS]. A meter without load counts under `missing` alone.
    """
    values = np.asarray(history, np.float64)
    known = np.isfinite(values)
    magnitude = np.where(known, np.abs(values), 0.0)
    level = magnitude.sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    day = values.shape[1] // DAYS
    last = magnitude[:, -day:].sum(axis=1) / np.maximum(known[:, -day:].sum(axis=1), 1)
    pairs = known[:, day:] & known[:, :-day]
    change = np.where(pairs, np.abs(np.nan_to_num(values[:, day:]) - np.nan_to_num(values[:, :-day])), 0.0)
    change_mean = change.sum(axis=1) / np.maximum(pairs.sum(axis=1), 1)
    used = level > 0
    of_level = np.where(used, level, 1.0)
    figures = {
        "last_day": (last / of_level)[used],
        "day_change": (change_mean / of_level)[used],
        "peak": (magnitude.max(axis=1, initial=0.0) / of_level)[used],
        "missing": 1 - known.mean(axis=1),
    }
    return {name: _binned(figures[name], EDGES[name]) for name in EDGES}


def _binned(values: NDArray[np.float64], edges: Sequence[float]) -> list[int]:
    found = np.bincount(np.searchsorted(edges, values, side="right"), minlength=BINS)
    return [int(count) for count in found]


def added(first: Mapping[str, Sequence[int]], second: Mapping[str, Sequence[int]]) -> Counts:
    """Both together; an empty mapping counts nothing."""
    return {
        name: [a + b for a, b in zip(first.get(name, [0] * BINS), second.get(name, [0] * BINS), strict=True)]
        for name in EDGES
    }


def reference_of(seen: Mapping[str, Sequence[int]]) -> str:
    """What a model carries: the shares of each bin, as JSON."""
    return orjson.dumps({name: [round(share, 6) for share in _shares(seen[name])] for name in EDGES}).decode()


def read_reference(text: str | None) -> dict[str, list[float]] | None:
    """A model's reference; None where it has none, or one of other bins."""
    try:
        found = orjson.loads(text or "null")
    except orjson.JSONDecodeError:
        return None
    right = isinstance(found, dict) and all(
        isinstance(found.get(name), list) and len(found[name]) == BINS for name in EDGES
    )
    return {name: [float(share) for share in found[name]] for name in EDGES} if right else None


def psi(reference: Sequence[float], seen: Sequence[int]) -> float:
    """Population stability index of one figure.

    Args:
        reference: [BINS] shares.
        seen: [BINS] counts.

    >>> round(psi([0.5, 0.5], [50, 50]), 3), round(psi([0.5, 0.5], [90, 10]), 3)
    (0.0, 0.879)
    """
    if not sum(seen):
        return 0.0
    pairs = ((max(q, _FLOOR), max(p, _FLOOR)) for q, p in zip(reference, _shares(seen), strict=True))
    return math.fsum((p - q) * math.log(p / q) for q, p in pairs)


def shares(seen: Mapping[str, Sequence[int]]) -> dict[str, list[float]]:
    """Shares of each bin."""
    return {name: _shares(seen[name]) for name in EDGES}


def _shares(seen: Sequence[int]) -> list[float]:
    total = sum(seen)
    return [count / total if total else 1 / len(seen) for count in seen]
