"""`energyai down`: stop the embedded stack."""

from __future__ import annotations

import argparse
import time

from jobs.commands._common import add_data_dir
from jobs.settings import Settings

NAME = "down"
HELP = "stop the embedded stack; data stays"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `down`."""
    add_data_dir(parser)


def run(args: argparse.Namespace) -> int:
    """Stops what runs; nothing running is no error."""
    from infra.embedded.stack import Stack

    stack = Stack(Settings.load(data_dir=args.data_dir).stack_options())
    begun = time.monotonic()
    if stack.down():
        print(f"down in {time.monotonic() - begun:.1f} s; data stays in {stack.options.data_dir}")
    else:
        print(f"nothing runs in {stack.options.data_dir}")
    return 0
