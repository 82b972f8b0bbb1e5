"""Anomalies found in injected faults, beside two baselines: one table a data set.

    .venv/bin/python -m tests.bench.anomaly_table --cambridge FOLDER --openstef FOLDER [--seeds 1,2,3] [--json]

Each clean stretch of 63 days gets faults by the seed after 28 quiet days. The baselines: three standard deviations of
the forecast's own past errors; and LightGBM on causal changes of value (to the step, day and week before, and ratios),
as winners of the LEAD competition (Kaggle 2022) used them, trained on faults of another seed in the other half of the
meters. A missing step is an alarm of either baseline.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from numpy.typing import NDArray

from jobs.anomalies.run import detect
from models.data_sources import load_cambridge, load_judged
from models.dataset import MeterSeries
from operators.detection.events import Status
from operators.detection.next_step import next_step
from operators.features import CONTEXT_HOURS
from operators.forecaster import Forecaster
from tests.bench.faults import Fault, Score, clean, inject, score

DAYS, WARM_DAYS = 63, 28
JOIN = 3
"""Alarms of a baseline so many steps apart are one event."""
CHANCES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
TRAINING_SEED = 1000
Opened = list[tuple[int, int]]


def main() -> int:
    """Prints the tables, or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cambridge", type=Path, metavar="FOLDER")
    parser.add_argument("--openstef", type=Path, metavar="FOLDER")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--year", type=int, default=2019)
    parser.add_argument("--meters", type=int, default=1000, help="at most so many stretches of a set")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    forecaster = Forecaster.load()
    result: dict[str, Any] = {}
    for name, sets in _data(args):
        found = [_limited(one, args.meters) for one in sets]
        if not found:
            print(f"{name}: no meter is clean for {DAYS} days", file=sys.stderr)
            continue
        totals: dict[str, Score] = {}
        for seed in seeds:
            for stretch in found:
                for method, one in _methods(forecaster, stretch, seed):
                    totals[method] = totals.get(method, Score()) + one
            print(f"{name}, seed {seed}: done", file=sys.stderr)
        result[name] = {method: one.figures() for method, one in totals.items()}
    print(json.dumps(result) if args.json else _table(result))
    return 0


def _data(args: argparse.Namespace) -> Iterator[tuple[str, list[MeterSeries]]]:
    if args.cambridge is not None:
        series = load_cambridge(args.cambridge)
        first, last = series.step_of(args.year), series.step_of(args.year + 1)
        yield f"cambridge {args.year}", list(_stretches(_cut(series, first, last)))
    if args.openstef is not None:
        for name, series in load_judged(args.openstef):
            yield name, list(_stretches(series))


def _cut(series: MeterSeries, first: int, last: int) -> MeterSeries:
    return replace(
        series, start_ms=series.start_ms + first * series.step_s * 1000, kwh=series.kwh[:, first:last],
        utc_offset_s=series.utc_offset_s[first:last],
    )  # fmt: skip


def _stretches(series: MeterSeries) -> Iterator[MeterSeries]:
    """Periods of 63 days one after another, each with the meters that are clean in it."""
    length = DAYS * 24 * series.per_hour
    for first in range(0, series.kwh.shape[1] - length + 1, length):
        part = _cut(series, first, first + length)
        rows = [row for row, kwh in enumerate(part.kwh) if clean(kwh.astype(np.float64), part.per_hour)]
        if rows:
            yield part.take(rows)


def _limited(series: MeterSeries, most: int) -> MeterSeries:
    return series.take(range(min(most, len(series.names))))


