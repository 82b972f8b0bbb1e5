"""What could still be got out of the shipped model's forecasts: nothing here is a model to use.

python -m tests.bench.forecast_limits --data cambridge-estates [--also vic-elec-30min]

Each line is a question and its answer as JSON. Corrections of the model's errors by ordinary least squares say how much
an input could give that it does not have; where they are fitted on the judged year itself, how much at most.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models import baselines
from models.data_sources import CAMBRIDGE_FILE, load_cambridge
from models.dataset import MeterSeries, Windows, cut, from_frame, load_wide, origins, split_unseen
from operators.features import CONTEXT_HOURS, HORIZON_HOURS
from operators.forecaster import Forecaster

FITTED, JUDGED = 2019, 2021
WEEK = CONTEXT_HOURS
COVARIATES = "covariates_hourly_2015_2021.parquet"
Floats = NDArray[Any]


@dataclass(frozen=True)
class Judged:
    """Windows of one period, their forecasts, and NRMSE by meter."""

    series: MeterSeries
    at: NDArray[np.int64]
    windows: Windows
    quantiles: Floats
    reference: Floats

    @classmethod
    def of(cls, series: MeterSeries, first: int, last: int, stride: int, earliest: int = WEEK) -> Judged:
        at = origins(series, max(first, earliest), last, stride)
        windows = cut(series, at)
        return cls(series, at, windows, forecast(series, at), baselines.mean_day_week(windows.history))

    def nrmse(self, point: Floats) -> Floats:
        """[m], NaN for a meter without load."""
        known = np.isfinite(self.windows.target)
        meters = len(self.series.names)

        def total(values: Floats) -> Floats:
            return np.bincount(self.windows.meter, np.where(known, values, 0).sum(axis=1), meters)

        with np.errstate(divide="ignore", invalid="ignore"):
            count = total(np.ones(known.shape))
            return np.sqrt(total((point - self.windows.target) ** 2) / count) / (
                total(np.abs(self.windows.target)) / count
            )

    def ratio(self, point: Floats, meters: Sequence[int]) -> float:
        """Median NRMSE over that of mean(day, week)."""
        of = list(meters)
        return round(float(np.nanmedian(self.nrmse(point)[of]) / np.nanmedian(self.nrmse(self.reference)[of])), 3)


def forecast(series: MeterSeries, at: NDArray[np.int64]) -> Floats:
    """Quantiles of the shipped model at pairs (meter, hour): [n, 9, 24]."""
    windows = cut(series, at)
    return Forecaster.load().predict(windows.history, windows.issued_at_ms, 3600, zones=series.zone)


def year(series: MeterSeries, which: int, stride: int = 25, earliest: int = WEEK) -> Judged:
    """The windows of one year."""
    return Judged.of(series, series.step_of(which), series.step_of(which + 1), stride, earliest)


def points(series: MeterSeries, raw: MeterSeries) -> dict[str, Any]:
    """Ratios by the point that is taken, by the hours of issue, by how gaps are read, and by who is kept out."""
    seen, unseen = split_unseen(len(series.names), 0)
    any_hour, midnight, zeros = year(series, JUDGED), year(series, JUDGED, 24), year(raw, JUDGED, 24)
    median = any_hour.quantiles[:, 4]
    whole = np.isfinite(midnight.windows.history).all(axis=1) & np.isfinite(midnight.windows.target).all(axis=1)
    at = midnight.at[whole]
    strict = Judged(series, at, cut(series, at), midnight.quantiles[whole], midnight.reference[whole])
    by_meter = any_hour.nrmse(median) / any_hour.nrmse(any_hour.reference)
    meter, target = any_hour.windows.meter, any_hour.windows.target
    load = np.array(
        [np.nanmean(np.abs(target[meter == m])) if (meter == m).any() else np.nan for m in range(len(raw.names))]
    )
    errors = [
        np.nanmean(((target - point) / load[meter][:, None]) ** 2, axis=0) for point in (median, any_hour.reference)
    ]
    seeds = [any_hour.ratio(median, split_unseen(len(series.names), seed)[1]) for seed in range(6)]
    return {
        "median as the point, seen and unseen": [any_hour.ratio(median, part) for part in (seen, unseen)],
        "mean of the quantiles": [any_hour.ratio(any_hour.quantiles.mean(axis=1), part) for part in (seen, unseen)],
        "geometric mean of ratios": [
            round(float(np.exp(np.nanmean(np.log(by_meter[part])))), 3) for part in (seen, unseen)
        ],
        "at midnight UTC, seen": midnight.ratio(midnight.quantiles[:, 4], seen),
        "zeros are readings": zeros.ratio(zeros.quantiles[:, 4], seen),
        "only windows without gaps": strict.ratio(strict.quantiles[:, 4], seen),
        "kept out by seeds 0 to 5": seeds,
        "hours ahead 1, 6, 24": np.sqrt(errors[0] / errors[1])[[0, 5, 23]].round(2).tolist(),
    }


def history_left(series: MeterSeries) -> dict[str, float]:
    """RMSE with a correction over that without, by what the correction sees; fitted on another year."""
    fitted, judged = (year(series, which, 49, 5 * WEEK) for which in (FITTED, JUDGED))
    seen = {"own error of the day before": _own_error, "weeks 2 to 4 before": _weeks_before}
    return {name: _corrected(fitted, judged, columns) for name, columns in seen.items()}


def _own_error(one: Judged) -> list[Floats]:
    before = one.at - np.array([0, HORIZON_HOURS])
    error = cut(one.series, before).target - forecast(one.series, before)[:, 4]
    return [error, np.broadcast_to(np.nanmean(error, axis=1, keepdims=True), error.shape)]


def _weeks_before(one: Judged) -> list[Floats]:
    return [cut(one.series, one.at - np.array([0, weeks * WEEK])).target - one.quantiles[:, 4] for weeks in range(1, 5)]


def _corrected(fitted: Judged, judged: Judged, columns: Any) -> float:
    (inputs, wanted), (other, error) = (_scaled(one, columns(one)) for one in (fitted, judged))
    left = error.copy()
    for hour in range(HORIZON_HOURS):
        used = np.isfinite(inputs[:, hour]).all(axis=1) & np.isfinite(wanted[:, hour])
        weight = 1 / (0.02 + np.sqrt(np.nanmean(wanted**2, axis=1)))[used]
        x, y = inputs[used, hour] * weight[:, None], wanted[used, hour] * weight
        slopes = np.linalg.solve(x.T @ x + np.eye(x.shape[1]), x.T @ y)
        known = np.isfinite(other[:, hour]).all(axis=1)
        left[known, hour] -= other[known, hour] @ slopes
    return _median_share(judged.windows.meter, left, error)


def _scaled(one: Judged, columns: list[Floats]) -> tuple[Floats, Floats]:
    level = np.nanmean(np.abs(one.windows.history), axis=1)[:, None]
    return np.stack(columns, axis=-1) / level[..., None], (one.windows.target - one.quantiles[:, 4]) / level


def weather_bound(one: Judged, covariates: Sequence[Floats]) -> float:
    """RMSE with over without, when each meter's slopes are fitted on the very windows and the weather is foreseen."""
    hours = np.arange(HORIZON_HOURS)
    columns = [np.ones(one.windows.target.shape)]
    for number, values in enumerate(covariates):
        days = np.stack([values[(one.at[:, 1] - WEEK + 24 * day)[:, None] + hours] for day in range(7)])
        coming = values[one.at[:, 1][:, None] + hours]
        change = coming - days.mean(axis=0)
        columns += [np.maximum(change, 0), np.minimum(change, 0), coming - days[-1]]
        if number == 0:
            columns += [change * (coming > 18), change * (coming < 8)]  # °C: cooling and heating
    inputs, error = np.stack(columns, axis=-1), one.windows.target - one.quantiles[:, 4]
    left = np.full(error.shape, np.nan)
    for meter in np.unique(one.windows.meter):
        rows = one.windows.meter == meter
        used = rows[:, None] & np.isfinite(error) & np.isfinite(inputs).all(axis=-1)
        slopes = np.linalg.lstsq(inputs[used], error[used], rcond=None)[0]
        left[used] = error[used] - inputs[used] @ slopes
    return _median_share(one.windows.meter, left, np.where(np.isfinite(left), error, np.nan))


