"""`energyai`: the command line. A subcommand is a module with NAME, HELP, add_arguments(parser) and run(args)."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence

VERSION = "0.1.0"
# Name → module and help, written here too so that `energyai --help` imports none of them (pandas alone takes a second).
COMMANDS: Mapping[str, tuple[str, str]] = {
    "up": ("jobs.commands.up", "start the embedded Kafka, TimescaleDB and Flink in the background"),
    "down": ("jobs.commands.down", "stop them; data stays"),
    "status": ("jobs.commands.status", "what runs, and where"),
    "doctor": ("jobs.commands.doctor", "check versions, ports, memory, disk and connections; say how to mend"),
    "demo": ("jobs.commands.demo", "the main job on real meters, with a live display"),
    "submit": ("jobs.commands.submit", "run jobs on the cluster"),
    "cancel": ("jobs.commands.cancel", "cancel jobs"),
    "savepoint": ("jobs.commands.savepoint", "save a job's state"),
    "jobs": ("jobs.commands.jobs", "list the cluster's jobs"),
    "replay": ("jobs.replay.command", "put files of readings on meter.readings"),
    "alerts": ("jobs.commands.alerts", "list, show, acknowledge, silence and deliver alerts"),
    "config": ("jobs.commands.config", "sites, meters, assets and alert rules"),
    "train": ("jobs.commands.train", "train a forecaster"),
    "backtest": ("jobs.commands.backtest", "evaluate a forecaster on past readings"),
    "predict": ("jobs.commands.predict", "forecast one meter's next 24 hours from its past readings"),
    "detect": ("jobs.commands.detect", "find anomalies in past readings"),
    "models": ("jobs.commands.models", "list, promote and roll back model versions"),
    "explain": ("jobs.commands.explain", "what a setpoint was made from, and what came of it"),
    "simulate": ("jobs.commands.simulate", "control policies on recorded series, side by side"),
    "report": ("jobs.commands.report", "reports for analysts, managers and consultants"),
}

OUR_PACKAGES = ("jobs", "operators", "models", "infra")
"""An error class of ours is written for the person at the terminal."""


def available() -> dict[str, tuple[str, str]]:
    """The commands whose module is there."""
    return {name: entry for name, entry in COMMANDS.items() if _is_there(entry[0])}


def _is_there(module: str) -> bool:
    # By file, not by find_spec, which would import the packages on the way.
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - pathlib takes 20 ms
    return os.path.isfile(os.path.join(root, *module.split(".")) + ".py")  # noqa: PTH113, PTH118


def build_parser(chosen: str | None) -> argparse.ArgumentParser:
    """The parser, with the arguments of the chosen command only: no other module is imported."""
    parser = argparse.ArgumentParser(
        prog="energyai",
        description="Meter readings into forecasts, alerts and setpoints.",
        epilog="Settings are environment variables with the prefix ENERGYAI_; `energyai doctor` shows them.",
    )
    parser.add_argument("--version", action="version", version=f"energyai {VERSION}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, (module, text) in available().items():
        sub = subparsers.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == chosen:
            implementation = importlib.import_module(module)
            implementation.add_arguments(sub)
            sub.set_defaults(run=implementation.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code (1 an error, 2 wrong arguments, 130 interrupted)."""
    words = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in words if not word.startswith("-")), None)
    debug = os.environ.get("ENERGYAI_DEBUG", "") not in ("", "0")
    try:
        parser = build_parser(chosen)
        args = parser.parse_args(words)
        if args.command is None:
            parser.print_help()
            return 2
        code = args.run(args)
        sys.stdout.flush()
        return int(code or 0)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # `energyai … | head`: the reader has enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if debug:
            raise
        print(f"error: {one_line(error)}", file=sys.stderr)
        code = getattr(error, "exit_code", None)
        return code if isinstance(code, int) else 1


def one_line(error: BaseException) -> str:
    """An error as one line; one that nobody foresaw says its type and how to see more."""
    text = " ".join(str(error).split())
    if type(error).__module__.partition(".")[0] in OUR_PACKAGES:
        return text
    return f"{type(error).__name__}: {text} (ENERGYAI_DEBUG=1 shows where)"


if __name__ == "__main__":
    sys.exit(main())
