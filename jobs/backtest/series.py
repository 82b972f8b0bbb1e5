"""Energy by meter on a grid of steps, from the files that `energyai replay` reads or from the database.

Meters of one length of step and one time zone make a set; a backtest judges the sets together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import psycopg2
from numpy.typing import NDArray
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from jobs.errors import UserError
from jobs.replay.batch import Batch
from jobs.replay.csv_parquet import Options
from jobs.replay.sources import open_path
from models.dataset import MeterSeries
from operators.features import CONTEXT_HOURS, HORIZON_HOURS
from operators.local_time import PlaceError, utc_offset_s
from operators.meters import DEFAULT_SITE
from operators.readings import Kind, Quality

KWH = {"Wh": 1e-3, "kWh": 1.0, "MWh": 1e3}
HOUR_S = 3600
STEPS_S = (900, 3600)
"""Steps that the forecast job knows; finer intervals are added up to a quarter hour, those between to an hour."""
LEAST_KNOWN = 0.5
"""A step of which less was measured is missing, as in the job."""
LONGEST_GRID = 40 * 366 * 24 * 4


class SeriesError(UserError):
    """Data that cannot be judged or trained on; one line that says what to do."""


def from_files(path: Path, options: Options, zone: str) -> list[MeterSeries]:
    """The meters of a file or folder.

    Args:
        path: CSV or Parquet, as `energyai replay` reads it.
        options: how it is read.
        zone: IANA time zone of the meters; "" or UTC: unknown.

    Raises:
        ReplayError: it cannot be read.
        SeriesError: no intervals, or no such zone.
    """
    parts: dict[str, list[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]]] = defaultdict(list)
    for batch in open_path(path, options).batches():
        for meter, *columns in _intervals(batch, path):
            parts[meter].append(tuple(columns))  # type: ignore[arg-type]
    grids: dict[int, dict[str, tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]]] = defaultdict(dict)
    for meter, found in parts.items():
        end_ms, kwh, length_s = (np.concatenate(column) for column in zip(*found, strict=True))
        grids[_step(length_s)][meter] = (end_ms, kwh, length_s)
    # By name, as the database gives them: who is kept out of a training must not depend on the order of a file.
    return [
        _on_grid(dict(sorted(columns.items())), step, zone) for step, columns in sorted(grids.items(), reverse=True)
    ]


def _intervals(
    batch: Batch, path: Path
) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]]:
    """Meter, end of each interval, kWh and seconds, of the readings that count."""
    use = (batch.quality != Quality.INVALID) & np.isfinite(batch.value)
    if (batch.kind[use] != Kind.INTERVAL).any():
        raise SeriesError(
            f"{path}: holds counters or power, not intervals: replay it into a stack, then give --database-url"
        )
    factor = np.array([KWH.get(str(unit), np.nan) for unit in batch.unit[use]])
    kwh, meters = batch.value[use] * factor, batch.meter_id[use]
    names, owner = np.unique(meters.astype(str), return_inverse=True)
    for number, name in enumerate(names.tolist()):
        rows = owner == number
        yield name, batch.ts_ms[use][rows], kwh[rows], batch.interval_s[use][rows]


def _step(length_s: NDArray[np.int64]) -> int:
    """The step that fits a meter's usual interval."""
    usual = int(np.bincount(np.clip(length_s, 0, HOUR_S)).argmax())
    return STEPS_S[0] if usual <= STEPS_S[0] else STEPS_S[-1]


