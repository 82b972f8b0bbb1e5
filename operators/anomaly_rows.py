"""Messages of the topic `anomalies` into table `anomaly`. The same messages again change nothing."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import orjson
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from operators.pg import Session

_COLUMNS = (
    "anomaly_id", "start", "meter_id", "tenant_id", "kind", "end", "score", "observed_kwh", "expected_kwh",
    "lower_kwh", "upper_kwh", "model_id",
)  # fmt: skip
_UPSERT = """
    INSERT INTO anomaly
        (anomaly_id, start_ts, meter_id, tenant_id, kind, end_ts, score, observed_kwh, expected_kwh, lower_kwh,
        upper_kwh, model_id)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (anomaly_id, start_ts) DO UPDATE SET
        end_ts = excluded.end_ts, score = excluded.score, observed_kwh = excluded.observed_kwh,
        expected_kwh = excluded.expected_kwh, lower_kwh = excluded.lower_kwh, upper_kwh = excluded.upper_kwh,
        model_id = excluded.model_id"""
_DELETE = "DELETE FROM anomaly WHERE anomaly_id = %s AND start_ts = %s"


def write(session: Session, messages: Iterable[str]) -> None:
    """Writes messages, in their order, in one transaction; those that were taken back leave the table.

    What was found in the readings themselves (it has a `cause`) is written with them, by job ingest.
    """
    found = [m for m in map(orjson.loads, messages) if "cause" not in m]
    if found:
        session.transaction(partial(_write, messages=found))


def _write(cursor: Cursor, messages: list[dict[str, Any]]) -> None:
    for m in messages:
        if m["status"] == "retracted":
            cursor.execute(_DELETE, (m["anomaly_id"], m["start"]))
        else:
            cursor.execute(_UPSERT, [m[name] for name in _COLUMNS])
