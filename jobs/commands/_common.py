"""What several commands share: `--data-dir`, `--json`, and colour only for a terminal."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

COLOURS = {"up": "32", "external": "36", "ok": "32", "warn": "33", "starting": "33", "restarting": "33", "fail": "31"}


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    """`--data-dir DIR`: which stack is meant."""
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="the stack's folder (default: .energyai/data)")


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`: for programs."""
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")


def print_json(value: Any) -> None:
    """One JSON object on one line."""
    print(json.dumps(value))


def coloured(state: str, width: int = 0) -> str:
    """A state's word, padded, in its colour when standard output is a terminal that wants colour."""
    text = state.ljust(width)
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{COLOURS.get(state, '31')}m{text}\x1b[0m"