def _median_share(meter: NDArray[np.int64], left: Floats, whole: Floats) -> float:
    shares = [np.sqrt(np.nanmean(left[meter == m] ** 2) / np.nanmean(whole[meter == m] ** 2)) for m in np.unique(meter)]
    return round(float(np.nanmedian(shares)), 3)


def main(argv: Sequence[str] | None = None) -> int:
    """Questions and answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the Cambridge archive")
    parser.add_argument("--also", type=Path, metavar="DIR", help="with vic_electricity.csv")
    args = parser.parse_args(argv)
    series = load_cambridge(args.data)
    print(json.dumps(points(series, load_wide(args.data / CAMBRIDGE_FILE, series.zone, zero_is_missing=False))))
    print(json.dumps(history_left(series)))
    frame = pd.read_parquet(args.data / COVARIATES).asfreq("h")
    temperature, sun = (frame[name].to_numpy() for name in ("air_temperature_degC", "global_irradiance_Wm2"))
    found = {}
    for which in (FITTED, JUDGED):
        one = year(series, which)
        found[f"{which}: temperature, and sun"] = [weather_bound(one, of) for of in ([temperature], [temperature, sun])]
    if args.also is not None:
        hourly = (pd.read_csv(args.also / "vic_electricity.csv", parse_dates=["Time"], index_col="Time").resample("h"))[
            ["Demand", "Temperature"]
        ].mean()
        demand = from_frame(hourly[["Demand"]], "Australia/Melbourne")
        found["Victoria: temperature"] = [
            weather_bound(Judged.of(demand, 0, demand.kwh.shape[1], 25), [hourly["Temperature"].to_numpy()])
        ]
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
