"""How good a forecaster is on meters with a known end: the figures of the card, each beside the baselines'.

python -m models.evaluate --model models/shipped/forecaster.onnx --data DIR [--also DIR …]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import baselines
from models.data_sources import load_cambridge, load_judged
from models.dataset import MeterSeries, Windows, cut, origins, split_unseen
from operators.features import CONTEXT_HOURS, QUANTILES
from operators.forecaster import Forecaster, ModelError

MEDIAN = len(QUANTILES) // 2
Floats = NDArray[Any]


@dataclass(frozen=True)
class Score:
    """Figures of one group of meters over one span; medians over meters unless said otherwise."""

    group: str
    meters: int
    windows: int
    nrmse: dict[str, float]
    """Percent, by forecast: root mean squared error over mean absolute load."""
    ratio: float
    """NRMSE of the model's median over that of mean(day, week)."""
    nmae: float
    """Percent, of the model's median."""
    wql: float
    """Weighted quantile loss over all meters and hours, in units of the load."""
    wql_ratio: float
    """`wql` over that of the persistence ensemble's empirical quantiles."""
    coverage80: float
    """Share of hours between the 0.1 and the 0.9 quantile, mean over meters."""


def per_meter(windows: Windows, figure: Callable[[NDArray[np.int64]], float]) -> NDArray[np.float64]:
    """A figure of each meter from the positions of its windows."""
    return np.array([figure(np.flatnonzero(windows.meter == meter)) for meter in np.unique(windows.meter)])


def nrmse(windows: Windows, point: Floats) -> float:
    """Median over meters of root mean squared error over mean absolute load, percent; missing hours do not count."""

    def one(rows: NDArray[np.int64]) -> float:
        actual = windows.target[rows].astype(np.float64)
        error = point[rows] - actual
        return float(np.sqrt(np.nanmean(error**2)) / np.nanmean(np.abs(actual)))

    return 100 * float(np.median(per_meter(windows, one)))


def weighted_quantile_loss(windows: Windows, quantiles: Floats) -> float:
    """Twice the pinball loss summed over hours, over the sum of absolute load; mean over the nine levels."""
    known = np.isfinite(windows.target)
    losses = []
    for i, level in enumerate(QUANTILES):
        error = (windows.target - quantiles[:, i])[known].astype(np.float64)
        losses.append(2 * np.maximum(level * error, (level - 1) * error).sum())
    return float(np.mean(losses) / np.abs(windows.target[known].astype(np.float64)).sum())


def score(forecaster: Forecaster, series: MeterSeries, group: str, span: range) -> Score:
    """Judges a forecaster on the issues of a span of steps, its stride apart, whose day ends within the span.

    A stride that is no multiple of a day passes through all hours of issue.

    Raises:
        ValueError: the span has no window.
    """
    at = origins(series, span.start, span.stop, span.step)
    if not len(at):
        raise ValueError(f"{group}: no window to judge in the chosen span; choose another year or other data")
    windows = cut(series, at)
    quantiles = forecaster.predict(windows.history, windows.issued_at_ms, series.step_s, windows.utc_offset_s)
    points: dict[str, Floats] = {
        "previous_week": baselines.previous_week(windows.history),
        "persistence_ensemble": baselines.persistence_ensemble(windows.history),
        "mean_day_week": baselines.mean_day_week(windows.history),
        "model": quantiles[:, MEDIAN],
    }
    errors = {name: round(nrmse(windows, point), 3) for name, point in points.items()}
    known = np.isfinite(windows.target)
    inside = (windows.target >= quantiles[:, 0]) & (windows.target <= quantiles[:, -1])

    def nmae(rows: NDArray[np.int64]) -> float:
        miss = np.abs(quantiles[rows, MEDIAN] - windows.target[rows])
        return float(np.nanmean(miss) / np.nanmean(np.abs(windows.target[rows])))

    wql = weighted_quantile_loss(windows, quantiles)
    wql_base = weighted_quantile_loss(windows, baselines.persistence_quantiles(windows.history))
    return Score(
        group,
        len(np.unique(windows.meter)),
        len(at),
        errors,
        round(errors["model"] / errors["mean_day_week"], 4),
        round(100 * float(np.median(per_meter(windows, nmae))), 3),
        round(wql, 5),
        round(wql / wql_base, 4),
        round(float(np.mean(per_meter(windows, lambda rows: float(inside[rows][known[rows]].mean())))), 4),
    )


def score_split(
    forecaster: Forecaster, series: MeterSeries, seen: list[int], unseen: list[int], year: int
) -> list[Score]:
    """Seen and unseen meters over one year, at every hour of the day (stride 25) and at midnight UTC (stride 24)."""
    first, last = series.step_of(year), series.step_of(year + 1)
    return [
        score(forecaster, series.take(meters), f"{name} meters, {year}, {when}", range(first, last, stride))
        for when, stride in (("any hour", 25), ("at midnight", 24))
        for name, meters in (("seen", seen), ("unseen", unseen))
    ]


def score_whole(forecaster: Forecaster, series: MeterSeries, group: str) -> Score:
    """Meters of another source, over all that there is, at every hour of the day."""
    steps = series.kwh.shape[1]
    span = range(0, steps, 25 * series.per_hour + 1)
    return score(forecaster, series, f"{group} ({series.step_s // 60} min)", span)


def cost_us(forecaster: Forecaster, rows: int, repeats: int = 50) -> float:
    """Processor microseconds of a 24 h forecast, features included, in batches of `rows`: the best of some runs.

    All of it runs in the calling thread, whose own time is taken: other work on the machine does not count.
    """
    history = np.random.default_rng(0).random((rows, CONTEXT_HOURS)) + 0.5
    best = float("inf")
    for _ in range(repeats):
        started = time.thread_time()
        forecaster.predict(history, 0, 3600)
        best = min(best, time.thread_time() - started)
    return best / rows * 1e6


def table(scores: list[Score]) -> str:
    """The scores as a Markdown table."""
    names = (
        "meters | windows | previous week | persistence ens. | mean(day, week) | model | ratio | wQL ratio | 80% cov."
    )
    lines = [f"| group | {names} |", "|---" * 10 + "|"]
    for s in scores:
        errors = [f"{value:.2f}" for value in s.nrmse.values()]
        shares = [f"{value:.3f}" for value in (s.ratio, s.wql_ratio, s.coverage80)]
        lines.append("| " + " | ".join([s.group, str(s.meters), str(s.windows), *errors, *shares]) + " |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """The command line; exit code 2 on a bad argument or file."""
    parser = argparse.ArgumentParser(prog="python -m models.evaluate", description="Judge an exported forecaster.")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Cambridge Estates archive")
    parser.add_argument("--also", type=Path, action="append", default=[], help="folder of other series, judged only")
    parser.add_argument("--seed", type=int, default=0, help="of the split into seen and unseen meters")
    parser.add_argument("--year", type=int, default=2021)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    try:
        forecaster = Forecaster.load(args.model)
        series = load_cambridge(args.data)
        seen, unseen = split_unseen(len(series.names), args.seed)
        scores = score_split(forecaster, series, seen, unseen, args.year)
        scores += [
            score_whole(forecaster, other, other_name) for path in args.also for other_name, other in load_judged(path)
        ]
    except (ModelError, OSError, ValueError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    if args.json:
        import json

        print(json.dumps([asdict(s) for s in scores]))
    else:
        print(table(scores))
        costs = [f"{cost_us(forecaster, rows):.1f} in batches of {rows}" for rows in (64, 4096)]
        print(f"µs a forecast: {', '.join(costs)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
