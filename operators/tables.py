"""The store's statements: each takes columns and runs one SQL statement in the caller's transaction."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from operators.energy import NEVER, Carry, Slots
from operators.flows import flow_of
from operators.increments import Bools, Floats, Ints
from operators.pg import rows_of
from operators.readings import Kind, Readings

MIXED = -1
"""Kind of a pair (meter, register) that has readings of several kinds."""

LATEST = np.iinfo(np.int64).max
FIRST_MS, LAST_MS = -62_000_000_000_000, 250_000_000_000_000
"""Years 5 to 9892: what both PostgreSQL and Python can tell."""

_KINDS = "(ARRAY['register', 'interval', 'instant']::reading_kind[])"
_QUALITIES = "(ARRAY['measured', 'estimated', 'invalid']::reading_quality[])"
_KIND_NUMBER = "array_position(enum_range(NULL::reading_kind), s.kind) - 1"
_QUALITY_NUMBER = "array_position(enum_range(NULL::reading_quality), s.quality) - 1"
# The reading that stands when two writers, or two batches, bring the same key: the same order as energy.resolve.
_NEWER = "(excluded.revision, excluded.value, excluded.kind, coalesce(excluded.interval_s, 0), excluded.quality)"
_STORED = "(reading.revision, reading.value, reading.kind, coalesce(reading.interval_s, 0), reading.quality)"

Rank = tuple[int, float, int, int, int]
"""Revision, value, kind, interval_ms, quality: of two readings of one key, the greater stands."""


@dataclass(frozen=True)
class Pairs:
    """Names of the pairs (meter, register) of a batch, by number; in the order of the names."""

    meters: NDArray[np.object_]
    registers: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.meters)


@dataclass(frozen=True)
class Heads:
    """Rows of `series_state` and the meters' configuration, by pair number."""

    kind: NDArray[np.int8]
    known: Bools
    """Whether the pair has a reading."""
    first_ms: Ints
    head_ms: Ints
    """Times of its first and last reading, invalid ones included; `LATEST` and `NEVER` without one."""
    max_interval_ms: Ints
    carry: Carry
    register_max: Floats
    max_kw: Floats


def introduce(cursor: Cursor, pairs: Pairs, tenant: dict[str, str]) -> None:
    """Add meters (`tenant` by meter) and pairs that the database does not know yet, in the order of their names."""
    meters = sorted(tenant)
    source, parameters = rows_of(m=("text", meters), t=("text", [tenant[meter] for meter in meters]))
    cursor.execute(
        f"INSERT INTO meter (meter_id, tenant_id) SELECT m, t FROM {source} AS u ORDER BY m ON CONFLICT DO NOTHING",
        parameters,
    )
    source, parameters = rows_of(m=("text", pairs.meters), r=("text", pairs.registers))
    cursor.execute(
        f"INSERT INTO series_state (meter_id, register) SELECT m, r FROM {source} AS u ORDER BY m, r "
        "ON CONFLICT DO NOTHING",
        parameters,
    )


def lock_heads(cursor: Cursor, pairs: Pairs) -> Heads | None:
    """Lock the pairs' rows until the end of the transaction, in one order; None when some are not introduced."""
    source, parameters = rows_of(
        i=("integer", np.arange(len(pairs))), m=("text", pairs.meters), r=("text", pairs.registers)
    )
    cursor.execute(
        f"""SELECT u.i, s.kind, s.first_ts, s.head_ts, s.max_interval, s.last_ts, s.mark, s.estimated, s.kwh,
            s.covered, s.readings, s.fallen
        FROM {source} AS u
        JOIN series_state AS s ON s.meter_id = u.m AND s.register = u.r
        ORDER BY s.meter_id COLLATE "C", s.register COLLATE "C" FOR UPDATE OF s""",
        parameters,
    )
    rows = cursor.fetchall()
    if len(rows) < len(pairs):
        return None
    rows.sort()
    columns = list(zip(*rows, strict=True))

    def ints(column: int, default: int = 0) -> Ints:
        return np.array([default if value is None else value for value in columns[column]], np.int64)

    carry = Carry(
        ints(5, NEVER), np.nan_to_num(_floats(columns[6])), np.array(columns[7], np.bool_), _floats(columns[8]),
        ints(9), ints(10), np.array(columns[11], np.bool_),
    )  # fmt: skip
    return Heads(
        ints(1).astype(np.int8), np.array([value is not None for value in columns[1]], np.bool_),
        ints(2, LATEST), ints(3, NEVER), ints(4), carry, *_limits(cursor, pairs),
    )  # fmt: skip


