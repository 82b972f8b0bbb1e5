"""What a forecast costs: processor microseconds of one thread, by rows of a batch, with and without features.

OMP_NUM_THREADS=1 python -m tests.bench.forecast_cost
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import numpy as np

from operators.features import CONTEXT_HOURS, FEATURE_SETS
from operators.forecaster import Forecaster

AT_MS = 1_700_000_000_000
REPEATS = 300


def best_us(work: Callable[[], object], rows: int) -> float:
    """Of one row; the thread's own time, so that other work on the machine hardly counts."""
    best = float("inf")
    for _ in range(REPEATS):
        begun = time.thread_time()
        work()
        best = min(best, time.thread_time() - begun)
    return round(best / rows * 1e6, 1)


def main() -> int:
    """One JSON object a line, a line each size of batch."""
    forecaster = Forecaster.load()
    rng = np.random.default_rng(0)
    for rows in (64, 128, 256, 1024):
        history = rng.random((rows, CONTEXT_HOURS)) + 0.5
        columns = {"window": CONTEXT_HOURS, "extra": FEATURE_SETS[forecaster.feature_set]}
        inputs = {name: rng.random((rows, width), dtype=np.float32) for name, width in columns.items()}
        zones = ["Europe/London"] * rows
        found = {
            "onnxruntime": best_us(lambda inputs=inputs: forecaster._session.run(["quantiles"], inputs), rows),
            "place unknown": best_us(lambda history=history: forecaster.predict(history, AT_MS, 3600), rows),
            "place known": best_us(
                lambda history=history, zones=zones: forecaster.predict(history, AT_MS, 3600, zones=zones), rows
            ),
        }
        print(json.dumps({"rows": rows, "us a forecast": found}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
