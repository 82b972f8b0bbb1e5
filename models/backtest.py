"""Rolling-origin evaluation: forecasts issued through a past period, each from what was known then, against what came.

The forecaster is given the history before each issue and nothing else; baselines are given the same, with gaps filled
the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import baselines
from models.dataset import MeterSeries, Windows, cut, origins
from models.metrics import Figures, Sums, median, pooled_wql, seasonal_error, worst_decile
from models.rolling import Rolling
from operators.features import CONTEXT_HOURS, HORIZON_HOURS, QUANTILES
from operators.forecaster import Forecaster

MODEL = "model"
CALIBRATED = "model, calibrated"
ENSEMBLE = "persistence ensemble"
REFERENCE = "mean(day, week)"
MEDIAN = len(QUANTILES) // 2
CELLS = 4_000_000
"""Values of quantiles at a time: what bounds the memory."""

Point = NDArray[Any]
Progress = Callable[[float], None]


class BacktestError(ValueError):
    """Nothing to judge; the message is one line and says what to do."""


@dataclass(frozen=True)
class Span:
    """Which issues are judged."""

    start_ms: int | None = None
    """No issue before; None: as soon as there is a week of history. Epoch ms, UTC."""
    end_ms: int | None = None
    """No target after; None: the end of the data."""
    stride_h: int = 25
    """Hours between the issues of a meter; 25 passes through all hours of the day, 24 keeps to one."""


@dataclass
class Judged:
    """Sums of one set of meters on one grid, by forecaster."""

    names: tuple[str, ...]
    step_s: int
    first_ms: int
    last_ms: int
    windows: NDArray[np.int64]
    """[m] forecasts judged."""
    sums: dict[str, Sums]
    seasonal: NDArray[np.float64]
    """[m] kWh: mean absolute difference from the week before in the time before the first issue (or in all of it)."""
    banded: frozenset[str] = field(default_factory=frozenset)
    """Forecasters with quantiles of their own."""

    def figures(self, name: str) -> Figures:
        """Figures of each meter."""
        return Figures.of(self.sums[name], self.seasonal)


def backtest(
    forecaster: Forecaster, series: MeterSeries, span: Span, *, calibrate: bool = True, progress: Progress | None = None
) -> Judged:
    """Judges a forecaster, its calibrated form and the baselines on one set of meters.

    Raises:
        BacktestError: the span has no window.
    """
    first, last = _steps(series, span)
    at = origins(series, first, last, span.stride_h * series.per_hour)
    if not len(at):
        raise BacktestError("no meter has a week of history and a day after it in the chosen period: widen it")
    at = at[np.lexsort((at[:, 0], at[:, 1]))]  # by time of issue: calibration learns as time passes
    meters, horizon = len(series.names), HORIZON_HOURS * series.per_hour
    rolling = Rolling(meters, horizon) if calibrate else None
    sums: dict[str, Sums] = {}
    banded: set[str] = set()
    for done, part in _parts(at, horizon):
        windows = cut(series, part)
        for name, point, quantiles in _forecasts(forecaster, series, windows, part[:, 1], rolling):
            sums.setdefault(name, Sums.zeros(meters)).add(windows.meter, windows.target, point, quantiles)
            if quantiles is not None:
                banded.add(name)
        if progress is not None:
            progress(done)
    week = CONTEXT_HOURS * series.per_hour
    begin = int(at[0, 1])
    past = seasonal_error(series.kwh[:, :begin], week) if begin > week else np.full(meters, np.nan)
    seasonal = np.where(np.isfinite(past), past, seasonal_error(series.kwh[:, :last], week))
    ms = series.step_s * 1000
    start, end = series.start_ms + begin * ms, series.start_ms + int(at[-1, 1] + horizon) * ms
    count = np.bincount(at[:, 0], minlength=meters)
    return Judged(series.names, series.step_s, start, end, count, sums, seasonal, frozenset(banded))


def _steps(series: MeterSeries, span: Span) -> tuple[int, int]:
    steps, ms = series.kwh.shape[1], series.step_s * 1000

    def step(at_ms: int | None, default: int) -> int:
        return default if at_ms is None else min(max(-((series.start_ms - at_ms) // ms), 0), steps)

    return step(span.start_ms, 0), step(span.end_ms, steps)


def _parts(at: NDArray[np.int64], horizon: int) -> Iterator[tuple[float, NDArray[np.int64]]]:
    size = max(1, CELLS // (len(QUANTILES) * horizon))
    for start in range(0, len(at), size):
        yield min(1.0, (start + size) / len(at)), at[start : start + size]


def _forecasts(
    forecaster: Forecaster, series: MeterSeries, windows: Windows, issue: NDArray[np.int64], rolling: Rolling | None
) -> Iterator[tuple[str, Point, Point | None]]:
    """Name, point and quantiles of each forecaster."""
    quantiles = forecaster.predict(
        windows.history, windows.issued_at_ms, series.step_s, windows.utc_offset_s, series.zone or None, windows.weather
    )
    yield "previous week", baselines.previous_week(windows.history), None
    ensemble = baselines.persistence_ensemble(windows.history)
    yield ENSEMBLE, ensemble, baselines.persistence_quantiles(windows.history)
    yield REFERENCE, baselines.mean_day_week(windows.history), None
    yield MODEL, quantiles[:, MEDIAN], quantiles
    if rolling is not None:
        corrected = rolling.corrected(issue, windows.meter, quantiles, windows.target)
        yield CALIBRATED, corrected[:, MEDIAN], corrected


@dataclass(frozen=True)
class Row:
    """One forecaster's figures over a group: medians over meters unless said otherwise; shares of the load."""

    forecaster: str
    nrmse: float
    ratio: float
    """`nrmse` over that of mean(day, week)."""
    worst_decile: float
    """NRMSE that nine of ten meters stay below."""
    nmae: float
    nmbe: float
    mase: float
    wql: float | None
    """Over all steps of all meters together; None without quantiles."""
    wql_ratio: float | None
    """`wql` over that of the persistence ensemble."""
    coverage80: float | None
    """Mean over meters."""
    width80: float | None
    better: int
    """Meters on which NRMSE is below that of every baseline."""
    ashrae: int
    """Meters within ASHRAE Guideline 14's limits for hourly data."""


