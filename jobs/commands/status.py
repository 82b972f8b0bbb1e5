"""`energyai status`: what runs, and where."""

from __future__ import annotations

import argparse
from contextlib import suppress

from jobs.commands._common import add_data_dir, add_json, coloured, print_json
from jobs.settings import Settings

NAME = "status"
HELP = "what runs, and where"
DOWN = 3
"""Exit code when not everything is up, as service managers use it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `status`."""
    add_data_dir(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the stack's state; exit code 0 when all of it is up, 3 when not."""
    from infra.embedded import state
    from infra.embedded.stack import Stack

    stack = Stack(Settings.load(data_dir=args.data_dir).stack_options())
    status = stack.status()
    up = state.is_up(status)
    if args.json:
        print_json(status)
        return 0 if up else DOWN
    print(f"{coloured(status['phase'])} in {stack.options.data_dir}")
    if status.get("error"):
        print(f"  {status['error']}")
    for name, part in sorted(status["parts"].items()):
        where = f"port {part.get('port') or '-':<6} pid {part.get('pid') or '-':<8}"
        how = f"restarts {part.get('restarts', 0):<3} {memory_mb(part.get('pid'))}"
        print(f"  {name:12} {coloured(part['state'], 10)} {where} {how}")
    if up:
        for name in ("kafka", "database_url", "flink_url", "metrics_url"):
            print(f"{name:13} {status.get(name) or '-'}")
    return 0 if up else DOWN


def memory_mb(pid: int | None) -> str:
    """Memory of a process and its descendants."""
    import psutil

    total = 0
    with suppress(psutil.Error):
        root = psutil.Process(pid) if pid else None
        for process in [root, *root.children(recursive=True)] if root else []:
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return f"{total / 1e6:.0f} MB" if total else ""
