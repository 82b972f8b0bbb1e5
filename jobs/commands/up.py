"""`energyai up`: start the embedded stack in the background."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from typing import Any

from jobs.commands._common import add_data_dir, add_json, print_json
from jobs.errors import UserError
from jobs.settings import MEMORY_SIZE, Settings

NAME = "up"
HELP = "start the embedded Kafka, TimescaleDB and Flink in the background"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `up`; each also has an environment variable (ENERGYAI_KAFKA_PORT, …)."""
    add_data_dir(parser)
    add_json(parser)
    for part, what in (("kafka", "Kafka"), ("database", "TimescaleDB"), ("flink", "Flink's Web UI")):
        parser.add_argument(f"--{part}-port", type=int, metavar="PORT", help=f"port of {what} (default: a free one)")
    parser.add_argument("--memory", metavar="SIZE", help="Flink TaskManager's memory, such as 4g (default 2g)")
    parser.add_argument("--slots", type=int, metavar="N", help="Flink's task slots (default: flink-conf.yaml's)")
    parser.add_argument("--partitions", type=int, metavar="N", help="partitions of new topics (default 4)")
    parser.add_argument("--foreground", action="store_true", help="stay in this terminal until Ctrl-C")


def settings_of(args: argparse.Namespace) -> Settings:
    """Settings with this command's options in their place.

    Raises:
        UserError: an option out of range.
    """
    settings = Settings.load(data_dir=args.data_dir)
    told = {
        "kafka_port": args.kafka_port,
        "database_port": args.database_port,
        "flink_port": args.flink_port,
        "flink_memory": args.memory,
        "flink_slots": args.slots,
        "partitions": args.partitions,
    }
    for name, value in told.items():
        if isinstance(value, int) and not 0 < value <= (65535 if name.endswith("_port") else 10_000):
            raise UserError(f"--{name.replace('_', '-')} {value}: out of range", 2)
    if args.memory and not MEMORY_SIZE.fullmatch(args.memory):
        raise UserError(f"--memory {args.memory}: expected a size such as 2g or 4096m", 2)
    return replace(settings, **{name: value for name, value in told.items() if value is not None})


def run(args: argparse.Namespace) -> int:
    """Starts the stack and prints where it is."""
    from infra.embedded.stack import Stack

    stack = Stack(settings_of(args).stack_options())
    if args.foreground:
        print(f"stack in {stack.options.data_dir}; Ctrl-C stops it", file=sys.stderr)
        return stack.foreground()
    before = stack.status()
    if before["phase"] == "up":
        print(f"already up in {stack.options.data_dir}", file=sys.stderr)
        status = before
    else:
        begun = time.monotonic()
        status = stack.up(Progress())
        print(f"up in {time.monotonic() - begun:.1f} s, in {stack.options.data_dir}", file=sys.stderr)
    if args.json:
        print_json(status)
    else:
        for name in ("kafka", "database_url", "flink_url"):
            print(f"{name:13} {status[name]}")
    return 0


class Progress:
    """Says each part once, when it is up, and each restart."""

    def __init__(self) -> None:
        self._said: set[tuple[str, str, int]] = set()

    def __call__(self, state: dict[str, Any]) -> None:
        for name, part in state.get("parts", {}).items():
            what = part.get("state", "")
            key = (name, what, part.get("restarts", 0))
            if key in self._said or what not in ("up", "restarting", "external"):
                continue
            self._said.add(key)
            after = f" after {part['ready_s']} s" if what == "up" and "ready_s" in part else ""
            why = f": {part['reason']}" if what == "restarting" and part.get("reason") else ""
            print(f"  {name} {what}{after}{why}", file=sys.stderr)
