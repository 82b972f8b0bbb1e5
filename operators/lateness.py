"""How late readings come: those that became known after the quarter hour that they belong to had passed."""

from __future__ import annotations

import numpy as np

from operators.energy import SLOT_MS
from operators.increments import Ints

BOUNDS_S = (3_600, 6 * 3_600, 86_400, 3 * 86_400, 7 * 86_400)
"""Upper bounds of the histogram's buckets, seconds of event time."""


def lateness(ts_ms: Ints, known_end_ms: int) -> Ints | None:
    """Cumulative counts of late readings by lag.

    Args:
        ts_ms: times of the readings, epoch ms.
        known_end_ms: end of the quarter hour in which they became known.

    Returns:
        How many were late by up to each of `BOUNDS_S`, then all late ones; None when none was.

    >>> import numpy as np
    >>> lateness(np.array([899_999, 900_000, 900_001]), 1_800_000).tolist()
    [2, 2, 2, 2, 2, 2]
    >>> lateness(np.array([900_001]), 1_800_000) is None
    True
    """
    lag = known_end_ms - ts_ms[ts_ms <= known_end_ms - SLOT_MS]
    if not len(lag):
        return None
    return np.array([*(np.count_nonzero(lag <= bound * 1000) for bound in BOUNDS_S), len(lag)], np.int64)
