"""What a model looks at: permutation importance (Breiman 2001; Fisher, Rudin and Dominici 2019) of groups of inputs.

A group's values are exchanged between windows; how much larger the quantile loss becomes says how much the model leans
on it. Small or negative: it could go.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from operators.features import CALENDAR, DAYS, HISTORY_EXTRA, HORIZON_HOURS, QUANTILES, Inputs

LEVELS = np.array(QUANTILES, dtype=np.float32)[None, :, None]
Predict = Callable[[Inputs], NDArray[np.float32]]


def groups(extra: int) -> dict[str, tuple[str, slice]]:
    """Groups by name: the input and its columns; those of calendar and weather only where the model has them."""
    found = {
        f"day -{DAYS - day}": ("window", slice(day * HORIZON_HOURS, (day + 1) * HORIZON_HOURS)) for day in range(DAYS)
    }
    found["phase of the week"] = ("extra", slice(0, 6))
    found["share missing"] = ("extra", slice(6, 6 + DAYS))
    found["roughness"] = ("extra", slice(6 + DAYS, HISTORY_EXTRA))
    if extra > HISTORY_EXTRA:
        found["local hour"] = ("extra", slice(HISTORY_EXTRA, HISTORY_EXTRA + 4))
        found["season"] = ("extra", slice(HISTORY_EXTRA + 4, HISTORY_EXTRA + 10))
        found["holidays"] = ("extra", slice(HISTORY_EXTRA + 10, HISTORY_EXTRA + CALENDAR))
    if extra > HISTORY_EXTRA + CALENDAR:
        found["weather"] = ("extra", slice(HISTORY_EXTRA + CALENDAR, extra))
    return found


def loss(quantiles: NDArray[np.float32], target: NDArray[np.float32]) -> float:
    """Mean quantile loss over what is known."""
    error = target[:, None, :] - quantiles
    return float(np.nanmean(np.maximum(LEVELS * error, (LEVELS - 1) * error)))


def permutation(predict: Predict, inputs: Inputs, target: NDArray[np.float32], seed: int = 0) -> dict[str, float]:
    """How much larger the loss becomes without each group, as a share of it.

    Args:
        predict: inputs to quantiles [n, 9, 24].
        inputs: n windows.
        target: [n, 24] in the windows' units, NaN = missing.
        seed: of the exchange.
    """
    rng = np.random.default_rng(seed)
    whole = loss(predict(inputs), target)
    found = {}
    for name, (which, columns) in groups(inputs["extra"].shape[1]).items():
        mixed = inputs[which].copy()
        mixed[:, columns] = mixed[rng.permutation(len(mixed)), columns]
        found[name] = round(loss(predict({**inputs, which: mixed}), target) / whole - 1, 4)
    return found
