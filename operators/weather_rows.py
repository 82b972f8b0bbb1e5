"""Messages of the topic `weather` into its table, or the dead letter; any order and repetition gives the same rows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from psycopg2.extensions import cursor as Cursor  # noqa: N812
from psycopg2.extras import execute_values

from operators.features import WEATHER_VARIABLES
from operators.pg import Session
from operators.weather import Report

# Of two values for one hour and time of issue the greater: so that their order does not matter. GREATEST ignores nulls.
_UPSERT = f"""
    INSERT INTO weather (site_id, ts, issued_at, {", ".join(WEATHER_VARIABLES)}, tenant_id) VALUES %s
    ON CONFLICT (site_id, ts, issued_at) DO UPDATE SET
        {", ".join(f"{name} = GREATEST(weather.{name}, excluded.{name})" for name in WEATHER_VARIABLES)}"""
_ROW = "(%s, to_timestamp(%s), to_timestamp(%s), %s, %s, %s)"


def rows(reports: Iterable[Report]) -> list[tuple[Any, ...]]:
    """Rows of the table, one for each hour, site and time of issue: a statement may not change a row twice."""
    found: dict[tuple[str, int, int], tuple[tuple[float | None, ...], str]] = {}
    for report in reports:
        key = (report.site_id, report.ts_ms, report.issued_ms)
        said = tuple(None if math.isnan(value) else value for value in report.values)
        before, tenant = found.get(key, (said, report.tenant_id))
        found[key] = tuple(_greater(*pair) for pair in zip(before, said, strict=True)), tenant
    return [
        (site, ts_ms / 1000, issued_ms / 1000, *values, tenant)
        for (site, ts_ms, issued_ms), (values, tenant) in sorted(found.items())
    ]


def _greater(one: float | None, other: float | None) -> float | None:
    said = [value for value in (one, other) if value is not None]
    return max(said) if said else None


def store(session: Session, reports: Iterable[Report]) -> None:
    """Writes reports in one transaction."""
    stored = rows(reports)

    def work(cursor: Cursor) -> None:
        execute_values(cursor, _UPSERT, stored, _ROW, page_size=1000)

    if stored:
        session.transaction(work)
