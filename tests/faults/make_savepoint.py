"""Writes the fixture of `test_upgrade.py`: savepoints of the present jobs, for later versions to start from.

.venv/bin/python -m tests.faults.make_savepoint

Run it at each release whose state has changed, and add the file under a new name; a file that exists is left alone
unless --replace is given.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from infra.embedded.options import StackOptions
from infra.embedded.stack import Stack
from jobs.cli import VERSION
from jobs.submission import submit
from tests.faults.chaos import Chaos, until
from tests.faults.saved import FILE, PREFIX, Saved
from tests.faults.schedule import schedule
from tests.faults.traffic import Producer, traffic
from tests.pipeline import Deployment

SEED = 1
METERS = 4
DAYS = 8


def main() -> int:
    """Runs the jobs on a stack of its own, saves them in mid-stream, packs the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FILE, help="where to write it (default: tests/faults/fixtures)")
    parser.add_argument("--replace", action="store_true", help="replace a file that is there")
    args = parser.parse_args()
    if args.out.exists() and not args.replace:
        print(f"error: {args.out} exists: give another --out, or --replace", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(StackOptions(Path(folder)))
        with stack.running():
            make(stack, args.out)
    print(f"{args.out}: {args.out.stat().st_size / 1024:.0f} kB")
    return 0


def make(stack: Stack, out: Path) -> None:
    """The same on a stack that runs."""
    plan = replace(schedule(SEED), duplicates=0.0, poison=0.0, faults=())
    load = traffic(plan, PREFIX, METERS, DAYS)
    records = [*load.context, *load.records, *load.closing]
    before = len(load.context) + len(load.records) // 2
    deployment = Deployment.on(stack, PREFIX)
    ids = submit(deployment.settings, deployment.where, ("ingest", "forecast"), deployment.options)
    chaos = Chaos(stack, deployment, ids)
    try:
        producer = Producer(deployment.where.kafka, PREFIX + "meter.readings")
        producer.send(records[:before])
        producer.close()
        until(
            lambda: deployment.issues(PREFIX) and len(deployment.readings(PREFIX)) == before, "readings and forecasts"
        )
        savepoints = {job: Path(unquote(urlsplit(chaos.stop(job)).path)) for job in ("ingest", "forecast")}
    finally:
        chaos.end()
    stored, issued = sorted(deployment.readings(PREFIX)), sorted(deployment.issues(PREFIX))
    Saved(SEED, VERSION, records, before, stored, issued).write(out, savepoints)


if __name__ == "__main__":
    sys.exit(main())
