"""Time stamps of files: text, numbers or dates, with an offset or in a zone, into epoch milliseconds."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.replay.batch import ReplayError

SECONDS_BELOW = 1e11
"""An epoch number below this counts seconds (the year 5138), one above it milliseconds (from 1973)."""

EPOCH_TEXT = r"\s*\d{9,14}(\.\d*)?\s*"
OFFSET = r"(?:Z|[+-]\d{2}:?\d{2})$"


def zone(name: str) -> ZoneInfo:
    """The zone of that IANA name.

    Raises:
        ReplayError: there is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ReplayError(f"no time zone {name!r}: use an IANA name such as Europe/Berlin or UTC") from error


def epoch_ms(column: pd.Series[Any], tz: str, where: str, first_row: int) -> NDArray[np.int64]:
    """Epoch milliseconds of `column`.

    Args:
        column: ISO-8601 text, datetimes, or epoch seconds or milliseconds.
        tz: the zone of stamps without an offset; the hour that occurs twice is told apart by its order.
        where: file and column, for errors.
        first_row: the row number of the column's first value, for errors.

    Raises:
        ReplayError: a value that is no time, or is one that the zone skips or has twice; it names the row.
    """
    if column.dtype == "string" and len(column) and column.str.fullmatch(EPOCH_TEXT).all():
        column = column.astype("float64")
    if pd.api.types.is_numeric_dtype(column.dtype):
        numbers = column.to_numpy(dtype=np.float64, na_value=np.nan)
        _refuse(~(np.isfinite(numbers) & (numbers > 0)), column, where, first_row, "no epoch time")
        return np.where(numbers < SECONDS_BELOW, numbers * 1000, numbers).round().astype(np.int64)
    stamps = column
    if not pd.api.types.is_datetime64_any_dtype(column.dtype):
        text = column.astype("string").str.strip()
        offset = text.str.contains(OFFSET, regex=True).fillna(False).to_numpy(dtype=bool)
        stamps = pd.to_datetime(text, format="ISO8601", errors="coerce", utc=bool(offset.any()))
        _refuse(stamps.isna().to_numpy(), column, where, first_row, "no ISO-8601 time")
        _refuse(~offset & offset.any(), column, where, first_row, "without an offset, where others have one")
    _refuse(stamps.isna().to_numpy(), column, where, first_row, "no time")
    if stamps.dt.tz is None:
        stamps = _localize(stamps, tz, where, first_row)
    return stamps.dt.tz_convert("UTC").dt.as_unit("ms").astype(np.int64).to_numpy()


def _localize(stamps: pd.Series[Any], tz: str, where: str, first_row: int) -> pd.Series[Any]:
    if tz == "UTC":
        return stamps.dt.tz_localize("UTC")
    place = zone(tz)
    skipped = stamps.dt.tz_localize(place, ambiguous=np.ones(len(stamps), dtype=bool), nonexistent="NaT").isna()
    _refuse(skipped.to_numpy(), stamps, where, first_row, f"a time that {tz} skips; --tz UTC, or stamps with an offset")
    twice = stamps.dt.tz_localize(place, ambiguous="NaT").isna().to_numpy()
    first, resolved = _first_of_two(stamps.to_numpy().astype(np.int64), twice)
    _refuse(twice & ~resolved, stamps, where, first_row, f"a time that {tz} has twice; use stamps with an offset")
    return stamps.dt.tz_localize(place, ambiguous=first)


def _first_of_two(wall: NDArray[np.int64], twice: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which stamps of an hour that occurs twice are of its first time, and of which that can be told.

    The second time begins where the wall clock does not go on; a stretch without such a place can be either.
    """
    first = np.ones(len(wall), dtype=bool)
    resolved = np.zeros(len(wall), dtype=bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], twice, [False]]).astype(np.int8)))
    for begin, end in edges.reshape(-1, 2).tolist():
        back = np.flatnonzero(np.diff(wall[begin:end]) <= 0)
        if len(back) == 1:
            first[begin + int(back[0]) + 1 : end] = False
            resolved[begin:end] = True
    return first, resolved


def _refuse(bad: NDArray[np.bool_], column: pd.Series[Any], where: str, first_row: int, why: str) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        row = int(rows[0])
        raise ReplayError(f"{where}, row {first_row + row}: {str(column.iloc[row])!r} is {why}")
