"""The figures of a model's card: seen and unseen meters, and other sources, beside the baselines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.backtest import (
    CALIBRATED,
    ENSEMBLE,
    MODEL,
    REFERENCE,
    BacktestError,
    Group,
    Judged,
    Span,
    backtest,
    summary,
)
from models.dataset import MeterSeries
from models.training import Split
from operators.features import CONTEXT_HOURS
from operators.forecaster import Forecaster

NAMES = {"previous week": "previous_week", ENSEMBLE: "persistence_ensemble", REFERENCE: "mean_day_week", MODEL: "model"}
STRIDES = (("any hour", 25), ("at midnight UTC", 24))


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
    worst_decile: float
    """Percent: NRMSE of the model that nine of ten meters stay below."""
    nmae: float
    """Percent, of the model's median."""
    wql: float
    """Weighted quantile loss over all meters and hours, in units of the load."""
    wql_ratio: float
    """`wql` over that of the persistence ensemble's empirical quantiles."""
    coverage80: float
    """Share of hours between the 0.1 and the 0.9 quantile, mean over meters."""
    coverage80_calibrated: float
    """The same after the rolling calibration of each meter."""
    better: int
    """Meters on which the model's NRMSE is below that of every baseline."""

    @classmethod
    def of(cls, group: Group) -> Score:
        """The card's figures of a group."""
        rows = {row.forecaster: row for row in group.rows}
        model = rows[MODEL]

        def rounded(value: float | None, digits: int = 4) -> float:
            return round(float("nan") if value is None else value, digits)

        return cls(
            group.name,
            group.meters,
            group.windows,
            {short: rounded(100 * rows[name].nrmse, 3) for name, short in NAMES.items()},
            rounded(model.ratio),
            rounded(100 * model.worst_decile, 3),
            rounded(100 * model.nmae, 3),
            rounded(model.wql, 5),
            rounded(model.wql_ratio),
            rounded(model.coverage80),
            rounded(rows[CALIBRATED].coverage80),
            model.better,
        )


def score_split(forecaster: Forecaster, found: Sequence[Split], label: str, first_ms: int, last_ms: int) -> list[Score]:
    """Seen and unseen meters in one period, issued at every hour of the day and at midnight UTC.

    Raises:
        BacktestError: no meter can be judged in that period.
    """
    judged: list[tuple[int, bool, Judged]] = []
    for split in found:
        for _, stride in STRIDES:
            for seen, meters in ((True, split.seen), (False, split.unseen)):
                if not meters:
                    continue
                try:
                    one = backtest(forecaster, split.series.take(meters), Span(first_ms, last_ms, stride))
                except BacktestError as error:
                    refused = error
                    continue
                judged.append((stride, seen, one))
    if not judged:
        raise refused
    return score_groups(label, judged)


def score_groups(label: str, judged: Sequence[tuple[int, bool, Judged]]) -> list[Score]:
    """The figures of meters that were judged in parts: the stride of each part, whether training saw it, its sums."""
    scores = []
    for when, stride in STRIDES:
        for name, seen in (("seen", True), ("unseen", False)):
            parts = [
                (one, _mask(one, range(len(one.names)))) for s, which, one in judged if (s, which) == (stride, seen)
            ]
            group = summary(f"{name} meters, {label}, {when}", parts) if parts else None
            if group is not None:
                scores.append(Score.of(group))
    return scores


def score_whole(forecaster: Forecaster, series: MeterSeries, name: str) -> Score | None:
    """Meters of another source, over all that there is, at every hour of the day; None without load."""
    judged = backtest(forecaster, series, Span())
    group = summary(f"{name} ({series.step_s // 60} min)", [(judged, _mask(judged, range(len(judged.names))))])
    return None if group is None else Score.of(group)


def _mask(judged: Judged, meters: Sequence[int]) -> NDArray[np.bool_]:
    mask = np.zeros(len(judged.names), dtype=np.bool_)
    mask[list(meters)] = True
    return mask


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


def table(scores: Sequence[Score]) -> str:
    """The scores as a Markdown table."""
    head = ["group", "meters", "windows", "previous week", "persistence ens.", "mean(day, week)", "model", "ratio"]
    head += ["worst 10%", "better", "wQL ratio", "80% cov.", "calibrated"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for s in scores:
        cells: list[Any] = [s.group, s.meters, s.windows, *(f"{value:.2f}" for value in s.nrmse.values())]
        cells += [f"{s.ratio:.3f}", f"{s.worst_decile:.1f}", s.better, f"{s.wql_ratio:.3f}"]
        cells += [f"{s.coverage80:.3f}", f"{s.coverage80_calibrated:.3f}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