def _limits(cursor: Cursor, pairs: Pairs) -> tuple[Floats, Floats]:
    """`register_max` and `max_kw` of each pair's meter. A statement of its own, so that it sees what was configured
    while the locks were waited for: whoever derives again after a change then misses no writer."""
    source, parameters = rows_of(i=("integer", np.arange(len(pairs))), m=("text", pairs.meters))
    cursor.execute(
        f"SELECT m.register_max, m.max_kw FROM {source} AS u LEFT JOIN meter AS m ON m.meter_id = u.m ORDER BY u.i",
        parameters,
    )
    columns = list(zip(*cursor.fetchall(), strict=True))
    return _floats(columns[0]), _floats(columns[1])


def _floats(column: tuple[float | None, ...]) -> Floats:
    return np.array([np.nan if value is None else value for value in column], np.float64)


def write_heads(cursor: Cursor, pairs: Pairs, heads: Heads, which: Ints) -> None:
    """Store the state of the pairs `which`."""
    carry = heads.carry
    source, parameters = rows_of(
        m=("text", pairs.meters[which]),
        r=("text", pairs.registers[which]),
        kind=("smallint", heads.kind[which]),
        first_ts=("bigint", heads.first_ms[which]),
        head_ts=("bigint", heads.head_ms[which]),
        max_interval=("bigint", heads.max_interval_ms[which]),
        last_ts=("bigint", carry.last_ms[which]),
        mark=("float8", carry.mark[which]),
        estimated=("boolean", carry.estimated[which]),
        kwh=("float8", carry.kwh[which]),
        covered=("bigint", carry.covered_ms[which]),
        readings=("integer", carry.readings[which]),
        fallen=("boolean", carry.fallen[which]),
    )
    cursor.execute(
        f"""UPDATE series_state AS s SET kind = u.kind, first_ts = u.first_ts, head_ts = u.head_ts,
            max_interval = u.max_interval, last_ts = nullif(u.last_ts, {NEVER}), mark = u.mark,
            estimated = u.estimated, kwh = u.kwh, covered = u.covered, readings = u.readings,
            fallen = u.fallen
        FROM {source} AS u WHERE s.meter_id = u.m AND s.register = u.r""",
        parameters,
    )


def stored_ranks(cursor: Cursor, readings: Readings, index: Ints) -> dict[int, Rank]:
    """What is stored under the keys of the rows `index`: row -> rank, for those that are."""
    if not len(index):
        return {}
    r = readings.take(index)
    source, parameters = rows_of(
        i=("integer", index), m=("text", r.meter_id), r=("text", r.register), ts=("bigint", r.ts_ms)
    )
    cursor.execute(
        f"""SELECT u.i, s.revision, s.value, {_KIND_NUMBER}, coalesce(s.interval_s * 1000, 0), {_QUALITY_NUMBER}
        FROM {source} AS u
        JOIN reading AS s ON s.meter_id = u.m AND s.register = u.r AND s.ts = to_timestamp(u.ts / 1000.0)
        WHERE s.ts BETWEEN %s AND %s""",
        [*parameters, to_time(int(r.ts_ms.min())), to_time(int(r.ts_ms.max()))],
    )
    return {row[0]: (row[1], row[2], row[3], round(row[4]), row[5]) for row in cursor.fetchall()}


def insert_readings(cursor: Cursor, r: Readings, received_ms: Ints) -> None:
    """Insert readings, each key once; where the key is stored, the greater rank stands and `received_at` stays."""
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
        received=("bigint", received_ms),
    )
    cursor.execute(
        f"""INSERT INTO reading
            (meter_id, register, ts, kind, value, unit, interval_s, revision, quality, tenant_id, received_at)
        SELECT m, r, to_timestamp(ts / 1000.0), {_KINDS}[kind + 1], value, CASE kind WHEN 2 THEN 'kW' ELSE 'kWh' END,
            nullif(length, 0) / 1000.0, revision, {_QUALITIES}[quality + 1], tenant,
            to_timestamp(received / 1000.0)
        FROM {source} AS u
        ON CONFLICT (meter_id, register, ts) DO UPDATE SET
            kind = excluded.kind, value = excluded.value, unit = excluded.unit, interval_s = excluded.interval_s,
            revision = excluded.revision, quality = excluded.quality, tenant_id = excluded.tenant_id
        WHERE {_NEWER} > {_STORED}""",
        parameters,
    )


