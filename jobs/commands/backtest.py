"""`energyai backtest`: how good a forecaster would have been on past readings."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.commands._common import add_json, print_json
from jobs.commands._series import add_series, load_model, load_series, moment, unwritable
from jobs.errors import UserError

if TYPE_CHECKING:
    from models.backtest import Group, Judged, Span
    from models.dataset import MeterSeries
    from operators.forecaster import Forecaster

NAME = "backtest"
HELP = "evaluate a forecaster on past readings"
EPILOG = """\
Forecasts are issued through the period, each from the 168 hours before it, and held against what came, beside the
baselines previous week, persistence ensemble and mean(day, week). "model, calibrated" corrects each meter's bands by
what was over at the time of issue.

  energyai backtest data.parquet --tz Europe/London --from 2021-01-01 --html report.html
  energyai backtest --database-url URL --step quarter --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `backtest`."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_series(parser)
    parser.add_argument("--model", type=Path, metavar="FILE", help="an ONNX model (default: the shipped one)")
    parser.add_argument(
        "--from", dest="start", type=moment, metavar="TIME", help="no issue before (default: the first)"
    )
    parser.add_argument("--to", dest="end", type=moment, metavar="TIME", help="nothing judged after (default: the end)")
    parser.add_argument(
        "--stride-h",
        type=int,
        default=25,
        metavar="H",
        help="hours between a meter's issues; 25 (default) passes through all hours of the day, 24 keeps to one",
    )
    parser.add_argument(
        "--unseen",
        metavar="A,B|FILE",
        help="meters kept out of training, by name or as a card.json of `train`: judged apart from the others",
    )
    parser.add_argument("--no-calibration", action="store_true", help="leave the calibrated form out")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a report with figures, one file")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Judges; 0 when done.

    Raises:
        UserError, ModelError: with one line for the user.
    """
    from models import report
    from models.backtest import Span

    if args.stride_h < 1:
        raise UserError("--stride-h must be 1 or more", 2)
    forecaster = load_model(args.model)
    unseen = _unseen(args.unseen)
    sets = load_series(args)
    span = Span(args.start, args.end, args.stride_h)
    judged = _judged(forecaster, sets, span, calibrate=not args.no_calibration, quiet=args.json)
    groups = _groups(judged, unseen)
    facts: dict[str, Any] = {
        "model_id": forecaster.model_id,
        "model_sha256": forecaster.sha256,
        "stride_h": args.stride_h,
        "first_ms": min(one.first_ms for one in judged),
        "last_ms": max(one.last_ms for one in judged),
    }
    if args.html is not None:
        try:
            args.html.write_text(report.page(facts, groups, judged, unseen), encoding="utf-8")
        except OSError as error:
            raise unwritable(args.html, error) from error
    if args.json:
        print_json(report.as_json(facts, groups, judged))
        return 0
    print(f"{forecaster.model_id}\n\n{report.text(groups)}\n\n{report.LEGEND}")
    if args.html is not None:
        print(f"report: {args.html}")
    return 0


def _judged(
    forecaster: Forecaster, sets: list[MeterSeries], span: Span, *, calibrate: bool, quiet: bool
) -> list[Judged]:
    from rich.console import Console
    from rich.progress import Progress

    from models.backtest import BacktestError, backtest

    judged, refused = [], ""
    console = Console(stderr=True)
    with Progress(console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        for series in sets:
            task = bar.add_task(f"{len(series.names)} meters, {series.step_s // 60} min", total=1.0)
            try:
                judged.append(
                    backtest(
                        forecaster,
                        series,
                        span,
                        calibrate=calibrate,
                        progress=lambda share, task=task: bar.update(task, completed=share),  # type: ignore[misc]
                    )
                )
            except BacktestError as error:
                refused = str(error)
    if not judged:
        raise UserError(refused)
    return judged


def _groups(judged: list[Judged], unseen: frozenset[str] | None) -> list[Group]:
    """All meters; and, when told which, seen and unseen apart."""
    import numpy as np

    from models.backtest import summary

    def masks(wanted: bool | None) -> list[tuple[Judged, Any]]:
        return [
            (one, np.array([wanted is None or (name in (unseen or ())) == wanted for name in one.names]))
            for one in judged
        ]

    wanted: dict[str, bool | None] = {"all meters": None}
    if unseen is not None:
        wanted = {"seen meters": False, "unseen meters": True}
    found = [summary(name, masks(which)) for name, which in wanted.items()]
    groups = [group for group in found if group is not None]
    if not groups:
        raise UserError("no meter had any load in the chosen period: choose another")
    return groups


def _unseen(text: str | None) -> frozenset[str] | None:
    if text is None:
        return None
    path = Path(text)
    if path.suffix != ".json":
        return frozenset(part.strip() for part in text.split(",") if part.strip())
    import json

    try:
        return frozenset(json.loads(path.read_text(encoding="utf-8"))["data"]["unseen"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} names no unseen meters: give a card.json of `energyai train`, or names", 2) from error
