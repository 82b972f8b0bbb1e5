"""The columnar sink: readings, rejected records and forecasts into TimescaleDB, each batch in one transaction.

Every method returns when its rows are committed, may be called again with the same rows (nothing changes), and keeps
trying while the database is away. `energy_slot` is a function of the set of readings, whatever the order, the batches
and the number of writers: writers of a series take turns on its row in `series_state`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psycopg2
from numpy.typing import NDArray
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from operators.energy import NEVER, SLOT_MS, Carry, Derived, SeriesConfig, Slots, derive, resolve
from operators.flows import flow_of
from operators.increments import Floats, Ints
from operators.pg import Session, StoreError, array_literal, rows_of
from operators.readings import Kind, Readings
from operators.settle import OPEN_END, decide

__all__ = ["Store", "StoreError", "WriteCounts"]

log = logging.getLogger(__name__)

KINDS = "(ARRAY['register', 'interval', 'instant']::reading_kind[])"
QUALITIES = "(ARRAY['measured', 'estimated', 'invalid']::reading_quality[])"
MIXED = -1
DAY_MS = 86_400_000
MARGINS_MS = tuple(hours * 3_600_000 for hours in (2, 24, 14 * 24, 120 * 24, 36_500 * 24))
"""How far around a late reading to look, one after another, until its effect is known to end."""

LEVELS = (("energy_15m", SLOT_MS), ("energy_hourly", 4 * SLOT_MS), ("energy_daily", DAY_MS))

# The readings that stand when two writers, or two batches, bring the same key: the same order as energy.resolve.
NEWER = "(excluded.revision, excluded.value, excluded.kind, coalesce(excluded.interval_s, 0), excluded.quality)"
STORED = "(reading.revision, reading.value, reading.kind, coalesce(reading.interval_s, 0), reading.quality)"


@dataclass(frozen=True)
class WriteCounts:
    """What became of n readings; the four add up to n."""

    new: int = 0
    repeated: int = 0
    """The same revision and value was there."""
    superseded: int = 0
    """Replaced a lower revision, or came after a higher one."""
    conflicts: int = 0
    """The same revision with another value was there: the greater stays."""


@dataclass(frozen=True)
class _Heads:
    """Rows of `series_state` and configuration, by pair (meter, register) number."""

    kind: NDArray[np.int8]
    known: NDArray[np.bool_]
    first_ms: Ints
    head_ms: Ints
    max_interval_ms: Ints
    carry: Carry
    register_max: Floats
    max_kw: Floats


class Store:
    """Writes columns to the database over one connection, for one thread."""

    def __init__(self, url: str, *, give_up_after: float | None = None, session: Session | None = None) -> None:
        """
        Args:
            url: libpq URL.
            give_up_after: seconds without a database after which `StoreError` is raised; None: keep trying.
            session: instead of one made from these.
        """
        self._session = session or Session(url, give_up_after=give_up_after)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def write_readings(self, readings: Readings, received_at_ms: int) -> WriteCounts:
        """Store readings and derive the energy that they change.

        Args:
            readings: columns of n readings in canonical units, in any order, with repeats or not.
            received_at_ms: epoch milliseconds UTC; a reading that is stored already keeps its own.

        Raises:
            StoreError: the database stayed away for `give_up_after`, or is not migrated.
            psycopg2.DataError: a value that the database cannot hold.
        """
        if not len(readings):
            return WriteCounts()
        batch = _Batch.of(readings)
        while True:
            result = self._session.transaction(lambda cursor: batch.write(cursor, received_at_ms))
            if result is not None:
                break
            # In a transaction of its own, so that nobody waits for another's new series while holding a lock.
            self._session.transaction(batch.introduce)
        counts, changed = result
        if changed is not None:
            self._refresh(*changed)
        return counts

    def write_rejected(
        self,
        topic: Sequence[str],
        partition: Sequence[int],
        offset: Sequence[int],
        reason: Sequence[str],
        detail: Sequence[str],
        raw: Sequence[str],
        received_at_ms: int | None = None,
    ) -> int:
        """Store records that are no readings; how many were not there yet."""
        if not len(topic):
            return 0
        source, parameters = rows_of(
            topic=("text", list(topic)),
            partition=("integer", np.asarray(partition, np.int64)),
            position=("bigint", np.asarray(offset, np.int64)),
            reason=("text", list(reason)),
            detail=("text", list(detail)),
            raw=("text", list(raw)),
        )
        sql = f"""
            INSERT INTO rejected_reading (topic, partition, "offset", reason, detail, raw, received_at)
            SELECT topic, partition, position, reason, detail, raw, coalesce(%s, now()) FROM {source} AS u
            ON CONFLICT DO NOTHING"""
        received = None if received_at_ms is None else _time(received_at_ms)
        return self._session.transaction(lambda cursor: _affected(cursor, sql, [received, *parameters]))

    def write_forecasts(
        self,
        meter_id: Sequence[str],
        issued_at_ms: Ints,
        step_s: Ints,
        kwh: NDArray[np.float32],
        model_id: str,
        model_sha256: str,
        tenant_id: Sequence[str] | None = None,
    ) -> int:
        """Store forecasts; how many were new or differed from what was stored.

        Args:
            meter_id: m meters; repeats of (meter, issued_at) in one call are not allowed.
            issued_at_ms: int64 [m], epoch milliseconds UTC; the first step begins there.
            step_s: int [m], 900 or 3600.
            kwh: float32 [m, 9 * steps] or [m, 9, steps], quantile-major.
            model_id: which model.
            model_sha256: of its file.
            tenant_id: of each meter; None: all 'default'.
        """
        m = len(meter_id)
        if not m:
            return 0
        flat = np.ascontiguousarray(kwh, np.float32).reshape(m, -1)
        if flat.shape[1] % 9 or not np.isfinite(flat).all():
            raise ValueError(f"forecasts must be finite, nine quantiles each: shape {flat.shape}")
        source, parameters = rows_of(
            i=("integer", np.arange(m)),
            meter_id=("text", list(meter_id)),
            issued_at=("bigint", np.asarray(issued_at_ms, np.int64)),
            step_s=("integer", np.asarray(step_s, np.int64)),
            tenant_id=("text", ["default"] * m if tenant_id is None else list(tenant_id)),
        )
        width = flat.shape[1]
        sql = f"""
            INSERT INTO forecast_issue
                (meter_id, issued_at, target_start, step_s, kwh, model_id, model_sha256, tenant_id)
            SELECT meter_id, to_timestamp(issued_at / 1000.0), to_timestamp(issued_at / 1000.0), step_s,
                values[i * {width} + 1 : (i + 1) * {width}], %s, %s, tenant_id
            FROM {source} AS u, (SELECT %s::real[] AS values) AS v
            ON CONFLICT (meter_id, issued_at) DO UPDATE SET
                target_start = excluded.target_start, step_s = excluded.step_s, kwh = excluded.kwh,
                model_id = excluded.model_id, model_sha256 = excluded.model_sha256
            WHERE (forecast_issue.kwh, forecast_issue.step_s, forecast_issue.model_sha256)
                IS DISTINCT FROM (excluded.kwh, excluded.step_s, excluded.model_sha256)"""
        parameters = [model_id, model_sha256, *parameters, array_literal(flat.ravel())]
        return self._session.transaction(lambda cursor: _affected(cursor, sql, parameters))

    def _refresh(self, low_ms: int, high_ms: int) -> None:
        """Bring the continuous aggregates up to date where [low_ms, high_ms) is materialised already.

        What is later than the invalidation threshold is aggregated when it is read; what is earlier changes in the
        aggregate only with a refresh. A crash before this leaves the work to the refresh policies.
        """

        def refresh(cursor: Cursor) -> None:
            cursor.execute(THRESHOLDS, ([name for name, _ in LEVELS],))
            thresholds = {name: int(value) for name, value in cursor.fetchall()}
            top = max(thresholds.values(), default=NEVER)
            for i, (name, width) in enumerate(LEVELS):
                threshold = top if i == 0 else thresholds.get(name, NEVER)
                if low_ms >= threshold:
                    continue
                low = low_ms // width * width
                high = min(-(-high_ms // width) * width, -(-threshold // width) * width)
                cursor.execute("CALL refresh_continuous_aggregate(%s, %s, %s)", (name, _time(low), _time(high)))

        try:
            self._session.autocommit(refresh)
        except psycopg2.errors.InsufficientPrivilege as error:
            log.warning("energy_* lag behind until the refresh policies run: %s", " ".join(str(error).split()))


# The invalidation threshold moves before a refresh reads, the watermark after: the one to ask.
THRESHOLDS = """
    SELECT a.user_view_name, t.watermark / 1000
    FROM _timescaledb_catalog.continuous_agg AS a
    JOIN _timescaledb_catalog.continuous_aggs_invalidation_threshold AS t ON t.hypertable_id = a.raw_hypertable_id
    WHERE a.user_view_name = ANY(%s)"""


@dataclass(frozen=True)
class _Batch:
    """Readings of one call, each key once, sorted by (pair, time); a pair is a register of a meter."""

    readings: Readings
    pair: Ints
    meters: list[str]
    registers: list[str]
    counts: WriteCounts
    lost: Readings
    """What lost against another value in the batch itself."""

    @classmethod
    def of(cls, readings: Readings) -> _Batch:
        keys: dict[tuple[str, str], int] = {}
        found = zip(readings.meter_id.tolist(), readings.register.tolist(), strict=True)
        pair = np.fromiter((keys.setdefault(key, len(keys)) for key in found), np.int64, len(readings))
        # Sorted by name, so that all writers lock in the same order.
        names = sorted(keys)
        number = np.empty(len(keys), np.int64)
        number[[keys[name] for name in names]] = np.arange(len(names))
        pair = number[pair]
        resolved = resolve(pair, readings)
        counts = WriteCounts(0, resolved.repeated, resolved.superseded, len(resolved.conflicts))
        return cls(
            readings.take(resolved.keep), pair[resolved.keep], [m for m, _ in names], [r for _, r in names],
            counts, readings.take(resolved.conflicts),
        )  # fmt: skip

    def introduce(self, cursor: Cursor) -> None:
        """Meters and series that the database does not know yet."""
        tenant = dict(zip(self.readings.meter_id.tolist(), self.readings.tenant_id.tolist(), strict=True))
        meters = sorted(tenant)
        source, parameters = rows_of(m=("text", meters), t=("text", [tenant[meter] for meter in meters]))
        cursor.execute(
            f"INSERT INTO meter (meter_id, tenant_id) SELECT m, t FROM {source} AS u ORDER BY m ON CONFLICT DO NOTHING",
            parameters,
        )
        source, parameters = rows_of(m=("text", self.meters), r=("text", self.registers))
        cursor.execute(
            f"INSERT INTO series_state (meter_id, register) SELECT m, r FROM {source} AS u ORDER BY m, r "
            "ON CONFLICT DO NOTHING",
            parameters,
        )

    def write(self, cursor: Cursor, received_at_ms: int) -> tuple[WriteCounts, tuple[int, int] | None] | None:
        """Everything in one transaction; None where a series must be introduced first."""
        heads = self._lock(cursor)
        if heads is None:
            return None
        r = self.readings
        late = self._late(heads)
        is_late = late[self.pair]
        stored = self._stored(cursor, np.flatnonzero(is_late))
        counts, wins, conflicts = self._compare(is_late, stored)
        self._record_conflicts(cursor, conflicts)
        if not wins.any():
            return counts, None
        _insert_readings(cursor, r.take(wins), received_at_ms)
        kind, mixed = self._kinds(heads, stored)
        config = SeriesConfig(np.where(mixed, 0, kind).astype(np.int8), heads.register_max, heads.max_kw)
        on_time = np.flatnonzero(~is_late)
        derived = derive(
            self.pair[on_time], r.ts_ms[on_time], r.value[on_time], r.interval_ms[on_time], r.quality[on_time],
            config=config, carry=heads.carry,
        )  # fmt: skip
        slots = _write_slots(cursor, self, derived.slots, kind)
        bounds = [(int(slots.slot_ms.min()), int(slots.slot_ms.max()) + SLOT_MS)] if len(slots) else []
        carry = derived.carry
        if late.any():
            changed = _Late(self, heads, kind, carry, bounds)
            changed.derive(cursor, np.flatnonzero(is_late & wins), stored)
        self._write_heads(cursor, heads, kind, carry, wins)
        if not bounds:
            return counts, None
        return counts, (min(low for low, _ in bounds), max(high for _, high in bounds))

    def _lock(self, cursor: Cursor) -> _Heads | None:
        n = len(self.meters)
        source, parameters = rows_of(i=("integer", np.arange(n)), m=("text", self.meters), r=("text", self.registers))
        cursor.execute(
            f"""SELECT u.i, s.kind, s.first_ts, s.head_ts, s.max_interval, s.last_ts, s.mark, s.estimated, s.kwh,
                s.covered, s.readings, m.register_max, m.max_kw
            FROM {source} AS u
            JOIN series_state AS s ON s.meter_id = u.m AND s.register = u.r
            LEFT JOIN meter AS m ON m.meter_id = s.meter_id
            ORDER BY s.meter_id COLLATE "C", s.register COLLATE "C" FOR UPDATE OF s""",
            parameters,
        )
        rows = cursor.fetchall()
        if len(rows) < n:
            cursor.connection.rollback()
            return None
        rows.sort()
        columns = list(zip(*rows, strict=True))

        def ints(column: int, default: int) -> Ints:
            return np.array([default if value is None else value for value in columns[column]], np.int64)

        def floats(column: int) -> Floats:
            return np.array([np.nan if value is None else value for value in columns[column]], np.float64)

        kind = ints(1, 0)
        known = np.array([value is not None for value in columns[1]], np.bool_)
        carry = Carry(
            ints(5, NEVER), np.nan_to_num(floats(6)), np.array(columns[7], np.bool_), floats(8), ints(9, 0), ints(10, 0)
        )
        return _Heads(
            kind.astype(np.int8), known, ints(2, -NEVER - 1), ints(3, NEVER), ints(4, 0), carry, floats(11), floats(12)
        )

    def _late(self, heads: _Heads) -> NDArray[np.bool_]:
        """Pairs that have a reading (or the start of an interval) before their last stored one, or are of two kinds."""
        r, n = self.readings, len(self.meters)
        late = np.zeros(n, np.bool_)
        late[self.pair[r.ts_ms - r.interval_ms < heads.head_ms[self.pair]]] = True
        late[self.pair[r.ts_ms <= heads.head_ms[self.pair]]] = True
        kind = heads.kind.copy()
        fresh = ~heads.known
        kind[self.pair] = np.where(fresh[self.pair], r.kind, kind[self.pair])
        late[self.pair[r.kind != kind[self.pair]]] = True
        return late | (heads.kind == MIXED)

    def _stored(self, cursor: Cursor, index: Ints) -> dict[int, tuple[int, float, int, int, int]]:
        """Stored readings of the same keys: row -> (revision, value, kind, interval_ms, quality)."""
        if not len(index):
            return {}
        r = self.readings.take(index)
        source, parameters = rows_of(
            i=("integer", index), m=("text", r.meter_id), r=("text", r.register), ts=("bigint", r.ts_ms)
        )
        cursor.execute(
            f"""SELECT u.i, s.revision, s.value, array_position(enum_range(NULL::reading_kind), s.kind) - 1,
                coalesce(s.interval_s * 1000, 0), array_position(enum_range(NULL::reading_quality), s.quality) - 1
            FROM {source} AS u
            JOIN reading AS s ON s.meter_id = u.m AND s.register = u.r AND s.ts = to_timestamp(u.ts / 1000.0)
            WHERE s.ts BETWEEN %s AND %s""",
            [*parameters, _time(int(r.ts_ms.min())), _time(int(r.ts_ms.max()))],
        )
        return {row[0]: (row[1], row[2], row[3], round(row[4]), row[5]) for row in cursor.fetchall()}

    def _compare(
        self, is_late: NDArray[np.bool_], stored: dict[int, tuple[int, float, int, int, int]]
    ) -> tuple[WriteCounts, NDArray[np.bool_], list[tuple[int, float]]]:
        """Counts, the rows that are to be written, and conflicts as (row, the value that is dropped)."""
        r = self.readings
        wins = np.ones(len(r), np.bool_)
        new, repeated, superseded, conflict = len(r) - len(stored), 0, 0, 0
        conflicts: list[tuple[int, float]] = []
        for i, old in stored.items():
            mine = (int(r.revision[i]), float(r.value[i]), int(r.kind[i]), int(r.interval_ms[i]), int(r.quality[i]))
            wins[i] = mine > old
            if mine[0] != old[0]:
                superseded += 1
            elif mine[1] == old[1]:
                repeated += 1
            else:
                conflict += 1
                conflicts.append((i, min(mine[1], old[1])))
        c = self.counts
        counts = WriteCounts(new, c.repeated + repeated, c.superseded + superseded, c.conflicts + conflict)
        return counts, wins, conflicts

    def _record_conflicts(self, cursor: Cursor, conflicts: list[tuple[int, float]]) -> None:
        index = np.array([i for i, _ in conflicts], np.int64)
        both = [self.lost, self.readings.take(index)]
        value = np.concatenate([self.lost.value, np.array([value for _, value in conflicts], np.float64)])
        if not len(value):
            return
        source, parameters = rows_of(
            m=("text", np.concatenate([part.meter_id for part in both])),
            r=("text", np.concatenate([part.register for part in both])),
            ts=("bigint", np.concatenate([part.ts_ms for part in both])),
            revision=("bigint", np.concatenate([part.revision for part in both])),
            value=("float8", value),
        )
        cursor.execute(
            f"""INSERT INTO reading_conflict (meter_id, register, ts, revision, dropped_value)
            SELECT m, r, to_timestamp(ts / 1000.0), revision, value FROM {source} AS u ORDER BY 1, 2, 3, 4, 5
            ON CONFLICT DO NOTHING""",
            parameters,
        )

    def _kinds(
        self, heads: _Heads, stored: dict[int, tuple[int, float, int, int, int]]
    ) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
        """The kind of each pair, `MIXED` where it has readings of several."""
        kind = heads.kind.copy()
        fresh = ~heads.known[self.pair]
        kind[self.pair[fresh]] = self.readings.kind[fresh]
        kind[self.pair[self.readings.kind != kind[self.pair]]] = MIXED
        return kind, kind == MIXED

    def _write_heads(
        self, cursor: Cursor, heads: _Heads, kind: NDArray[np.int8], carry: Carry, wins: NDArray[np.bool_]
    ) -> None:
        pair, ts = self.pair[wins], self.readings.ts_ms[wins]
        first, head, longest = heads.first_ms.copy(), heads.head_ms.copy(), heads.max_interval_ms.copy()
        np.minimum.at(first, pair, ts)
        np.maximum.at(head, pair, ts)
        np.maximum.at(longest, pair, self.readings.interval_ms[wins])
        p = np.unique(pair)
        source, parameters = rows_of(
            m=("text", [self.meters[i] for i in p.tolist()]),
            r=("text", [self.registers[i] for i in p.tolist()]),
            kind=("smallint", kind[p]),
            first_ts=("bigint", first[p]),
            head_ts=("bigint", head[p]),
            max_interval=("bigint", longest[p]),
            last_ts=("bigint", carry.last_ms[p]),
            mark=("float8", carry.mark[p]),
            estimated=("boolean", carry.estimated[p]),
            kwh=("float8", carry.kwh[p]),
            covered=("bigint", carry.covered_ms[p]),
            readings=("integer", carry.readings[p]),
        )
        cursor.execute(
            f"""UPDATE series_state AS s SET kind = u.kind, first_ts = u.first_ts, head_ts = u.head_ts,
                max_interval = u.max_interval, last_ts = nullif(u.last_ts, {NEVER}), mark = u.mark,
                estimated = u.estimated, kwh = u.kwh, covered = u.covered, readings = u.readings
            FROM {source} AS u WHERE s.meter_id = u.m AND s.register = u.r""",
            parameters,
        )


@dataclass(frozen=True)
class _Late:
    """Derives again what late, revised and mixed readings change; fills `carry` and `bounds`."""

    batch: _Batch
    heads: _Heads
    kind: NDArray[np.int8]
    carry: Carry
    bounds: list[tuple[int, int]]

    def derive(self, cursor: Cursor, index: Ints, stored: dict[int, tuple[int, float, int, int, int]]) -> None:
        """Derive the surroundings of the rows `index` from the stored readings."""
        r, pair = self.batch.readings, self.batch.pair
        n = len(self.batch.meters)
        low, high = np.full(n, OPEN_END), np.full(n, -OPEN_END)
        length = np.array(
            [max(int(r.interval_ms[i]), stored[i][3] if i in stored else 0) for i in index.tolist()], np.int64
        )
        np.minimum.at(low, pair[index], r.ts_ms[index] - length)
        np.maximum.at(high, pair[index], r.ts_ms[index])
        longest = self.heads.max_interval_ms.copy()
        np.maximum.at(longest, pair, r.interval_ms)
        first, head = self.heads.first_ms.copy(), self.heads.head_ms.copy()
        np.minimum.at(first, pair, r.ts_ms)
        np.maximum.at(head, pair, r.ts_ms)
        pending = np.unique(pair[index])
        for margin in MARGINS_MS:
            if not len(pending):
                break
            begin = low[pending] - margin
            end = high[pending] + margin + longest[pending]
            complete = (begin <= first[pending], end >= head[pending])
            pending = self._window(cursor, pending, begin, end, complete, (low[pending], high[pending]))

    def _window(
        self,
        cursor: Cursor,
        pending: Ints,
        begin: Ints,
        end: Ints,
        complete: tuple[Any, Any],
        touched: tuple[Ints, Ints],
    ) -> Ints:
        """Derive what this window decides; the pairs that need a wider one."""
        batch = self.batch
        source, parameters = rows_of(
            i=("integer", np.arange(len(pending))),
            m=("text", [batch.meters[i] for i in pending.tolist()]),
            r=("text", [batch.registers[i] for i in pending.tolist()]),
            a=("bigint", np.maximum(begin, -62_000_000_000_000)),
            b=("bigint", np.minimum(end, 250_000_000_000_000)),
        )
        cursor.execute(
            f"""SELECT u.i, array_position(enum_range(NULL::reading_kind), s.kind) - 1,
                (extract(epoch FROM s.ts) * 1000)::bigint, s.value, coalesce(s.interval_s * 1000, 0)::bigint,
                array_position(enum_range(NULL::reading_quality), s.quality) - 1
            FROM {source} AS u
            JOIN reading AS s ON s.meter_id = u.m AND s.register = u.r
                AND s.ts BETWEEN to_timestamp(u.a / 1000.0) AND to_timestamp(u.b / 1000.0)
            WHERE s.quality <> 'invalid' AND s.ts BETWEEN to_timestamp(%s / 1000.0) AND to_timestamp(%s / 1000.0)
            ORDER BY 1, 2, 3""",
            [*parameters, max(int(begin.min()), -62_000_000_000_000), min(int(end.max()), 250_000_000_000_000)],
        )
        rows = cursor.fetchall()
        columns = [np.array(c) for c in zip(*rows, strict=True)] if rows else [np.zeros(0, np.int64)] * 6
        who, kind, ts, value, interval, quality = columns
        value = value.astype(np.float64)
        picked: list[Ints] = []
        numbers: list[Ints] = []
        series: list[tuple[int, int, int, int]] = []
        stands: list[tuple[int, int]] = []
        wider: list[int] = []
        for i, p in enumerate(pending.tolist()):
            kinds = [int(self.kind[p])] if self.kind[p] != MIXED else [0, 1, 2]
            found = []
            for each in kinds:
                low, high = np.searchsorted(who, i, "left"), np.searchsorted(who, i, "right")
                window = np.arange(low, high)[kind[low:high] == each]
                change = decide(
                    each, ts[window], ts[window] - interval[window], value[window],
                    (int(touched[0][i]), int(touched[1][i])), (bool(complete[0][i]), bool(complete[1][i])),
                )  # fmt: skip
                found.append((each, window, change))
            if any(change is None for _, _, change in found):
                wider.append(p)
                continue
            for each, window, change in found:
                assert change is not None  # noqa: S101
                if change.head and self.kind[p] != MIXED:
                    stands.append((len(series), p))
                picked.append(window[change.first : change.stop])
                numbers.append(np.full(change.stop - change.first, len(series)))
                series.append((p, each, change.from_ms, change.until_ms))
        if series:
            rows_index = np.concatenate(picked)
            owner = np.array([p for p, _, _, _ in series], np.int64)
            kinds_of = np.array([each for _, each, _, _ in series], np.int8)
            config = SeriesConfig(kinds_of, self.heads.register_max[owner], self.heads.max_kw[owner])
            derived = derive(
                np.concatenate(numbers), ts[rows_index], value[rows_index], interval[rows_index],
                quality[rows_index].astype(np.int8), config=config,
            )  # fmt: skip
            self._replace(cursor, series, derived)
            for number, p in stands:
                self._stand(p, number, derived.carry)
        return np.array(wider, np.int64)

    def _stand(self, pair: int, number: int, found: Carry) -> None:
        for mine, new in zip(_columns(self.carry), _columns(found), strict=True):
            mine[pair] = new[number]

    def _replace(self, cursor: Cursor, series: list[tuple[int, int, int, int]], derived: Derived) -> None:
        """Make the slots of the ranges what was derived: no other row stays in them."""
        owner = np.array([p for p, _, _, _ in series], np.int64)
        kind = np.array([each for _, each, _, _ in series], np.int8)
        begin = np.array([a for _, _, a, _ in series], np.int64)
        end = np.array([b for _, _, _, b in series], np.int64)
        s = derived.slots
        inside = (s.slot_ms >= begin[s.series]) & (s.slot_ms < end[s.series])
        slots = Slots(s.series[inside], s.slot_ms[inside], s.kwh[inside], s.covered_ms[inside], s.readings[inside])
        meters = [self.batch.meters[p] for p in owner.tolist()]
        registers = [self.batch.registers[p] for p in owner.tolist()]
        ranges, parameters = rows_of(
            i=("integer", np.arange(len(series))),
            m=("text", meters),
            r=("text", registers),
            kind=("integer", kind),
            a=("bigint", begin),
            b=("bigint", np.minimum(end, 250_000_000_000_000)),
        )
        kept, kept_parameters = rows_of(i=("integer", slots.series), slot=("bigint", slots.slot_ms))
        cursor.execute(
            f"""DELETE FROM energy_slot AS e USING {ranges} AS u
            WHERE e.meter_id = u.m AND e.register = u.r AND e.kind = {KINDS}[u.kind + 1]
                AND e.bucket >= to_timestamp(u.a / 1000.0) AND e.bucket < to_timestamp(u.b / 1000.0)
                AND e.bucket >= to_timestamp(%s / 1000.0)
                AND NOT EXISTS (
                    SELECT FROM {kept} AS k WHERE k.i = u.i AND to_timestamp(k.slot / 1000.0) = e.bucket)
            RETURNING (extract(epoch FROM e.bucket) * 1000)::bigint""",
            [*parameters, int(begin.min()), *kept_parameters],
        )
        gone = [row[0] for row in cursor.fetchall()]
        if gone:
            self.bounds.append((min(gone), max(gone) + SLOT_MS))
        renamed = Slots(owner[slots.series], slots.slot_ms, slots.kwh, slots.covered_ms, slots.readings)
        _write_slots(cursor, self.batch, renamed, self.kind, kind[slots.series])
        if len(slots):
            self.bounds.append((int(slots.slot_ms.min()), int(slots.slot_ms.max()) + SLOT_MS))


def _columns(carry: Carry) -> tuple[NDArray[Any], ...]:
    return carry.last_ms, carry.mark, carry.estimated, carry.kwh, carry.covered_ms, carry.readings


def _insert_readings(cursor: Cursor, r: Readings, received_at_ms: int) -> None:
    source, parameters = rows_of(
        m=("text", r.meter_id),
        r=("text", r.register),
        ts=("bigint", r.ts_ms),
        kind=("integer", r.kind),
        value=("float8", r.value),
        length=("bigint", r.interval_ms),
        revision=("bigint", r.revision),
        quality=("integer", r.quality),
        tenant=("text", r.tenant_id),
    )
    cursor.execute(
        f"""INSERT INTO reading
            (meter_id, register, ts, kind, value, unit, interval_s, revision, quality, tenant_id, received_at)
        SELECT m, r, to_timestamp(ts / 1000.0), {KINDS}[kind + 1], value, CASE kind WHEN 2 THEN 'kW' ELSE 'kWh' END,
            nullif(length, 0) / 1000.0, revision, {QUALITIES}[quality + 1], tenant, to_timestamp(%s / 1000.0)
        FROM {source} AS u
        ON CONFLICT (meter_id, register, ts) DO UPDATE SET
            kind = excluded.kind, value = excluded.value, unit = excluded.unit, interval_s = excluded.interval_s,
            revision = excluded.revision, quality = excluded.quality, tenant_id = excluded.tenant_id
        WHERE {NEWER} > {STORED}""",
        [received_at_ms, *parameters],
    )


def _write_slots(
    cursor: Cursor, batch: _Batch, slots: Slots, kind: NDArray[np.int8], each: NDArray[np.int8] | None = None
) -> Slots:
    """Upsert slots; `slots.series` are pairs of the batch, of `kind[pair]` or of the kind `each` says, row by row."""
    if not len(slots):
        return slots
    of = kind[slots.series] if each is None else each
    number = {
        (p, k): flow_of(batch.registers[p], Kind(k))
        for p, k in set(zip(slots.series.tolist(), of.tolist(), strict=True))
    }
    flow = np.array([number[key] for key in zip(slots.series.tolist(), of.tolist(), strict=True)], np.int64)
    meters, registers = np.array(batch.meters, object), np.array(batch.registers, object)
    source, parameters = rows_of(
        m=("text", meters[slots.series]),
        r=("text", registers[slots.series]),
        kind=("integer", of),
        slot=("bigint", slots.slot_ms),
        flow=("smallint", flow),
        kwh=("float8", slots.kwh),
        covered=("integer", slots.covered_ms),
        readings=("integer", slots.readings),
    )
    cursor.execute(
        f"""INSERT INTO energy_slot AS e (meter_id, register, kind, bucket, flow, kwh, covered_s, readings)
        SELECT m, r, {KINDS}[kind + 1], to_timestamp(slot / 1000.0), flow, kwh, covered / 1000.0, readings
        FROM {source} AS u
        ON CONFLICT (meter_id, register, kind, bucket) DO UPDATE SET
            flow = excluded.flow, kwh = excluded.kwh, covered_s = excluded.covered_s, readings = excluded.readings
        WHERE (e.kwh, e.covered_s, e.readings, e.flow)
            IS DISTINCT FROM (excluded.kwh, excluded.covered_s, excluded.readings, excluded.flow)""",
        parameters,
    )
    return slots


def _affected(cursor: Cursor, sql: str, parameters: list[Any]) -> int:
    cursor.execute(sql, parameters)
    return int(cursor.rowcount)


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