def record_conflicts(cursor: Cursor, readings: Readings, dropped: Floats) -> None:
    """Note values that lost against another of the same revision."""
    if not len(readings):
        return
    source, parameters = rows_of(
        m=("text", readings.meter_id),
        r=("text", readings.register),
        ts=("bigint", readings.ts_ms),
        revision=("bigint", readings.revision),
        value=("float8", dropped),
    )
    cursor.execute(
        f"""INSERT INTO reading_conflict (meter_id, register, ts, revision, dropped_value)
        SELECT m, r, to_timestamp(ts / 1000.0), revision, value FROM {source} AS u ORDER BY 1, 2, 3, 4, 5
        ON CONFLICT DO NOTHING""",
        parameters,
    )


@dataclass(frozen=True)
class Window:
    """Stored valid readings, sorted by (row of the question, kind, time)."""

    row: Ints
    kind: Ints
    ts_ms: Ints
    value: Floats
    interval_ms: Ints
    quality: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.ts_ms)

    def take(self, index: NDArray[Any]) -> Self:
        """The rows that `index` (positions or a mask) picks."""
        return type(self)(*(getattr(self, field.name)[index] for field in fields(self)))


def read_window(cursor: Cursor, pairs: Pairs, which: Ints, begin_ms: Ints, end_ms: Ints) -> Window:
    """The valid readings of the pairs `which` from `begin_ms` to `end_ms` (each pair its own, both included)."""
    begin, end = np.maximum(begin_ms, FIRST_MS), np.minimum(end_ms, LAST_MS)
    source, parameters = rows_of(
        i=("integer", np.arange(len(which))),
        m=("text", pairs.meters[which]),
        r=("text", pairs.registers[which]),
        a=("bigint", begin),
        b=("bigint", end),
    )
    # The constants at the end let the planner leave out chunks.
    cursor.execute(
        f"""SELECT u.i, {_KIND_NUMBER}, (extract(epoch FROM s.ts) * 1000)::bigint, s.value,
            coalesce(s.interval_s * 1000, 0)::bigint, {_QUALITY_NUMBER}
        FROM {source} AS u
        JOIN reading AS s ON s.meter_id = u.m AND s.register = u.r
            AND s.ts BETWEEN to_timestamp(u.a / 1000.0) AND to_timestamp(u.b / 1000.0)
        WHERE s.quality <> 'invalid' AND s.ts BETWEEN %s AND %s
        ORDER BY 1, 2, 3""",
        [*parameters, to_time(int(begin.min())), to_time(int(end.max()))],
    )
    return _window(cursor)


def read_on(cursor: Cursor, pairs: Pairs, kind: int, after_ms: int, limit: int) -> Window:
    """The next `limit` valid readings of one kind of the first pair, later than `after_ms`."""
    cursor.execute(
        f"""SELECT 0, {_KIND_NUMBER}, (extract(epoch FROM s.ts) * 1000)::bigint, s.value,
            coalesce(s.interval_s * 1000, 0)::bigint, {_QUALITY_NUMBER}
        FROM reading AS s
        WHERE s.meter_id = %s AND s.register = %s AND s.kind = {_KINDS}[%s] AND s.quality <> 'invalid'
            AND s.ts > to_timestamp(%s / 1000.0)
        ORDER BY s.ts LIMIT %s""",
        [pairs.meters[0], pairs.registers[0], kind + 1, after_ms, limit],
    )
    return _window(cursor)


def _window(cursor: Cursor) -> Window:
    columns: list[tuple[float, ...]] = list(zip(*cursor.fetchall(), strict=True)) or [()] * 6
    row, kind, ts, interval, quality = (np.array(columns[c], np.int64) for c in (0, 1, 2, 4, 5))
    return Window(row, kind, ts, np.array(columns[3], np.float64), interval, quality.astype(np.int8))


