"""`energyai jobs`: the cluster's jobs."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from jobs.commands._common import add_data_dir, add_json, print_json
from jobs.flink_rest import FlinkRest
from jobs.settings import Settings, addresses

NAME = "jobs"
HELP = "list the cluster's jobs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `jobs`."""
    parser.add_argument("--all", action="store_true", help="ended ones, too")
    add_data_dir(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Lists them."""
    flink = FlinkRest(addresses(Settings.load(data_dir=args.data_dir)).flink_url)
    shown = flink.jobs() if args.all else flink.running()
    if args.json:
        print_json([{key: job[key] for key in ("jid", "name", "state", "start-time", "duration")} for job in shown])
        return 0
    for job in shown:
        begun = datetime.fromtimestamp(job["start-time"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        print(f"{job['name']:20} {job['state']:10} since {begun}  {job['jid']}")
    if not shown:
        print("no job runs" + ("" if args.all else " (--all shows ended ones)"))
    return 0