def _faulty(series: MeterSeries, seed: int) -> tuple[MeterSeries, list[Fault], int]:
    warm = WARM_DAYS * 24 * series.per_hour
    rows, faults = [], []
    for meter, kwh in enumerate(series.kwh.astype(np.float64)):
        rng = np.random.default_rng([seed, series.start_ms // 86_400_000, meter])
        y, found = inject(kwh, series.per_hour, warm, rng, meter)
        rows.append(y)
        faults += found
    return replace(series, kwh=np.array(rows)), faults, warm


def _methods(forecaster: Forecaster, series: MeterSeries, seed: int) -> Iterator[tuple[str, Score]]:
    faulty, faults, warm = _faulty(series, seed)
    shape, k = faulty.kwh.shape, faulty.per_hour
    events = detect(forecaster, faulty)
    events = events.take(events.status == Status.OPEN)
    steps = (events.at_ms - faulty.start_ms) // (faulty.step_s * 1000) - 1
    opened = list(zip(events.meter.tolist(), steps.tolist(), strict=True))
    yield "energyai", score(opened, faults, warm, shape, k)
    yield "3 sigma of residuals", score(_three_sigma(forecaster, faulty, warm), faults, warm, shape, k)
    yield "value changes (LEAD)", score(_value_changes(series, faulty, seed, warm), faults, warm, shape, k)


def _onsets(alarm: NDArray[np.bool_]) -> Opened:
    opened = []
    for meter, row in enumerate(alarm):
        at = np.flatnonzero(row)
        first = np.append(True, np.diff(at) > JOIN)[: len(at)]
        opened += [(meter, int(step)) for step in at[first]]
    return opened


def _three_sigma(forecaster: Forecaster, series: MeterSeries, warm: int) -> Opened:
    meters, steps = series.kwh.shape
    context = CONTEXT_HOURS * series.per_hour
    error = np.full((meters, steps), np.nan)
    for step in range(context, steps):
        end_ms = np.full(meters, series.start_ms + step * series.step_s * 1000)
        middle = next_step(forecaster, series.kwh[:, step - context : step], end_ms, series.step_s, series.zone)[:, 4]
        error[:, step] = series.kwh[:, step] - middle
    known = np.isfinite(error)
    count = np.cumsum(known, axis=1)
    square = np.cumsum(np.where(known, error, 0.0) ** 2, axis=1)
    past = np.sqrt(square / np.maximum(count, 1))
    sigma = np.concatenate((np.full((meters, 1), np.inf), past[:, :-1]), axis=1)
    return _onsets((np.abs(np.where(known, error, 0.0)) > 3 * sigma) | ~np.isfinite(series.kwh))


def _value_changes(series: MeterSeries, faulty: MeterSeries, seed: int, warm: int) -> Opened:
    if len(series.names) < 2:
        return _onsets(~np.isfinite(faulty.kwh))
    other, other_faults, _ = _faulty(series, seed + TRAINING_SEED)
    marked = np.zeros(other.kwh.shape, np.bool_)
    for fault in other_faults:
        marked[fault.meter, fault.first : fault.stop] = True
    learnt, asked = _changes(other.kwh, other.per_hour, warm), _changes(faulty.kwh, faulty.per_hour, warm)
    alarm = ~np.isfinite(faulty.kwh)
    for half in (0, 1):
        train = np.arange(len(series.names)) % 2 != half
        model = lightgbm.LGBMClassifier(n_estimators=100, num_leaves=31, n_jobs=1, random_state=0, verbose=-1)
        model.fit(learnt[train, warm:].reshape(-1, learnt.shape[2]), marked[train, warm:].reshape(-1))
        own = _chances(model, learnt[train]), ~np.isfinite(other.kwh[train])
        names = np.flatnonzero(train).tolist()
        of_train = [replace(f, meter=names.index(f.meter)) for f in other_faults if train[f.meter]]
        shape = own[0].shape

        def f1(chance: float, own: Any = own, of_train: Any = of_train, shape: Any = shape) -> float:
            found = score(_onsets((own[0] > chance) | own[1]), of_train, warm, shape, series.per_hour)
            return float(found.figures()["f1"])  # type: ignore[arg-type]

        best = max(CHANCES, key=f1)
        alarm[~train] |= _chances(model, asked[~train]) > best
    return _onsets(alarm)


def _chances(model: Any, features: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(model.predict_proba(features.reshape(-1, features.shape[2]))[:, 1]).reshape(features.shape[:2])


def _changes(kwh: NDArray[np.float64], per_hour: int, warm: int) -> NDArray[np.float64]:
    """[m, t, 9] changes of value to earlier steps, in standard deviations of the quiet days, and ratios."""
    scale = np.nanstd(kwh[:, :warm], axis=1, keepdims=True)
    level = np.nanmean(np.abs(kwh[:, :warm]), axis=1, keepdims=True)
    columns = [kwh / level]
    for back in (1, 2, 24 * per_hour, 168 * per_hour):
        before = np.full_like(kwh, np.nan)
        before[:, back:] = kwh[:, :-back]
        columns += [(kwh - before) / scale, kwh / np.where(np.abs(before) > 1e-9, before, np.nan)]
    return np.stack(columns, axis=2)


def _table(result: dict[str, Any]) -> str:
    lines = []
    for name, methods in result.items():
        lines.append(
            f"\n{name}\n| | F1 | precision | recall | delay, steps | false a meter-day | faults | meter-days |"
        )
        lines.append("|---|---|---|---|---|---|---|---|")
        for method, f in methods.items():
            keys = ("f1", "precision", "recall", "delay_steps", "false_a_meter_day", "faults", "meter_days")
            lines.append(f"| {method} | " + " | ".join(str(f[key]) for key in keys) + " |")
        lines += [f"{method}: recall {f['recall_by_kind']}" for method, f in methods.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
