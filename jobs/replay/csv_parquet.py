"""One CSV or Parquet file of readings, wide (a column a meter) or long (a row a reading), as batches in event time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.replay import files
from jobs.replay.batch import Batch, ReplayError, batch
from jobs.replay.ordering import time_ordered
from jobs.replay.timestamps import epoch_ms
from operators.readings import Kind, Quality

NUMBERS = {"value", "interval_s", "revision", "seq"}
"""Long form's columns of numbers; the others are text, and `ts` is a time."""
SINGLE_NAMES = {"value", "kwh", "wh", "kw", "w", "consumption", "energy", "power", "load", "demand"}
KINDS = {"register": Kind.REGISTER, "interval": Kind.INTERVAL, "instant": Kind.INSTANT}
QUALITIES = {"measured": Quality.MEASURED, "estimated": Quality.ESTIMATED, "invalid": Quality.INVALID}


@dataclass(frozen=True)
class Options:
    """How a file is read; None is told by the file."""

    kind: str | None = None
    unit: str | None = None
    tz: str = "UTC"
    """Zone of stamps without an offset."""
    timestamps: str | None = None
    """`start` or `end`: which side of an interval a stamp marks; None: start if wide, end if long."""
    interval_s: int | None = None
    zero_is_missing: bool = False
    columns: tuple[str, ...] = ()
    """Meters to take, by name; empty: all."""
    meters: int | None = None
    """The first so many meters, by name's order in the file."""
    start_ms: int | None = None
    """Readings of this time and later only."""
    end_ms: int | None = None
    """Readings before this time only."""


