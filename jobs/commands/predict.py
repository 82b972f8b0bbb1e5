"""`energyai predict`: the next 24 hours of one meter, from the command line."""

from __future__ import annotations

import argparse
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from jobs.commands._common import add_json, print_json
from jobs.commands._series import add_series, load_model, load_series, moment
from jobs.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from models.dataset import MeterSeries

NAME = "predict"
HELP = "forecast one meter's next 24 hours from its past readings"
EPILOG = """\
The forecast that the job would issue at --at, from the 168 hours before it; nothing later is looked at, and where it is
known it is shown beside the forecast.

  energyai predict b2 data.parquet --tz Europe/London --at 2021-06-01
  energyai predict b2 --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `predict`."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("meter", metavar="METER", help="meter id")
    add_series(parser)
    parser.add_argument("--at", type=moment, metavar="TIME", help="time of issue (default: the end of the newest step)")
    parser.add_argument("--model", type=Path, metavar="FILE", help="an ONNX model (default: the shipped one)")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints a forecast; 0.

    Raises:
        UserError, ModelError: with one line for the user.
    """
    import numpy as np

    from operators.features import QUANTILES

    forecaster = load_model(args.model)
    args.columns = (args.meter,)
    series = _series_of(load_series(args), args.meter)
    step = _issue(series, args.at)
    history, actual = _windows(series, step)
    issued_ms = series.start_ms + step * series.step_s * 1000
    weather = None
    if series.weather is not None:
        weather = series.weather.known([series.site_of(0)], np.array([issued_ms], np.int64))
    quantiles = forecaster.predict(history, issued_ms, series.step_s, 0, series.zone or None, weather)[0]
    if args.json:
        print_json(
            {
                "meter_id": args.meter,
                "issued_at": _utc(issued_ms),
                "target_start": _utc(issued_ms),
                "step_s": series.step_s,
                "kwh": {f"q{round(100 * q)}": values.tolist() for q, values in zip(QUANTILES, quantiles, strict=True)},
                "actual_kwh": [None if math.isnan(value) else value for value in actual.tolist()],
                "model_id": forecaster.model_id,
                "model_sha256": forecaster.sha256,
            }
        )
        return 0
    place = ZoneInfo(series.zone or "UTC")
    print(f"{args.meter}, issued {_utc(issued_ms)}, {forecaster.model_id}")
    print(f"{place.key + ' time':<24}{'10%':>12}{'median':>12}{'90%':>12}{'actual':>12}   kWh of each step")
    for i in range(quantiles.shape[1]):
        at = datetime.fromtimestamp(issued_ms / 1000 + i * series.step_s, place)
        low, middle, high = (f"{quantiles[level, i]:12.3f}" for level in (0, len(QUANTILES) // 2, -1))
        came = "-" if math.isnan(actual[i]) else f"{actual[i]:.3f}"
        print(f"{at.strftime('%Y-%m-%d %H:%M'):<24}{low}{middle}{high}{came:>12}")
    return 0


def _series_of(sets: list[MeterSeries], meter: str) -> MeterSeries:
    for series in sets:
        if meter in series.names:
            return series.take([series.names.index(meter)])
    raise UserError(f"no readings of meter {meter}: name one that is there")


def _issue(series: MeterSeries, at_ms: int | None) -> int:
    """The step at whose start the forecast is issued."""
    import numpy as np

    known = np.flatnonzero(np.isfinite(series.kwh[0]))
    if not len(known):
        raise UserError(f"meter {series.names[0]} has no measured step: give more data")
    if at_ms is None:
        return int(known[-1]) + 1
    step, rest = divmod(at_ms - series.start_ms, series.step_s * 1000)
    if rest:
        raise UserError(f"--at must be the end of a step of {series.step_s // 60} minutes", 2)
    return int(step)


def _windows(series: MeterSeries, step: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The history [1, 168 * k] before a step, and what came after it where it is known [24 * k]."""
    import numpy as np

    from operators.features import CONTEXT_HOURS, HORIZON_HOURS, has_context

    before, after = CONTEXT_HOURS * series.per_hour, HORIZON_HOURS * series.per_hour
    steps = series.kwh.shape[1]
    if step < before or step > steps:
        first, last = (_utc(series.start_ms + at * series.step_s * 1000) for at in (before, steps))
        raise UserError(f"--at must lie between {first} and {last}: a week of readings is needed before it", 2)
    history = series.kwh[:, step - before : step]
    if not has_context(np.isfinite(history))[0]:
        raise UserError("too little is known: the newest step, and half of the week before it, must be measured")
    actual = np.full(after, np.nan, dtype=np.float32)
    came = series.kwh[0, step : step + after]
    actual[: len(came)] = came
    return history, actual


def _utc(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
