"""Submits jobs from one process: `python -m jobs.client ingest forecast -- --kafka …`. One JVM plans all of them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

JOBS = ("ingest", "forecast", "detect", "alerts", "control", "control_record", "weather")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the main function of each job named before `--` with the arguments after it."""
    words = list(sys.argv[1:] if argv is None else argv)
    at = words.index("--") if "--" in words else len(words)
    for name in words[:at]:
        code = int(importlib.import_module(f"jobs.{name}").main(words[at + 1 :]))
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
