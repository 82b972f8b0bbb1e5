"""Holds the forecasts of workload R against the reference: `python -m tests.bench.check_r METERS QUARTERS`.

In the peers' environment, told by `BENCH_…`. Prints one JSON object, as tests.bench.check does.
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import orjson

from operators.forecast_messages import QUANTILE_NAMES
from tests.bench.drain import batches
from tests.bench.realistic import CLOSING, START_MS, STEP_MS, WEEK, Size, meter_number, reference
from tests.bench.results import Results


def main() -> int:
    """Checks all messages of the sink."""
    size = Size(int(sys.argv[1]), int(sys.argv[2]))
    expected = np.stack([reference(size, issue) for issue in range(size.quarters)], axis=1)
    results = Results(np.zeros((size.meters, size.quarters)))
    first, last = 1 << 62, 0
    for messages in batches(os.environ["BENCH_KAFKA"], os.environ["BENCH_SINK"], committed=True):
        for message in messages:
            value = orjson.loads(message.value())
            at = message.timestamp()[1]
            first, last = min(first, at), max(last, at)
            if value["meter_id"].startswith(CLOSING):
                continue
            issued = np.datetime64(value["issued_at"].rstrip("Z"), "ms").astype(np.int64)
            number, issue = meter_number(value["meter_id"]), int((issued - START_MS) // STEP_MS) - WEEK
            if not (0 <= number < size.meters and 0 <= issue < size.quarters):
                results.unexpected += 1
                continue
            found = np.array([value["kwh"][name] for name in QUANTILE_NAMES], np.float32)
            wanted = expected[number, issue]
            results.note(number, issue, float(np.abs(found - wanted).max() / max(1e-9, np.abs(wanted).max())))
    print(json.dumps({**results.summary(), "first_ms": first, "last_ms": last}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