def write_slots(cursor: Cursor, pairs: Pairs, slots: Slots, kind: NDArray[np.int8]) -> None:
    """Upsert slots; `slots.series` are pair numbers, `kind` int8 [len(slots)] the kind of each row."""
    if not len(slots):
        return
    keys = slots.series * 4 + kind
    unique, inverse = np.unique(keys, return_inverse=True)
    flows = np.array([flow_of(pairs.registers[key // 4], Kind(key % 4)) for key in unique.tolist()], np.int64)
    source, parameters = rows_of(
        m=("text", pairs.meters[slots.series]),
        r=("text", pairs.registers[slots.series]),
        kind=("integer", kind),
        slot=("bigint", slots.slot_ms),
        flow=("smallint", flows[inverse]),
        kwh=("float8", slots.kwh),
        covered=("integer", slots.covered_ms),
        readings=("integer", slots.readings),
    )
    cursor.execute(
        f"""INSERT INTO energy_slot AS e (meter_id, register, kind, bucket, flow, kwh, covered_s, readings)
        SELECT m, r, {_KINDS}[kind + 1], to_timestamp(slot / 1000.0), flow, kwh, covered / 1000.0, readings
        FROM {source} AS u
        ON CONFLICT (meter_id, register, kind, bucket) DO UPDATE SET
            flow = excluded.flow, kwh = excluded.kwh, covered_s = excluded.covered_s, readings = excluded.readings
        WHERE (e.kwh, e.covered_s, e.readings, e.flow)
            IS DISTINCT FROM (excluded.kwh, excluded.covered_s, excluded.readings, excluded.flow)""",
        parameters,
    )


@dataclass(frozen=True)
class SlotRanges:
    """Ranges [from_ms, until_ms) of slots, one a (pair, kind)."""

    pair: Ints
    kind: NDArray[np.int8]
    from_ms: Ints
    until_ms: Ints


def delete_other_slots(cursor: Cursor, pairs: Pairs, ranges: SlotRanges, number: Ints, slot_ms: Ints) -> Ints:
    """Delete what is in the ranges but not among the slots (`number` of the range, start); starts of the deleted.

    The slots must be written already: a range that holds as many as it should has no others, which is nearly always so.
    Counted range by range: as one anti-join, the planner, who cannot know how many slots a range has, now and then
    compared each with each (docs/decisions/016).
    """
    n = len(ranges.pair)
    source, parameters = rows_of(
        i=("integer", np.arange(n)),
        m=("text", pairs.meters[ranges.pair]),
        r=("text", pairs.registers[ranges.pair]),
        kind=("integer", ranges.kind),
        a=("bigint", ranges.from_ms),
        b=("bigint", np.minimum(ranges.until_ms, LAST_MS)),
    )
    inside = f"""e.meter_id = u.m AND e.register = u.r AND e.kind = {_KINDS}[u.kind + 1]
        AND e.bucket >= to_timestamp(u.a / 1000.0) AND e.bucket < to_timestamp(u.b / 1000.0) AND e.bucket >= %s"""
    parameters = [*parameters, to_time(int(ranges.from_ms.min()))]
    cursor.execute(
        f"SELECT u.i, c.n FROM {source} AS u, LATERAL (SELECT count(*) AS n FROM energy_slot AS e WHERE {inside}) AS c",
        parameters,
    )
    wanted = np.bincount(number, minlength=n)
    more = [i for i, count in cursor.fetchall() if count > wanted[i]]
    if not more:
        return np.zeros(0, np.int64)
    cursor.execute(
        f"""SELECT u.i, others.slot FROM {source} AS u, LATERAL (
            SELECT (extract(epoch FROM e.bucket) * 1000)::bigint AS slot FROM energy_slot AS e WHERE {inside} OFFSET 0
        ) AS others WHERE u.i = ANY(%s)""",
        [*parameters, more],
    )
    kept = set(zip(number.tolist(), slot_ms.tolist(), strict=True))
    others = [found for found in cursor.fetchall() if found not in kept]
    owner, slot = (np.array(column, np.int64) for column in zip(*others, strict=True))
    source, parameters = rows_of(
        m=("text", pairs.meters[ranges.pair[owner]]),
        r=("text", pairs.registers[ranges.pair[owner]]),
        kind=("integer", ranges.kind[owner]),
        slot=("bigint", slot),
    )
    cursor.execute(
        f"""DELETE FROM energy_slot AS e USING {source} AS u
        WHERE e.meter_id = u.m AND e.register = u.r AND e.kind = {_KINDS}[u.kind + 1]
            AND e.bucket = to_timestamp(u.slot / 1000.0) AND e.bucket BETWEEN %s AND %s""",
        [*parameters, to_time(int(slot.min())), to_time(int(slot.max()))],
    )
    return slot


def to_time(ms: int) -> datetime:
    """Epoch milliseconds as a datetime in UTC, within what Python can tell."""
    return datetime.fromtimestamp(min(max(ms, FIRST_MS), LAST_MS) / 1000, UTC)
