"""`energyai submit JOB…`: run jobs on the cluster."""

from __future__ import annotations

import argparse
import sys
import time

from jobs.client import JOBS
from jobs.commands._common import add_data_dir, add_json, print_json
from jobs.errors import UserError
from jobs.flink_rest import ENDED, POLL_S, FlinkRest
from jobs.settings import Settings, addresses
from jobs.submission import submit

NAME = "submit"
HELP = "run jobs on the cluster"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `submit`."""
    parser.add_argument("jobs", nargs="+", choices=JOBS, metavar="JOB", help=" or ".join(JOBS))
    parser.add_argument(
        "--until-complete",
        action="store_true",
        help="read to the topics' present end, close every window, and wait for it",
    )
    parser.add_argument("--savepoint", metavar="PATH", help="start one job from a savepoint or retained checkpoint")
    parser.add_argument("--parallelism", type=int, default=1, metavar="N", help="subtasks of each operator (default 1)")
    parser.add_argument("--model", metavar="FILE", help="ONNX model of `forecast` (default: the shipped one)")
    parser.add_argument("--model-sha256", metavar="HEX", help="the model's checksum")
    add_data_dir(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Submits, and with --until-complete waits; Ctrl-C while waiting cancels what was submitted."""
    settings = Settings.load(data_dir=args.data_dir)
    where = addresses(settings)
    if args.savepoint and len(args.jobs) != 1:
        raise UserError("--savepoint is one job's: submit that job alone", 2)
    options = ["--parallelism", str(args.parallelism)]
    for name in ("savepoint", "model", "model_sha256"):
        if getattr(args, name):
            options += [f"--{name.replace('_', '-')}", getattr(args, name)]
    if args.until_complete:
        options.append("--until-complete")
    flink = FlinkRest(where.flink_url)
    running = {job["name"]: job["jid"] for job in flink.running()}
    for name in args.jobs:
        if f"energyai-{name}" in running:
            raise UserError(f"{name} already runs ({running[f'energyai-{name}']}): `energyai cancel {name}` first")
    ids = submit(settings, where, args.jobs, options)
    states = wait(flink, ids) if args.until_complete else dict.fromkeys(ids, "SUBMITTED")
    if args.json:
        print_json({name: {"job_id": job_id, "state": states[name]} for name, job_id in ids.items()})
    else:
        for name, job_id in ids.items():
            print(f"{name:10} {job_id} {states[name].lower()}   {where.flink_url}/#/job/running/{job_id}/overview")
    return 0


def wait(flink: FlinkRest, ids: dict[str, str]) -> dict[str, str]:
    """The jobs' last states, when all have finished.

    Raises:
        UserError: one failed or was cancelled; says why.
    """
    left = dict(ids)
    try:
        while left:
            for name, job_id in list(left.items()):
                state = flink.state(job_id)
                if state not in ENDED:
                    continue
                if state != "FINISHED":
                    raise UserError(f"{name} {state.lower()}: {flink.cause(job_id)}")
                del left[name]
                print(f"{name} finished", file=sys.stderr)
            time.sleep(POLL_S)
    except BaseException:
        for job_id in left.values():
            flink.cancel_if_running(job_id)
        raise
    return dict.fromkeys(ids, "FINISHED")
