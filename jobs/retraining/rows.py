"""A meter's series as one row of a Spark table, and back; and what a row of a meter becomes, without Spark."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models import training
from models.dataset import MeterSeries, Windows, cut, on_grid
from models.drawing import ROUND, Plan, batch_of, draws, key_of
from models.training import Part
from operators.features import CONTEXT_HOURS, HORIZON_HOURS, WEATHER_HOURS, WEATHER_VARIABLES
from operators.serving import drift
from operators.weather import Weather, of_arrays, to_arrays

SERIES = "name string, zone string, step_s long, start_ms long, kwh binary, site string"
WINDOWS = (
    "batch long, zone string, key string, issued_at_ms long, utc_offset_s long, history binary, target binary, "
    "weather binary"
)
"""`weather` is empty where training has none."""
BATCHES = "batch long, rows long, window binary, extra binary, target binary"
LONGEST_GRID_MS = 40 * 366 * 86_400_000

_LITTLE = np.dtype("<f4")
_NO_OFFSET = np.empty(0, dtype=np.int64)


def series_row(series: MeterSeries, meter: int) -> dict[str, Any]:
    """One meter as a row of `SERIES`."""
    kwh = series.kwh[meter].astype(_LITTLE).tobytes()
    return {
        "name": series.names[meter],
        "zone": series.zone,
        "step_s": series.step_s,
        "start_ms": series.start_ms,
        "kwh": kwh,
        "site": series.site_of(meter),
    }


def series_of(row: Any, weather: Weather | None = None) -> MeterSeries:
    """The one meter of a row of `SERIES`, with the weather, where training has some."""
    kwh = np.frombuffer(row.kwh, _LITTLE).astype(np.float32)[None]
    series = on_grid((row.name,), int(row.start_ms), kwh, row.zone, int(row.step_s))
    return replace(series, weather=weather, sites=(row.site,))


@dataclass(frozen=True)
class Sent:
    """The weather as it is sent around: read once by each process that needs it."""

    content: bytes
    """Of `operators.weather.to_arrays`, without pickle; empty: there is none."""

    @classmethod
    def of(cls, weather: Weather | None) -> Sent:
        """To be broadcast."""
        stream = io.BytesIO()
        if weather is not None:
            np.savez(stream, **to_arrays(weather))  # type: ignore[arg-type]
        return cls(stream.getvalue())

    def weather(self) -> Weather | None:
        """What was sent."""
        if not self.content:
            return None
        with np.load(io.BytesIO(self.content), allow_pickle=False) as stored:
            return of_arrays(dict(stored))


def grouped(readings: pd.DataFrame, step_s: int) -> pd.DataFrame:
    """Steps of one meter in any order as a row of `SERIES`.

    Args:
        readings: `name`, `zone`, `site`, `start_ms` of each step (epoch ms, UTC), `kwh`; of a repeated step the last by
            value counts, so that the order does not.
        step_s: seconds of a step.

    Raises:
        ValueError: steps lie too far apart for a grid.
    """
    ms = step_s * 1000
    known = readings[np.isfinite(readings["kwh"].to_numpy(dtype=np.float64))].sort_values(["start_ms", "kwh"])
    if known.empty:
        return pd.DataFrame(columns=[column.split()[0] for column in SERIES.split(", ")])
    name = str(known["name"].iloc[0])
    slot = known["start_ms"].to_numpy(dtype=np.int64) // ms
    hour = 3600 // step_s
    first, end = int(slot[0]) // hour * hour, -(-(int(slot[-1]) + 1) // hour) * hour
    if (end - first) * ms > LONGEST_GRID_MS:
        raise ValueError(f"readings of meter {name} lie more than 40 years apart: correct their times")
    kwh = np.full(end - first, np.nan, dtype=np.float32)
    kwh[slot - first] = known["kwh"].to_numpy(dtype=np.float32)
    zone = str(known["zone"].iloc[0])
    sites = (str(known["site"].iloc[0]),)
    series = MeterSeries((name,), first * ms, kwh[None], _NO_OFFSET, step_s, zone, None, sites)
    return pd.DataFrame([series_row(series, 0)])


def count_of(row: Any, until_ms: int) -> int:
    """Windows of a meter that can be trained on."""
    return len(training.trainable(training.hourly(series_of(row)), until_ms))


def inputs_seen(row: Any, until_ms: int) -> drift.Counts:
    """How a meter's trained windows are distributed."""
    series = training.hourly(series_of(row))
    return training.inputs_seen([Part(series, training.trainable(series, until_ms))])


def drawn(
    row: Any,
    plan: Plan,
    number: int,
    until_ms: int,
    first: int = 0,
    last: int = ROUND,
    weather: Weather | None = None,
) -> pd.DataFrame | None:
    """What a meter gives to the batches `first` to `last - 1` of a round, as rows of `WINDOWS`; None when nothing."""
    series = training.hourly(series_of(row, weather))
    at = training.trainable(series, until_ms)
    if not len(at):
        return None
    key = key_of(row.name, row.zone)
    chosen, batch = draws(plan, number, key, len(at))
    use = (batch >= first) & (batch < last)
    chosen, batch = chosen[use], batch[use]
    windows = cut(series, at[chosen])
    return pd.DataFrame(
        {
            "batch": batch,
            "zone": row.zone,
            "key": key,
            "issued_at_ms": windows.issued_at_ms,
            "utc_offset_s": windows.utc_offset_s,
            "history": [each.tobytes() for each in windows.history.astype(_LITTLE)],
            "target": [each.tobytes() for each in windows.target.astype(_LITTLE)],
            "weather": b"" if windows.weather is None else [each.tobytes() for each in windows.weather.astype(_LITTLE)],
        }
    )


def made(windows: pd.DataFrame, plan: Plan, number: int) -> Iterator[dict[str, Any]]:
    """The batch that windows of one batch make, as a row of `BATCHES`; nothing when none has a load."""
    ordered = windows.sort_values(["zone", "key", "issued_at_ms"], kind="stable")
    which = int(ordered["batch"].iloc[0])
    zones = ordered["zone"].unique().tolist()
    found = batch_of(plan, number, which, zones, [_windows(ordered[ordered["zone"] == zone]) for zone in zones])
    if found is not None:
        inputs = {name: value.astype(_LITTLE).tobytes() for name, value in found.inputs.items()}
        yield {"batch": which, "rows": len(found.target), **inputs, "target": found.target.astype(_LITTLE).tobytes()}


def _windows(rows: pd.DataFrame) -> Windows:
    def stacked(column: str, width: int) -> NDArray[np.float32]:
        joined = b"".join(rows[column])
        return np.frombuffer(joined, _LITTLE).astype(np.float32).reshape(-1, width)

    weather = None
    if len(rows["weather"].iloc[0]):
        weather = stacked("weather", WEATHER_HOURS * len(WEATHER_VARIABLES))
        weather = weather.reshape(-1, WEATHER_HOURS, len(WEATHER_VARIABLES))
    return Windows(
        np.zeros(len(rows), dtype=np.int64),
        stacked("history", CONTEXT_HOURS),
        stacked("target", HORIZON_HOURS),
        rows["issued_at_ms"].to_numpy(dtype=np.int64),
        rows["utc_offset_s"].to_numpy(dtype=np.int64),
        weather,
    )


@dataclass(frozen=True)
class Kept:
    """Names kept out of training, to be sent around."""

    unseen: frozenset[str]

    def sees(self, row: Any) -> bool:
        """Whether training sees a meter of `SERIES`."""
        return key_of(row.name, row.zone) not in self.unseen
