"""Which tables are compared, and reading them in the order of their keys, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from jobs.verify.compare import Row, Table

TEXTS = ("meter_id", "register")

READING = Table(
    "reading",
    ("meter_id", "register", "ts"),
    ("kind", "value", "unit", "interval_s", "revision", "quality", "tenant_id", "received_at"),
    expressions={"kind": "kind::text", "quality": "quality::text"},
)
ENERGY = tuple(
    Table(
        name,
        ("meter_id", "bucket"),
        ("kwh", "readings", "coverage"),
        # Quarter hours are equal to the bit; a sum of them is added up in the order in which the database meets them.
        {"kwh": 1e-9, "coverage": 1e-9},
    )
    for name in ("energy_15m", "energy_hourly", "energy_daily")
)
FORECAST = Table(
    "forecast_issue",
    ("meter_id", "issued_at"),
    ("target_start", "step_s", "kwh", "model_id", "model_sha256", "tenant_id"),
    {"kwh": 1e-6},
    {"kwh": "kwh::text"},
    page=1_000,
)
REJECTED = Table(
    "rejected_reading",
    ("partition", '"offset"'),
    ("reason", "detail", "raw", "tenant_id"),
    # A record may be a megabyte: its checksum will do. `received_at` is when it was stored, and differs by nature.
    expressions={"raw": "md5(coalesce(raw, '')) || ' ' || length(raw)"},
)
# energy_* are made of this table; it gives the meters that they have.
_METERS_OF = {"energy_15m": "energy_slot", "energy_hourly": "energy_slot", "energy_daily": "energy_slot"}


def meters(link: Any, table: Table, prefix: str) -> set[str]:
    """Ids of the meters that a table has rows of, those that begin with `prefix`."""
    source = _METERS_OF.get(table.name, table.name)
    with link.cursor() as cursor:
        cursor.execute(f"SELECT DISTINCT meter_id FROM {source} WHERE starts_with(meter_id, %s)", (prefix,))
        return {meter for (meter,) in cursor.fetchall()}


def of_meters(link: Any, table: Table, wanted: Sequence[str]) -> Iterator[Row]:
    """The rows of some meters, sorted by key as Python sorts texts (so does the collation "C")."""
    yield from _pages(link, table, "meter_id = ANY(%s)", [list(wanted)])


def of_topic(link: Any, topic: str, ends: dict[int, int]) -> Iterator[Row]:
    """The rejected records of a topic before the end offsets, by partition and offset."""
    for partition, end in sorted(ends.items()):
        yield from _pages(link, REJECTED, 'topic = %s AND partition = %s AND "offset" < %s', [topic, partition, end])


def _pages(link: Any, table: Table, where: str, parameters: list[Any]) -> Iterator[Row]:
    """Each page is a statement of its own: on the embedded database nobody waits longer than for a page."""
    columns = ", ".join(table.expressions.get(name, name) for name in table.columns)
    key = ", ".join(f'{name} COLLATE "C"' if name in TEXTS else name for name in table.key)
    last: Row | None = None
    while True:
        after = "" if last is None else f" AND ({key}) > ({', '.join(['%s'] * len(table.key))})"
        with link.cursor() as cursor:
            cursor.execute(
                f"SELECT {columns} FROM {table.name} WHERE {where}{after} ORDER BY {key} LIMIT {table.page}",
                [*parameters, *(last or ())],
            )
            page = cursor.fetchall()
        yield from page
        if len(page) < table.page:
            return
        last = page[-1][: len(table.key)]
