"""What a CSV or Parquet file holds: which layout, which columns, which period, what its time stamps mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.replay import files
from jobs.replay.batch import ENERGY_UNITS, POWER_UNITS, ReplayError
from jobs.replay.csv_parquet import KINDS, Options, TableFile
from jobs.replay.ordering import SORTED_AT_ONCE
from operators.readings import Kind

LONG_COLUMNS = {"meter_id", "ts", "value"}
LONG_OPTIONAL = ("register", "kind", "unit", "interval_s", "quality", "revision", "seq", "tenant_id")
TIME_NAMES = (
    "ts",
    "timestamp",
    "timestamp_utc",
    "time",
    "datetime",
    "date_time",
    "date",
    "start",
    "end",
    "index",
    "unnamed: 0",
)
STEP_BLOCKS = 4
"""Blocks of a file that the usual step between readings is found from."""


def open_table(path: Path, options: Options) -> TableFile:
    """Finds out the file's layout, period and order, reading its time column once.

    Raises:
        ReplayError: it cannot be read, or holds no column of times or of values; a bad stamp's row is named.
    """
    head = files.header(path)
    head.columns = head.columns.map(str)
    found = TableFile(path, options)
    if set(head.columns) >= LONG_COLUMNS:
        known = {*LONG_COLUMNS, *LONG_OPTIONAL}
        found.layout, found.time_column = "long", "ts"
        found.value_columns = [column for column in head.columns if column in known]
    else:
        found.layout = "wide"
        found.time_column = _time_column(path, head)
        found.value_columns = _value_columns(path, head, found.time_column, options)
    found.kind = KINDS[options.kind or "interval"]
    found.unit = options.unit or ("kW" if found.kind == Kind.INSTANT else "kWh")
    _check_unit(found)
    _scan(found)
    return found


def _check_unit(found: TableFile) -> None:
    units = POWER_UNITS if found.kind == Kind.INSTANT else ENERGY_UNITS
    if found.layout == "wide" and found.unit not in units:
        raise ReplayError(
            f"unit {found.unit} does not fit kind {found.kind.name.lower()}: use --unit {'|'.join(units)}"
        )


def _time_column(path: Path, head: pd.DataFrame) -> str:
    for column in head.columns:
        if pd.api.types.is_datetime64_any_dtype(head[column].dtype):
            return str(column)
    named = [column for name in TIME_NAMES for column in head.columns if column.strip().lower() == name]
    column = str(named[0] if named else head.columns[0]) if len(head.columns) else ""
    if not column or pd.api.types.is_bool_dtype(head[column].dtype):
        raise ReplayError(f"{path}: no column of time stamps (wide: first column; long: meter_id, ts, value)")
    return column


def _value_columns(path: Path, head: pd.DataFrame, time_column: str, options: Options) -> list[str]:
    numeric = [
        str(column)
        for column in head.columns
        if column != time_column
        and pd.api.types.is_numeric_dtype(head[column].dtype)
        and not pd.api.types.is_bool_dtype(head[column].dtype)
    ]
    if options.columns:
        lost = [column for column in options.columns if column not in numeric]
        if lost:
            raise ReplayError(f"{path}: no number column {lost[0]!r}; there are {', '.join(numeric[:8]) or 'none'}")
        numeric = list(options.columns)
    if not numeric:
        raise ReplayError(
            f"{path}: no readable columns: want numbers, a column a meter, or columns meter_id, ts, value"
        )
    return numeric


def _scan(found: TableFile) -> None:
    """Fills in period, rows, order and interval length from the time column (and long form's meter_id)."""
    long = found.layout == "long"
    wanted = [found.time_column, *(["meter_id"] if long else [])]
    stamps: list[NDArray[np.int64]] = []
    steps: list[pd.DataFrame] = []
    for frame in files.blocks(found.path, wanted, set(wanted)):
        block = found.stamps(frame, found.rows)
        found.rows += len(frame)
        if not len(block):
            continue
        found.ordered = (
            found.ordered and (not stamps or block[0] >= stamps[-1][-1]) and bool((np.diff(block) >= 0).all())
        )
        found.first_ms = min(found.first_ms, int(block.min())) if stamps else int(block.min())
        found.last_ms = max(found.last_ms, int(block.max()))
        if len(steps) < STEP_BLOCKS:
            steps.append(_steps(block, frame["meter_id"] if long else ""))
        stamps = [block[-1:]] if long else [*stamps, block]
    if not found.rows:
        raise ReplayError(f"{found.path}: no rows")
    if not long:
        found.stamps_ms = np.concatenate(stamps)
    if found.kind == Kind.INTERVAL:
        _interval(found, pd.concat(steps))
    if not found.ordered and found.rows > SORTED_AT_ONCE:
        found.notes.append(f"{found.path.name} is not in time order: it is sorted on disk first")


def _steps(stamps: NDArray[np.int64], meters: pd.Series[Any] | str) -> pd.DataFrame:
    """Columns meter and step_s: what lies between two successive stamps of a meter."""
    table = pd.DataFrame({"meter": meters, "ts": stamps}).sort_values(["meter", "ts"])
    table["step_s"] = table.groupby("meter")["ts"].diff() // 1000
    return table.loc[table["step_s"] > 0, ["meter", "step_s"]]


def _interval(found: TableFile, steps: pd.DataFrame) -> None:
    """The length of the intervals, what a stamp means, and a note of both."""
    named = "interval_s" in found.value_columns
    told = found.options.interval_s
    if told is None and not steps.empty:
        usual = steps.groupby("meter")["step_s"].agg(lambda column: int(column.mode().iloc[0]))
        found.step_s = {} if found.layout == "wide" else {str(meter): int(step) for meter, step in usual.items()}
        told = int(steps["step_s"].mode().iloc[0])
    if told is None and not named:
        raise ReplayError(f"{found.path}: no interval length can be seen in it: say --interval-s SECONDS")
    found.interval_s = told or 0
    length = "" if named or len(set(found.step_s.values())) > 1 else f"{found.interval_s} s "
    if found.timestamps == "end":
        found.notes.append(f"time stamps mark the END of each {length}interval (else: --timestamps start)")
        return
    found.notes.append(f"time stamps mark the START of each {length}interval (else: --timestamps end)")
    found.last_ms += found.interval_s * 1000
    if found.layout == "wide":
        found.first_ms += found.interval_s * 1000
    else:
        # Ends of intervals of several lengths are in another order than their starts.
        found.ordered = False