def _on_grid(
    columns: dict[str, tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]], step_s: int, zone: str
) -> MeterSeries:
    """Meters with one length of step; intervals are added up by the step that they end in."""
    ms = step_s * 1000
    first = min(int((end - length * 1000).min()) // ms for end, _, length in columns.values())
    last = max(-(-int(end.max()) // ms) for end, _, _ in columns.values())
    steps = last - first
    if steps > LONGEST_GRID:
        raise SeriesError(f"readings lie {steps * step_s / 86400 / 365:.0f} years apart: give --from and --to")
    table = np.full((len(columns), steps), np.nan, dtype=np.float32)
    for row, intervals in enumerate(columns.values()):
        # Of a repeated reading the last one counts; an interval longer than a step is none of this grid.
        newest = np.unique(intervals[0][::-1], return_index=True)[1]
        end, kwh, length = (column[::-1][newest] for column in intervals)
        fits = length <= step_s
        slot = (end[fits] - 1) // ms - first
        energy = np.bincount(slot, kwh[fits], steps)
        share = np.bincount(slot, length[fits], steps) / step_s
        known = share >= LEAST_KNOWN
        table[row, known] = energy[known] / np.minimum(share[known], 1.0)
    return series_of(tuple(columns), first * ms, table, step_s, zone)


def series_of(names: tuple[str, ...], start_ms: int, kwh: NDArray[np.float32], step_s: int, zone: str) -> MeterSeries:
    """A set of meters with its local time.

    Raises:
        SeriesError: no such zone.
    """
    times = start_ms + np.arange(kwh.shape[1], dtype=np.int64) * (step_s * 1000)
    try:
        offset = utc_offset_s(zone, times)
    except PlaceError as error:
        raise SeriesError(str(error), 2) from error
    return MeterSeries(names, start_ms, kwh, offset, step_s, zone)


QUERY = """
SELECT e.meter_id, extract(epoch FROM e.bucket)::bigint, e.kwh
FROM {view} e
WHERE e.coverage >= %(least)s AND e.kwh IS NOT NULL
  AND (%(meters)s::text[] IS NULL OR e.meter_id = ANY(%(meters)s::text[]))
  AND e.bucket >= %(start)s AND e.bucket < %(end)s
ORDER BY e.meter_id, e.bucket
"""
PLACES = """
SELECT m.meter_id, coalesce(nullif(m.tz, 'UTC'), s.tz, 'UTC'), m.site_id
FROM meter m LEFT JOIN site s USING (site_id)
WHERE m.meter_id = ANY(%s)
"""
VIEWS = {900: "energy_15m", 3600: "energy_hourly"}


def from_database(
    url: str,
    step_s: int,
    meters: Sequence[str] = (),
    start: datetime | None = None,
    end: datetime | None = None,
) -> list[MeterSeries]:
    """The meters of the database's energy views, in sets by their time zone.

    Args:
        url: libpq URL.
        step_s: 3600 or 900.
        meters: by id; empty: all.
        start, end: of the steps' starts.

    Raises:
        SeriesError: it cannot be reached, or holds nothing of that.
    """
    rows, zones, sites = _read(url, step_s, meters, start, end)
    if not rows:
        raise SeriesError("the database holds no energy of these meters in that period: replay readings first")
    names = np.array([row[0] for row in rows])
    seconds = np.array([row[1] for row in rows], dtype=np.int64)
    kwh = np.array([row[2] for row in rows], dtype=np.float64)
    sets: dict[str, list[str]] = defaultdict(list)
    for name in np.unique(names).tolist():
        sets[zones.get(name, "UTC")].append(name)
    first, last = int(seconds.min()) // step_s, int(seconds.max()) // step_s + 1
    result = []
    for zone, members in sorted(sets.items()):
        table = np.full((len(members), last - first), np.nan, dtype=np.float32)
        for row, name in enumerate(members):
            of_meter = names == name
            table[row, seconds[of_meter] // step_s - first] = kwh[of_meter]
        found = series_of(tuple(members), first * step_s * 1000, table, step_s, zone)
        result.append(replace(found, sites=tuple(sites.get(name, DEFAULT_SITE) for name in members)))
    return result


def _read(
    url: str, step_s: int, meters: Sequence[str], start: datetime | None, end: datetime | None
) -> tuple[list[tuple[str, int, float]], dict[str, str], dict[str, str]]:
    values = {
        "least": LEAST_KNOWN,
        "meters": list(meters) or None,
        "start": start or "-infinity",
        "end": end or "infinity",
    }
    with reading(url) as cursor:
        cursor.execute(QUERY.format(view=VIEWS[step_s]), values)
        rows = cursor.fetchall()
        cursor.execute(PLACES, (sorted({row[0] for row in rows}),))
        places = cursor.fetchall()
    zones = {str(meter): str(zone) for meter, zone, _ in places}
    return rows, zones, {str(meter): str(site) for meter, _, site in places}


@contextmanager
def reading(url: str) -> Iterator[Cursor]:
    """A cursor on the database.

    Raises:
        SeriesError: it cannot be read.
    """
    try:
        connection = psycopg2.connect(url, connect_timeout=10)
        try:
            with connection, connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()
    except psycopg2.Error as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SeriesError(
            f"the database cannot be read ({reason}): check --database-url, `energyai doctor`", 3
        ) from error


def check_length(sets: Sequence[MeterSeries]) -> None:
    """Says so when no meter can have a forecast judged.

    Raises:
        SeriesError: all shorter than a week and a day.
    """
    needed = CONTEXT_HOURS + HORIZON_HOURS
    if all(series.kwh.shape[1] < needed * series.per_hour for series in sets):
        raise SeriesError(
            f"a forecast needs {CONTEXT_HOURS} hours before it and {HORIZON_HOURS} after it: give more data"
        )
