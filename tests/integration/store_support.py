"""A migrated embedded database for the store's tests, readings to put there, and what must then be in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import numpy as np
import psycopg2
import pytest
from gate_support import GateHandle, start_gate

from infra.database import migrate
from operators.energy import NEVER, Derived, SeriesConfig, derive
from operators.findings import CAUSES, anomaly_id, find
from operators.increments import Event
from operators.readings import Kind, Readings

START = 1_699_999_200_000
"""An hour's start, epoch milliseconds: 2023-11-14 22:00 UTC."""
HOUR = 3_600_000

Row = tuple[Any, ...]


@pytest.fixture(scope="session")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GateHandle]:
    """One embedded TimescaleDB for all, migrated; tests keep to meters of their own."""
    handle = start_gate(tmp_path_factory.mktemp("database"))
    migrate(handle.url)
    yield handle
    handle.stop()


def readings(
    meter: str,
    ts_ms: Any,
    value: Any,
    *,
    kind: Kind = Kind.REGISTER,
    register: str = "1-0:1.8.0",
    interval_ms: int = 0,
    revision: int = 0,
    quality: int = 0,
) -> Readings:
    """Readings of one register of one meter."""
    ts = np.asarray(ts_ms, np.int64)
    n = len(ts)
    return Readings(
        np.full(n, meter, object), np.full(n, register, object), ts, np.full(n, kind, np.int8),
        np.asarray(value, np.float64), np.full(n, interval_ms, np.int64), np.full(n, revision, np.int64),
        np.full(n, quality, np.int8), np.full(n, "default", object),
    )  # fmt: skip


def concat(parts: list[Readings]) -> Readings:
    """One after another."""
    return Readings(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Readings)))


