"""The comparison of production with a replay, table by table, and what may differ because production has gone on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from infra.database import connected
from jobs.verify import tables
from jobs.verify.compare import Row, Table, Tally, differences, paired

ROWS_AT_ONCE = 20_000
MOST_METERS = 5_000


@dataclass
class Since:
    """What production may know that the recording does not; as long as nothing came in since, that is nothing."""

    arrived: datetime | None = None
    """Readings that arrived at this time or later came after the recording; None: none did."""
    settled: datetime | None = None
    """Forecasts issued later may know more, or may still be to come; None: all have been issued."""
    touched: dict[str, datetime] = field(default_factory=dict)
    """From when on a meter's energy may differ."""

    def touch(self, meter: str, ts: datetime) -> None:
        """A reading after the recording changes the meter's energy from `ts` on."""
        self.touched[meter] = min(ts, self.touched.get(meter, ts))

    def covers(self, table: Table, left: Row | None, right: Row | None) -> bool:
        """Whether a pair of rows of energy or of forecasts may differ."""
        row = left or right
        assert row is not None, "one side of a pair is a row"
        if table is tables.FORECAST:
            return self.settled is not None and row[1] > self.settled
        return row[0] in self.touched and row[1] + _LENGTH[table.name] > self.touched[row[0]]


_LENGTH = {
    "energy_15m": timedelta(minutes=15),
    "energy_hourly": timedelta(hours=1),
    "energy_daily": timedelta(days=1),
}


def compare(
    production_url: str,
    replay_url: str,
    topic: str,
    ends: dict[int, int],
    since: Since,
    prefix: str = "",
    progress: Callable[[str, int, int], None] = lambda table, done, total: None,
) -> dict[str, Tally]:
    """Compares every table; a tally by name.

    Args:
        production_url, replay_url: libpq URLs.
        topic: of the readings, whose rejected records are compared.
        ends: its end offsets by partition, where the recording ended.
        since: what came after; it is told of the readings that did.
        prefix: meters whose id begins otherwise are left alone.
        progress: told the table, and how many of how many meters are done.
    """
    found: dict[str, Tally] = {}
    with ExitStack() as stack:
        left, right = (stack.enter_context(connected(url, autocommit=True)) for url in (production_url, replay_url))
        found["reading"] = Tally()
        for row_pairs in _by_meter(left, right, tables.READING, prefix, progress):
            _readings(row_pairs, found["reading"], since)
        for table in (*tables.ENERGY, tables.FORECAST):
            tally = found[table.name] = Tally()
            for row_pairs in _by_meter(left, right, table, prefix, progress):
                _rows(table, row_pairs, tally, partial(since.covers, table))
        progress("rejected_reading", 0, 1)
        tally = found["rejected_reading"] = Tally()
        rejected = paired(
            tables.of_topic(left, topic, ends), tables.of_topic(right, topic, ends), len(tables.REJECTED.key)
        )
        _rows(tables.REJECTED, rejected, tally, lambda a, b: False)
    return found


Pairs = Iterable[tuple[Row | None, Row | None]]


def _by_meter(
    left: Any, right: Any, table: Table, prefix: str, progress: Callable[[str, int, int], None]
) -> Iterator[Pairs]:
    """The rows of both sides, some meters at a time: so many that their rows are about `ROWS_AT_ONCE`."""
    ids = sorted(tables.meters(left, table, prefix) | tables.meters(right, table, prefix))
    at, step = 0, 1
    while at < len(ids):
        progress(table.name, at, len(ids))
        counter = _Counter()
        some = ids[at : at + step]
        yield counter.through(
            paired(tables.of_meters(left, table, some), tables.of_meters(right, table, some), len(table.key))
        )
        at += step
        step = max(1, min(MOST_METERS, 2 * step, step * ROWS_AT_ONCE // max(1, counter.rows)))


class _Counter:
    """Counts what goes through."""

    def __init__(self) -> None:
        self.rows = 0

    def through(self, pairs: Pairs) -> Pairs:
        for pair in pairs:
            self.rows += 1
            yield pair


def _rows(table: Table, pairs: Pairs, tally: Tally, may_differ: Callable[[Row | None, Row | None], bool]) -> None:
    """Adds pairs of rows to a tally."""
    for a, b in pairs:
        tally.production += a is not None
        tally.replay += b is not None
        if a is not None and b is not None:
            found, largest = differences(table, a, b)
            if not found:
                tally.largest = max(tally.largest, largest)
                continue
        if may_differ(a, b):
            tally.left_out += 1
        elif b is None:
            tally.note(table, "missing", _key(table, a))
        elif a is None:
            tally.note(table, "extra", _key(table, b))
        else:
            tally.largest = max(tally.largest, largest)
            tally.note(table, "different", _key(table, a), found)


def _key(table: Table, row: Row | None) -> Row:
    assert row is not None, "one side of a pair is a row"
    return row[: len(table.key)]


_TS, _INTERVAL, _REVISION, _RECEIVED = (
    tables.READING.columns.index(n) for n in ("ts", "interval_s", "revision", "received_at")
)


def _readings(pairs: Pairs, tally: Tally, since: Since) -> None:
    """The same for readings; those that came after the recording are left out, and touch their meter's energy."""
    before: Row | None = None

    def came_later(a: Row | None, b: Row | None) -> bool:
        if since.arrived is None or a is None:
            return False
        # A row keeps the arrival of its first reading: one that was revised since shows it by its revision.
        later = a[_RECEIVED] >= since.arrived or (b is not None and a[_REVISION] > b[_REVISION])
        if later:
            begins = a[_TS] - timedelta(seconds=max(row[_INTERVAL] or 0.0 for row in (a, b) if row is not None))
            if before is not None and before[:2] == a[:2]:
                begins = min(begins, before[_TS])
            since.touch(a[0], begins)
        return later

    def remembered() -> Pairs:
        nonlocal before
        for a, b in pairs:
            yield a, b
            before = a or b

    _rows(tables.READING, remembered(), tally, came_later)


def verdict(found: dict[str, Tally]) -> bool:
    """Whether all tables are equal."""
    return all(tally.equal for tally in found.values())


def rows_in(url: str, names: Sequence[str]) -> dict[str, bool]:
    """Whether each of these tables has a row."""
    with connected(url) as link, link.cursor() as cursor:
        out = {}
        for name in names:
            cursor.execute(f"SELECT EXISTS (SELECT FROM {name})")
            out[name] = bool((cursor.fetchone() or (False,))[0])
    return out
