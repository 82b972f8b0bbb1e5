"""The public series that the shipped model is trained and judged on; folders are given, never assumed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from models.dataset import MeterSeries, from_frame, load_wide

CAMBRIDGE_FILE = "electricity_kwh_hourly_2015_2021.parquet"
CAMBRIDGE = {
    "name": "Cambridge University Estates building energy archive v2.1, electricity",
    "doi": "10.5281/zenodo.10955332",
    "licence": "MIT",
    "notes": "hourly kWh; missing readings are zero in the source and taken as missing here",
    "limits": "Trained on university buildings of one English town; the year judged, 2021, holds the pandemic.",
}


def load_cambridge(folder: Path) -> MeterSeries:
    """The electricity meters of the archive, hourly.

    Raises:
        FileNotFoundError: the folder does not hold the file.
    """
    path = folder / CAMBRIDGE_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {CAMBRIDGE_FILE}; give the folder of the archive with --data")
    return load_wide(path, "Europe/London", zero_is_missing=True)


def load_judged(folder: Path) -> Iterator[tuple[str, MeterSeries]]:
    """Other series, never trained on: Victoria's demand (hourly) or OpenSTEF's Dutch grid points (15 min).

    Values are in the sources' own units: every figure that is taken of them is relative.

    Raises:
        FileNotFoundError: the folder holds neither.
    """
    victoria = folder / "vic_electricity.csv"
    parts = sorted(folder.glob("*.csv.gz"))
    if victoria.is_file():
        frame = pd.read_csv(victoria, usecols=["Time", "Demand"], parse_dates=["Time"], index_col="Time")
        yield "Victoria demand", from_frame(frame.resample("h").mean(), "Australia/Melbourne")
    elif parts:
        for column, group in (("load", "OpenSTEF targets"), ("total_substation", "OpenSTEF substations")):
            columns = [series for part in parts if (series := _grid_point(part, column)) is not None]
            if columns:
                yield group, from_frame(pd.concat(columns, axis=1).asfreq("15min"), "Europe/Amsterdam", 900)
    else:
        raise FileNotFoundError(f"{folder} holds no series that can be judged (vic_electricity.csv or *.csv.gz)")


def _grid_point(path: Path, column: str) -> pd.Series[float] | None:
    """One grid point, MW: load less sun and wind, so it may be negative; None without the column."""
    frame = pd.read_csv(path)
    if column not in frame:
        return None
    frame.index = pd.DatetimeIndex(pd.to_datetime(frame.iloc[:, 0], utc=True))
    return frame[column].groupby(level=0).last().rename(path.name.removesuffix(".csv.gz"))