def messy(rng: np.random.Generator, tag: str, meters: int = 6, days: int = 3) -> Readings:
    """A set of readings of all kinds and cadences: gaps, dips, resets, repeats, revisions, conflicts, invalid ones."""
    parts = []
    for i in range(meters):
        kind = Kind(i % 3)
        step = int(rng.choice([77, 300, 900, 1800, 3600])) * 1000
        n = min(days * 24 * HOUR // step, 400)
        ts = START + np.arange(1, n + 1) * step
        used = rng.random(n) * 0.1 * (rng.random(n) < 0.7)
        value = used
        if kind == Kind.REGISTER:
            value = np.cumsum(used) + 100 - (rng.random(n) < 0.1) * rng.choice([0.0004, 0.0009], n)
            value[n // 2 :] -= value[n // 2] - rng.choice([0.0, 50.0])
            value = np.maximum(value, 0)
        # Every second meter of intervals sends them overlapping.
        interval = step * (1 + i // 3 % 2) if kind == Kind.INTERVAL else 0
        part = readings(f"{tag}-{i}", ts, value, kind=kind, interval_ms=interval)
        part.quality[:] = rng.choice([0, 1, 2], n, p=[0.9, 0.07, 0.03])
        keep = rng.random(n) > 0.1
        keep[n // 3 : n // 3 + n // 10] = False
        parts.append(part.take(np.flatnonzero(keep)))
    once = concat(parts)
    again = once.take(rng.integers(0, len(once), len(once) // 5))
    revised = once.take(rng.integers(0, len(once), len(once) // 20))
    revised.value[:] += rng.random(len(revised)) * 0.01
    revised.revision[:] += rng.integers(0, 3, len(revised))
    return concat([once, again, revised])


def shuffled(rng: np.random.Generator, r: Readings, by_ms: int) -> Readings:
    """In the order of time, give and take up to `by_ms`."""
    return r.take(np.argsort(r.ts_ms + rng.integers(0, by_ms, len(r)), kind="stable"))


def query(url: str, sql: str, parameters: Any = None) -> list[Row]:
    """Rows of one query."""
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall()
    finally:
        connection.close()


def stored_slots(url: str, tag: str) -> dict[Row, Row]:
    """`energy_slot` of meters beginning with `tag`: (meter, register, kind, start) -> (kWh, covered s, readings)."""
    rows = query(
        url,
        """SELECT meter_id, register, array_position(enum_range(NULL::reading_kind), kind) - 1,
            (extract(epoch FROM bucket) * 1000)::bigint, kwh, covered_s, readings
        FROM energy_slot WHERE meter_id LIKE %s""",
        (tag + "-%",),
    )
    return {row[:4]: row[4:] for row in rows}


def expected_slots(url: str, tag: str) -> dict[Row, Row]:
    """The same, derived at once from all that is in `reading`."""
    keys, derived, _ = _derive_all(url, tag)
    s = derived.slots
    columns = (s.series.tolist(), s.slot_ms.tolist(), s.kwh.tolist(), s.covered_ms.tolist(), s.readings.tolist())
    return {(*keys[i], slot): (kwh, covered / 1000, n) for i, slot, kwh, covered, n in zip(*columns, strict=True)}


def stored_findings(url: str, tag: str) -> list[Row]:
    """Rows of `anomaly` that readings of meters beginning with `tag` gave, sorted."""
    rows = query(
        url,
        """SELECT meter_id, register, array_position(enum_range(NULL::reading_kind), reading_kind) - 1,
            (extract(epoch FROM end_ts) * 1000)::bigint, (extract(epoch FROM start_ts) * 1000)::bigint, anomaly_id,
            kind, cause, value_before, value_after, observed_kwh, expected_kwh, upper_kwh
        FROM anomaly WHERE register IS NOT NULL AND meter_id LIKE %s""",
        (tag + "-%",),
    )
    return sorted(rows)


def expected_findings(url: str, tag: str) -> list[Row]:
    """The same, from one derivation of all that is in `reading`."""
    keys, derived, config = _derive_all(url, tag)
    f = find(derived.events, config.kind, config.max_kw)
    rows = []
    for i in range(len(f)):
        (meter, register, kind), ts = keys[int(f.series[i])], int(f.ts_ms[i])
        said, cause = CAUSES[Event(f.code[i])]
        floats = [float(c[i]) for c in (f.before, f.after, f.observed_kwh, f.expected_kwh, f.upper_kwh)]
        numbers = [None if np.isnan(x) else x for x in floats]
        name = anomaly_id(meter, register, said, ts)
        rows.append((meter, register, kind, ts, int(f.from_ms[i]), name, said, cause, *numbers))
    return sorted(rows)


def stored_states(url: str, tag: str) -> dict[Row, Row]:
    """Where each counter and power stands: (meter, register, kind) -> last reading, its mark, sums of its slot."""
    rows = query(
        url,
        """SELECT meter_id, register, kind, last_ts, mark, estimated, kwh, covered, readings
        FROM series_state WHERE meter_id LIKE %s AND kind IN (0, 2) AND last_ts IS NOT NULL""",
        (tag + "-%",),
    )
    return {row[:3]: row[3:] for row in rows}


def expected_states(url: str, tag: str) -> dict[Row, Row]:
    """The same, from one derivation; with those of pairs of several kinds, which the database does not keep."""
    keys, derived, _ = _derive_all(url, tag)
    c = derived.carry
    columns = (c.last_ms, c.mark, c.estimated, c.kwh, c.covered_ms, c.readings)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return {key: row for key, row in zip(keys, rows, strict=True) if key[2] != 1 and row[0] != NEVER}


def _derive_all(url: str, tag: str) -> tuple[list[Row], Derived, SeriesConfig]:
    """Series (meter, register, kind), what `derive` makes of all their readings, and what is configured."""
    rows = query(
        url,
        """SELECT meter_id, register, array_position(enum_range(NULL::reading_kind), kind) - 1,
            (extract(epoch FROM ts) * 1000)::bigint, value, coalesce(interval_s * 1000, 0)::bigint,
            array_position(enum_range(NULL::reading_quality), quality) - 1
        FROM reading WHERE meter_id LIKE %s""",
        (tag + "-%",),
    )
    limits = {m: (top, kw) for m, top, kw in query(url, "SELECT meter_id, register_max, max_kw FROM meter")}
    names: dict[Row, int] = {}
    series = np.array([names.setdefault(row[:3], len(names)) for row in rows])
    ts, value, interval, quality = (np.array([row[c] for row in rows]) for c in (3, 4, 5, 6))
    top, kw = (np.array([limits[meter][c] or np.nan for meter, _, _ in names], np.float64) for c in (0, 1))
    config = SeriesConfig(np.array([kind for _, _, kind in names], np.int8), top, kw)
    derived = derive(series, ts, value.astype(np.float64), interval, quality.astype(np.int8), config=config)
    return list(names), derived, config


def configure(url: str, meter: str, register_max: float | None = None, max_kw: float | None = None) -> None:
    """What `energyai config apply` writes of a meter."""
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            """INSERT INTO meter (meter_id, register_max, max_kw, configured) VALUES (%s, %s, %s, true)
            ON CONFLICT (meter_id) DO UPDATE SET register_max = excluded.register_max, max_kw = excluded.max_kw,
                energy_outdated = true""",
            (meter, register_max, max_kw),
        )
    connection.close()
