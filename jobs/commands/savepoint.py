"""`energyai savepoint JOB`: save a job's state, to start it again from there, maybe in a newer version."""

from __future__ import annotations

import argparse

from jobs.commands._common import add_data_dir, add_json, print_json
from jobs.flink_rest import FlinkRest
from jobs.settings import Settings, addresses

NAME = "savepoint"
HELP = "save a job's state"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `savepoint`."""
    parser.add_argument("job", metavar="JOB", help="ingest, forecast, …, or a job id")
    parser.add_argument("--stop", action="store_true", help="stop the job with the savepoint")
    add_data_dir(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Saves, and says where and how to go on from it."""
    flink = FlinkRest(addresses(Settings.load(data_dir=args.data_dir)).flink_url)
    job = flink.find(args.job)
    path = flink.savepoint(job["jid"], stop=args.stop)
    if args.json:
        print_json({"job_id": job["jid"], "savepoint": path, "stopped": args.stop})
    else:
        print(path)
        print(f"go on from it: energyai submit {job['name'].removeprefix('energyai-')} --savepoint {path}")
    return 0
