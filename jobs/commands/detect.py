"""`energyai detect`: anomalies of past readings, found step by step, each by what was known before it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.commands._common import add_json, print_json
from jobs.commands._series import add_series, load_model, load_series
from jobs.errors import UserError

if TYPE_CHECKING:
    from models.dataset import MeterSeries
    from operators.detection.detector import Settings
    from operators.forecaster import Forecaster

NAME = "detect"
HELP = "find anomalies in past readings"
EPILOG = """\
Each step is judged by what was known before it: a week of readings for the first forecast, and two days of forecasts
before the first alarm of spikes, drops and shifts.

  energyai detect data.parquet --tz Europe/London
  energyai detect --database-url URL --step quarter --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `detect`."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_series(parser)
    parser.add_argument("--model", type=Path, metavar="FILE", help="an ONNX model (default: the shipped one)")
    parser.add_argument("--max-kw", type=float, metavar="KW", help="what each meter's connection can carry")
    parser.add_argument(
        "--alarms-a-day",
        type=float,
        metavar="N",
        help="alarms of one meter that chance alone may give a day (default: 0.008); more finds smaller anomalies",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints what was found; 0, whether there was something or not.

    Raises:
        UserError, ModelError: with one line for the user.
    """
    from operators.detection.detector import DEFAULT

    settings = DEFAULT
    if args.alarms_a_day is not None:
        if not 0 < args.alarms_a_day <= 1:
            raise UserError("--alarms-a-day must be more than 0 and at most 1", 2)
        settings = replace(DEFAULT, alarms_a_day=args.alarms_a_day)
    if args.max_kw is not None and not args.max_kw > 0:
        raise UserError("--max-kw must be more than 0", 2)
    forecaster = load_model(args.model)
    sets = load_series(args)
    found = sorted(_found(forecaster, sets, settings, args), key=lambda row: (row["start"], row["meter_id"]))
    if args.json:
        print_json({"model_id": forecaster.model_id, "meters": sum(len(s.names) for s in sets), "anomalies": found})
        return 0
    print(f"{'meter':<16} {'kind':<12} {'from':<21} {'to':<21} {'kWh':>12} {'expected':>12} {'chance':>9}")
    for row in found:
        kwh, expected = ("-" if row[name] is None else f"{row[name]:.2f}" for name in ("observed_kwh", "expected_kwh"))
        print(
            f"{row['meter_id']:<16} {row['kind']:<12} {row['start']:<21} {row['end'] or 'goes on':<21} "
            f"{kwh:>12} {expected:>12} {row['score']:>9.1g}"
        )
    print(f"{len(found)} anomalies of {sum(len(s.names) for s in sets)} meters")
    return 0


def _found(
    forecaster: Forecaster, sets: list[MeterSeries], settings: Settings, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """The last word on each event."""
    import numpy as np
    from rich.console import Console
    from rich.progress import Progress

    from jobs.anomalies.run import detect

    last: dict[str, dict[str, Any]] = {}
    console = Console(stderr=True)
    with Progress(console=console, disable=args.json or not console.is_terminal, transient=True) as bar:
        for series in sets:
            task = bar.add_task(f"{len(series.names)} meters, {series.step_s // 60} min", total=1.0)
            max_kw = np.full(len(series.names), np.nan if args.max_kw is None else args.max_kw)
            events = detect(
                forecaster,
                series,
                settings,
                max_kw=max_kw,
                progress=lambda share, task=task: bar.update(task, completed=share),  # type: ignore[misc]
            )
            last |= {row["anomaly_id"]: row for row in events.messages(series.names, forecaster.model_id)}
    return list(last.values())