@dataclass(frozen=True)
class Group:
    """A group of meters, judged."""

    name: str
    meters: int
    windows: int
    rows: list[Row]


def summary(name: str, parts: Sequence[tuple[Judged, NDArray[np.bool_]]]) -> Group | None:
    """The table of a group of meters, which may lie in several sets.

    Args:
        name: of the group.
        parts: each set with a mask of its meters that belong to the group.

    Returns:
        None when no meter of the group was judged.
    """
    order = list(parts[0][0].sums)
    chosen = [(judged, mask & (judged.sums[MODEL].load > 0)) for judged, mask in parts]
    meters = int(sum(mask.sum() for _, mask in chosen))
    if not meters:
        return None
    sums = {each: [judged.sums[each].take(mask) for judged, mask in chosen] for each in order}
    figures = {
        each: [Figures.of(judged.sums[each].take(mask), judged.seasonal[mask]) for judged, mask in chosen]
        for each in order
    }
    banded = frozenset().union(*(judged.banded for judged, _ in chosen))

    def joined(each: str, figure: str) -> NDArray[np.float64]:
        return np.concatenate([getattr(part, figure) for part in figures[each]])

    best = np.min([joined(each, "nrmse") for each in order if each not in (MODEL, CALIBRATED)], axis=0)
    loss = {each: _joint_wql(sums[each]) for each in order}
    reference = median(joined(REFERENCE, "nrmse"))
    rows = []
    for each in order:
        with_band = each in banded
        nrmse = joined(each, "nrmse")
        rows.append(
            Row(
                each,
                median(nrmse),
                _over(median(nrmse), reference),
                worst_decile(nrmse),
                median(joined(each, "nmae")),
                median(joined(each, "nmbe")),
                median(joined(each, "mase")),
                loss[each] if with_band else None,
                _over(loss[each], loss[ENSEMBLE]) if with_band else None,
                float(np.mean(joined(each, "coverage80"))) if with_band else None,
                median(joined(each, "width80")) if with_band else None,
                int((nrmse < best).sum()),
                int(sum(part.ashrae_passes().sum() for part in figures[each])),
            )
        )
    return Group(name, meters, int(sum(judged.windows[mask].sum() for judged, mask in chosen)), rows)


def _over(figure: float, reference: float) -> float:
    """NaN where the reference makes no error at all."""
    return figure / reference if reference > 0 else float("nan")


def _joint_wql(parts: Sequence[Sums]) -> float:
    whole = Sums(*(np.concatenate([getattr(part, name) for part in parts]) for name in Sums.__dataclass_fields__))
    return pooled_wql(whole)
