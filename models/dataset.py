"""Meter series in memory, their split into seen and unseen meters, and windows cut from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from operators.features import (
    CONTEXT_HOURS,
    FEATURE_SET,
    HORIZON_HOURS,
    WITH_WEATHER,
    Floats,
    Inputs,
    has_context,
    model_inputs,
)
from operators.local_time import holiday_flags, is_placed
from operators.meters import DEFAULT_SITE
from operators.weather import Weather

Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class MeterSeries:
    """Series of m meters on one grid of t steps (an hour, or a part of one)."""

    names: tuple[str, ...]
    start_ms: int
    """Start of the first step, epoch ms, UTC."""
    kwh: Floats32
    """[m, t] kWh of each step, NaN = missing."""
    utc_offset_s: NDArray[np.int64]
    """[t] seconds that local time is ahead of UTC at each step's start."""
    step_s: int = 3600
    zone: str = ""
    """IANA time zone of all the meters; empty or UTC: their place is unknown."""
    weather: Weather | None = None
    """Of the meters' sites, and of others; None: training is to have no inputs for it."""
    sites: tuple[str, ...] = ()
    """[m] site of each meter; empty: all at the site `default`."""

    @property
    def per_hour(self) -> int:
        """Steps of an hour."""
        return 3600 // self.step_s

    def take(self, meters: Sequence[int]) -> MeterSeries:
        """The chosen meters only."""
        names = tuple(self.names[i] for i in meters)
        sites = tuple(self.sites[i] for i in meters) if self.sites else ()
        return replace(self, names=names, kwh=self.kwh[list(meters)], sites=sites)

    def site_of(self, meter: int) -> str:
        """Where a meter is."""
        return self.sites[meter] if self.sites else DEFAULT_SITE

    def step_of(self, year: int) -> int:
        """Position of the first step of a year (UTC) on the grid, within [0, t]."""
        ms = int(datetime(year, 1, 1, tzinfo=UTC).timestamp() * 1000)
        steps: int = self.kwh.shape[1]
        return min(max((ms - self.start_ms) // (self.step_s * 1000), 0), steps)


@dataclass(frozen=True)
class Windows:
    """n windows: a week of history and the day after it, in kWh of each step (k an hour)."""

    meter: NDArray[np.int64]
    """[n] position of the meter in its series."""
    history: Floats32
    """[n, 168 * k]."""
    target: Floats32
    """[n, 24 * k]."""
    issued_at_ms: NDArray[np.int64]
    utc_offset_s: NDArray[np.int64]
    weather: Floats32 | None = None
    """[n, 192, 2] as known at issue (`operators.weather`); None: training is to have no inputs for it."""


def load_wide(path: Path, zone: str, *, zero_is_missing: bool) -> MeterSeries:
    """Reads a Parquet file with one column a meter, hourly kWh, indexed by the start of the hour, UTC.

    Args:
        path: the file.
        zone: IANA time zone of the meters.
        zero_is_missing: the source writes missing readings as zero.

    Raises:
        ValueError: the index is not hourly UTC.
    """
    frame = pd.read_parquet(path)
    index = frame.index
    if not isinstance(index, pd.DatetimeIndex) or str(index.tz) != "UTC":
        raise ValueError(f"{path.name}: the index must be the start of each hour in UTC")
    frame = frame.asfreq("h")
    return from_frame(frame.where(frame != 0) if zero_is_missing else frame, zone)


def from_frame(frame: pd.DataFrame, zone: str, step_s: int = 3600) -> MeterSeries:
    """Series from a frame with one column a meter (kWh of each step), indexed by step starts without gaps, UTC."""
    start_ms = int(pd.DatetimeIndex(frame.index)[0].value) // 1_000_000
    kwh = np.ascontiguousarray(frame.to_numpy(dtype=np.float32).T)
    return on_grid(tuple(str(name) for name in frame.columns), start_ms, kwh, zone, step_s)


def on_grid(names: Sequence[str], start_ms: int, kwh: Floats32, zone: str, step_s: int = 3600) -> MeterSeries:
    """Series from an array and the start of its first step, with the local time of their zone."""
    utc = pd.date_range(pd.Timestamp(start_ms, unit="ms", tz="UTC"), periods=kwh.shape[1], freq=f"{step_s}s", unit="s")
    local = utc.tz_convert(zone or "UTC").tz_localize(None).to_numpy().astype(np.int64)
    offset = local - utc.tz_localize(None).to_numpy().astype(np.int64)
    return MeterSeries(tuple(names), start_ms, kwh, offset, step_s, zone)


def split_unseen(meters: int, seed: int, share: float = 0.2) -> tuple[list[int], list[int]]:
    """Positions of the seen and of the unseen meters, drawn by the seed; at least one of each when there are two."""
    order = np.random.default_rng(seed).permutation(meters)
    held_out = min(max(1, round(meters * share)), meters - 1)
    return sorted(order[held_out:].tolist()), sorted(order[:held_out].tolist())


def origins(series: MeterSeries, first: int, last: int, stride: int = 1) -> NDArray[np.int64]:
    """Where windows can be cut: pairs (meter, step of issue), [n, 2].

    Args:
        series: the meters.
        first: the earliest step of issue.
        last: the step that no target may reach.
        stride: steps between the issues of a meter.

    Returns:
        Issues whose history has context and whose target has at least half its steps.
    """
    context, horizon = CONTEXT_HOURS * series.per_hour, HORIZON_HOURS * series.per_hour
    issues = np.arange(max(first, context), last - horizon + 1, stride)
    found = [np.empty((0, 2), dtype=np.int64)]
    for meter, kwh in enumerate(series.kwh if len(issues) else ()):
        known = np.isfinite(kwh)
        views = np.lib.stride_tricks.sliding_window_view(known, context)
        total = np.concatenate(([0], np.cumsum(known)))
        chosen = issues[(total[issues + horizon] - total[issues]) * 2 >= horizon]
        chosen = chosen[has_context(views[chosen - context])]
        found.append(np.stack((np.full_like(chosen, meter), chosen), axis=1))
    return np.concatenate(found)


def cut(series: MeterSeries, at: NDArray[np.int64]) -> Windows:
    """The windows at the given pairs (meter, step of issue), [n, 2]."""
    context, horizon = CONTEXT_HOURS * series.per_hour, HORIZON_HOURS * series.per_hour
    meter, step = at[:, 0], at[:, 1]
    values = series.kwh[meter[:, None], step[:, None] + np.arange(-context, horizon)]
    issued = series.start_ms + step * (series.step_s * 1000)
    weather = None
    if series.weather is not None:
        weather = series.weather.known([series.site_of(each) for each in meter.tolist()], issued)
    return Windows(meter, values[:, :context], values[:, context:], issued, series.utc_offset_s[step], weather)


def inputs_of(windows: Windows, zone: str, shown: NDArray[np.bool_] | None = None) -> tuple[Inputs, Floats]:
    """Model inputs and scales of hourly windows whose meters lie in one zone.

    Args:
        windows: n windows.
        zone: IANA name; empty or UTC: the place is unknown.
        shown: [n] rows that see the calendar; None: all, where the place is known.
    """
    holidays = None
    if is_placed(zone):
        holidays = holiday_flags(zone, windows.issued_at_ms, windows.utc_offset_s)
    feature_set = FEATURE_SET if windows.weather is None else WITH_WEATHER
    times = windows.issued_at_ms, windows.utc_offset_s
    return model_inputs(windows.history, *times, holidays, shown, feature_set, windows.weather)
