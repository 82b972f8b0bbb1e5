"""CSV (gz too) and Parquet files as blocks of rows, without the whole file in memory."""

from __future__ import annotations

import zlib
from collections.abc import Hashable, Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.replay.batch import ReplayError

CSV_ENDINGS = (".csv", ".csv.gz")
PARQUET_ENDINGS = (".parquet", ".pq")
FIRST_ROW = 2
"""The number of the first row of data, as an editor shows it for a CSV: the header is row 1."""
UNREADABLE = (OSError, EOFError, ValueError, TypeError, zlib.error, pa.ArrowException, pd.errors.ParserError)
"""What the libraries raise for a file that is damaged or is something else."""
CELLS = 250_000
"""Cells of one block: some tens of megabytes as columns of messages."""


def is_table(path: Path) -> bool:
    """Whether the file's name says that it is one we read."""
    return path.name.lower().endswith(CSV_ENDINGS + PARQUET_ENDINGS)


def is_parquet(path: Path) -> bool:
    """Whether the file's name says Parquet."""
    return path.name.lower().endswith(PARQUET_ENDINGS)


def stem(path: Path) -> str:
    """The file's name without its endings."""
    name = path.name
    for ending in CSV_ENDINGS + PARQUET_ENDINGS:
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return path.stem


def tables(path: Path) -> list[Path]:
    """The file itself, or the CSV and Parquet files of a folder, by name.

    Raises:
        ReplayError: nothing there, or nothing that we read.
    """
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.is_file() and is_table(p))
        if not found:
            raise ReplayError(f"{path}: no .csv, .csv.gz or .parquet file in this folder")
        return found
    if not path.exists():
        raise ReplayError(f"{path}: no such file or folder")
    if not is_table(path):
        raise ReplayError(f"{path}: not a .csv, .csv.gz or .parquet file")
    return [path]


def header(path: Path) -> pd.DataFrame:
    """The first rows, all columns, types as found: what the layout is told by."""
    try:
        if not is_parquet(path):
            return pd.read_csv(path, nrows=200)
        file = pq.ParquetFile(path)
        rows = next(file.iter_batches(batch_size=200), None)
        table = pa.Table.from_batches([rows]) if rows else file.schema_arrow.empty_table()
        return _frame(table)
    except UNREADABLE as error:
        raise ReplayError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from error


def _frame(table: pa.Table) -> pd.DataFrame:
    """Plain columns: an index that pandas stored is a column like any other."""
    frame: pd.DataFrame = table.replace_schema_metadata(None).to_pandas()
    return frame


def _typed(frame: pd.DataFrame, text: set[str]) -> pd.DataFrame:
    """Numbers as such, and names as text: ids may be stored as integers or dictionaries."""
    for name in frame.columns:
        column = frame[name]
        if name not in text:
            frame[name] = column.astype("float64")
        elif not pd.api.types.is_datetime64_any_dtype(column.dtype) and name != "ts":
            frame[name] = column.astype("string")
    return frame


def blocks(path: Path, columns: list[str], text: set[str]) -> Iterator[pd.DataFrame]:
    """The file in its own order, a block of rows at a time, with those columns only.

    Args:
        path: the file.
        columns: in the file's order or another; all must exist.
        text: columns of text or time (a Parquet file's time stays what it is); the others must be numbers.

    Raises:
        ReplayError: the file is damaged, or a cell of a number column is none; it names the rows.
    """
    rows = max(1, CELLS // max(1, len(columns)))
    done = 0
    try:
        if is_parquet(path):
            for part in pq.ParquetFile(path).iter_batches(batch_size=rows, columns=columns):
                yield _typed(_frame(pa.Table.from_batches([part])), text)
            return
        types: dict[Hashable, str] = {name: "string" if name in text else "float64" for name in columns}
        with pd.read_csv(path, usecols=columns, dtype=types, chunksize=rows) as reader:
            for frame in reader:
                yield frame
                done += len(frame)
    except UNREADABLE as error:
        reason = str(error).splitlines()[0]
        raise ReplayError(f"{path}: cannot be read after row {done + 1} ({reason})") from error