@dataclass
class TableFile:
    """An opened file: what it holds is known, and its rows are read when asked for."""

    path: Path
    options: Options
    layout: str = ""
    time_column: str = ""
    value_columns: list[str] = field(default_factory=list)
    kind: Kind = Kind.INTERVAL
    unit: str = "kWh"
    interval_s: int = 0
    first_ms: int = 0
    last_ms: int = 0
    rows: int = 0
    ordered: bool = True
    """Whether the file itself is in event-time order."""
    stamps_ms: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Every row's stamp, as the file has it (wide form only: there are few rows, and the zone is applied over all)."""
    step_s: dict[str, int] = field(default_factory=dict)
    """The usual step of each meter of a long file."""
    notes: list[str] = field(default_factory=list)
    """What was assumed, one line each, for the user."""
    taken: set[str] = field(default_factory=set)
    """The meters of a long file that `Options.meters` lets through, as they come."""

    @property
    def timestamps(self) -> str:
        """Which side of an interval a stamp marks."""
        return self.options.timestamps or ("start" if self.layout == "wide" else "end")

    def meter_names(self) -> list[str]:
        """The meter of each value column of a wide file; a lone column of a general name is the file's meter."""
        if len(self.value_columns) == 1 and self.value_columns[0].lower() in SINGLE_NAMES:
            return [files.stem(self.path)]
        return self.value_columns

    def batches(self) -> Iterator[Batch]:
        """The readings in event-time order, a bounded block at a time."""
        found = self._wide() if self.layout == "wide" else self._long()
        yield from found if self.ordered else time_ordered(found)

    def _in_range(self, ts_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
        keep = np.ones(len(ts_ms), dtype=bool)
        if self.options.start_ms is not None:
            keep &= ts_ms >= self.options.start_ms
        if self.options.end_ms is not None:
            keep &= ts_ms < self.options.end_ms
        return keep

    def _to_end(
        self, ts_ms: NDArray[np.int64], kind: NDArray[np.int8] | Kind, seconds: NDArray[np.int64] | int
    ) -> NDArray[np.int64]:
        if self.timestamps == "end":
            return ts_ms
        ends: NDArray[np.int64] = ts_ms + np.where(np.asarray(kind) == Kind.INTERVAL, np.asarray(seconds) * 1000, 0)
        return ends

    def _wide(self) -> Iterator[Batch]:
        names = np.array(self.meter_names(), dtype=object)
        row = 0
        for frame in files.blocks(self.path, self.value_columns, set()):
            stamps = self.stamps_ms[row : row + len(frame)]
            row += len(frame)
            ends = self._to_end(stamps, self.kind, self.interval_s)
            values = frame[self.value_columns].to_numpy(dtype=np.float64, na_value=np.nan)
            present = np.isfinite(values) & self._in_range(ends)[:, None]
            if self.options.zero_is_missing:
                present &= values != 0
            rows, columns = np.nonzero(present)
            if len(rows):
                yield batch(
                    names[columns],
                    ends[rows],
                    values[rows, columns],
                    kind=self.kind,
                    unit=self.unit,
                    interval_s=self.interval_s,
                )

    def stamps(self, frame: pd.DataFrame, row: int) -> NDArray[np.int64]:
        """The stamps of a block whose first row is the data's row number `row`: epoch milliseconds, as in the file."""
        where = f"{self.path}, column {self.time_column}"
        return epoch_ms(frame[self.time_column], self.options.tz, where, row + files.FIRST_ROW)

    def _long(self) -> Iterator[Batch]:
        text = set(self.value_columns) - NUMBERS
        allowed: set[str] | None = set(self.options.columns) or None
        row = 0
        for frame in files.blocks(self.path, self.value_columns, text):
            part = self._long_block(frame, row)
            row += len(frame)
            if self.options.meters is not None:
                for meter in pd.unique(part.meter_id):
                    if len(self.taken) < self.options.meters:
                        self.taken.add(meter)
                part = part.take(pd.Series(part.meter_id).isin(self.taken).to_numpy())
            keep = np.isfinite(part.value) & self._in_range(part.ts_ms)
            if self.options.zero_is_missing:
                keep &= part.value != 0
            if allowed is not None:
                keep &= pd.Series(part.meter_id).isin(allowed).to_numpy()
            if keep.any():
                yield part.take(keep)

    def _long_block(self, frame: pd.DataFrame, row: int) -> Batch:
        stamps = self.stamps(frame, row)
        kind = self._codes(frame, "kind", KINDS, self.kind, row)
        meter = frame["meter_id"].to_numpy(dtype=object)
        usual = frame["meter_id"].map(self.step_s).fillna(self.interval_s).to_numpy(dtype=np.int64)
        seconds = np.where(kind == Kind.INTERVAL, self._integers(frame, "interval_s", usual, row), 0)
        unit: NDArray[np.object_] | str = self.unit
        if "unit" in frame:
            unit = frame["unit"].fillna(self.unit).to_numpy(dtype=object)
        elif self.options.unit is None:
            unit = np.where(kind == Kind.INSTANT, "kW", "kWh").astype(object)
        return batch(
            meter,
            self._to_end(stamps, kind, seconds),
            frame["value"].to_numpy(dtype=np.float64, na_value=np.nan),
            kind=kind,
            unit=unit,
            interval_s=seconds,
            register=frame["register"].fillna("").to_numpy(dtype=object) if "register" in frame else "",
            revision=self._integers(frame, "revision", 0, row),
            quality=self._codes(frame, "quality", QUALITIES, Quality.MEASURED, row),
            seq=self._integers(frame, "seq", -1, row),
            tenant_id=frame["tenant_id"].fillna("").to_numpy(dtype=object) if "tenant_id" in frame else "",
        )

    def _integers(
        self, frame: pd.DataFrame, column: str, default: NDArray[np.int64] | int, row: int
    ) -> NDArray[np.int64]:
        if column not in frame:
            return np.broadcast_to(np.asarray(default, dtype=np.int64), len(frame))
        numbers = frame[column].to_numpy(dtype=np.float64, na_value=np.nan)
        numbers = np.where(np.isnan(numbers), default, numbers)
        self._refuse(numbers != np.round(numbers), frame[column], row, "no whole number")
        return numbers.astype(np.int64)

    def _codes(
        self, frame: pd.DataFrame, column: str, table: Mapping[str, int], default: int, row: int
    ) -> NDArray[np.int8]:
        if column not in frame:
            return np.full(len(frame), default, dtype=np.int8)
        codes = frame[column].map(table)
        self._refuse(codes.isna() & frame[column].notna(), frame[column], row, f"none of {', '.join(table)}")
        return codes.fillna(default).to_numpy(dtype=np.int8)

    def _refuse(self, bad: NDArray[np.bool_] | pd.Series[bool], column: pd.Series[Any], row: int, why: str) -> None:
        rows = np.flatnonzero(bad)
        if len(rows):
            number = row + int(rows[0]) + files.FIRST_ROW
            value = str(column.iloc[int(rows[0])])
            raise ReplayError(f"{self.path}, column {column.name}, row {number}: {value!r} is {why}")
