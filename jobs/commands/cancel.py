"""`energyai cancel JOB…`: cancel running jobs; their retained checkpoints stay."""

from __future__ import annotations

import argparse

from jobs.commands._common import add_data_dir, add_json, print_json
from jobs.flink_rest import FlinkRest
from jobs.settings import Settings, addresses

NAME = "cancel"
HELP = "cancel jobs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `cancel`."""
    parser.add_argument("jobs", nargs="+", metavar="JOB", help="ingest, forecast, …, or a job id")
    add_data_dir(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Cancels and waits for the end of each."""
    flink = FlinkRest(addresses(Settings.load(data_dir=args.data_dir)).flink_url)
    found = {name: flink.find(name)["jid"] for name in args.jobs}
    for job_id in found.values():
        flink.cancel(job_id)
    if args.json:
        print_json(found)
    else:
        for name, job_id in found.items():
            print(f"{name} cancelled ({job_id})")
    return 0
