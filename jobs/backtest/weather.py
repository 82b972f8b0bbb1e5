"""Past weather with its times of issue, from a file or from the table `weather`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from jobs.backtest.series import SeriesError, reading
from models.dataset import MeterSeries
from operators.features import WEATHER_VARIABLES
from operators.meters import DEFAULT_SITE
from operators.weather import HOUR_MS, Weather

QUERY = f"""
SELECT site_id, (extract(epoch FROM ts) * 1000)::bigint, (extract(epoch FROM issued_at) * 1000)::bigint,
       {", ".join(WEATHER_VARIABLES)}
FROM weather
"""


def from_file(path: Path) -> Weather:
    """The weather of a CSV or Parquet file.

    Columns `ts` (start of the hour, UTC), `temperature_c` and/or `irradiance_w_m2`; if there `issued_at` (else a row is
    a measurement, known at the end of its hour) and `site_id` (else all of it is of the site `default`).

    Raises:
        SeriesError: it cannot be read, or has other columns.
    """
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise SeriesError(f"{path} cannot be read ({error}): give a CSV or Parquet file", 2) from error
    said = [name for name in WEATHER_VARIABLES if name in frame]
    if "ts" not in frame or not said:
        raise SeriesError(f"{path} must have columns ts, and {' or '.join(WEATHER_VARIABLES)}", 2)
    try:
        ts_ms = _ms(frame["ts"])
        issued_ms = _ms(frame["issued_at"]) if "issued_at" in frame else ts_ms + HOUR_MS
    except (ValueError, TypeError) as error:
        raise SeriesError(f"{path}: ts and issued_at must be times ({error})", 2) from error
    if (ts_ms % HOUR_MS).any():
        raise SeriesError(f"{path}: ts must be the start of an hour", 2)
    values = np.full((len(frame), len(WEATHER_VARIABLES)), np.nan, dtype=np.float32)
    for name in said:
        values[:, WEATHER_VARIABLES.index(name)] = frame[name].to_numpy(dtype=np.float32)
    sites = frame["site_id"].astype(str).to_numpy() if "site_id" in frame else np.full(len(frame), DEFAULT_SITE)
    return Weather.of_columns(sites, ts_ms, issued_ms, values)


def _ms(column: pd.Series) -> np.ndarray:  # type: ignore[type-arg]
    times = pd.to_datetime(column, utc=True).dt.tz_localize(None)
    if times.isna().any():
        raise ValueError("some are missing")
    return times.to_numpy().astype("datetime64[ms]").astype(np.int64)


def from_database(url: str) -> Weather | None:
    """The weather of all sites; None where the table is empty.

    Raises:
        SeriesError: it cannot be read.
    """
    with reading(url) as cursor:
        cursor.execute(QUERY)
        rows = cursor.fetchall()
    if not rows:
        return None
    sites, ts, issued, *values = zip(*rows, strict=True)
    return Weather.of_columns(
        sites, np.array(ts, np.int64), np.array(issued, np.int64), np.array(values, dtype=np.float32).T
    )


def attached(sets: list[MeterSeries], weather: Weather | None) -> list[MeterSeries]:
    """The same meters with the weather."""
    return sets if weather is None else [replace(series, weather=weather) for series in sets]
