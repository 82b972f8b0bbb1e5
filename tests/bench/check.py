"""Holds an engine's results against the reference: `python -m tests.bench.check`, in the peers' environment.

Prints one JSON object: how many windows were expected, missing, repeated, wrong, unexpected, the largest error, and
when the broker appended the first and the last result.
"""

from __future__ import annotations

import argparse
import json
import sys

import orjson

from tests.bench.drain import batches
from tests.bench.results import Results
from tests.bench.workload import Job, Size, means, reference


def main() -> int:
    """Checks the sink of the run that `BENCH_…` names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--means", action="store_true", help="results are the means themselves, not the network's")
    args = parser.parse_args()
    job = Job.from_environment()
    size = Size(job.meters, job.minutes)
    results = Results(means(size) if args.means else reference(size, job.model))
    first, last = 1 << 62, 0
    for messages in batches(job.kafka, job.sink, committed=True):
        for message in messages:
            value = orjson.loads(message.value())
            results.add(value["meter_id"], value["ts"], value["y"])
            at = message.timestamp()[1]
            first, last = min(first, at), max(last, at)
    print(json.dumps({**results.summary(), "first_ms": first, "last_ms": last}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
