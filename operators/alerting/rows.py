"""Messages of topic `alerts` into table `alert`. The same messages again change nothing."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

import orjson
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from operators.alerting.said import Row
from operators.pg import Session
from operators.tables import to_time

_UPSERT = """
    INSERT INTO alert
        (fingerprint, starts_at, tenant_id, status, labels, annotations, ends_at, generator_url, changed_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (fingerprint, starts_at) DO UPDATE SET
        status = excluded.status, labels = excluded.labels, annotations = excluded.annotations,
        ends_at = excluded.ends_at, generator_url = excluded.generator_url, changed_at = excluded.changed_at"""
# Who acknowledged an alert has acknowledged it at its other start, too.
_MOVE = """
    UPDATE alert AS a SET acknowledged_at = o.acknowledged_at, acknowledged_by = o.acknowledged_by
    FROM alert AS o
    WHERE a.fingerprint = %s AND a.starts_at = %s AND o.fingerprint = a.fingerprint AND o.starts_at = %s
        AND a.acknowledged_at IS NULL"""
_DELETE = "DELETE FROM alert WHERE fingerprint = %s AND starts_at = %s"


_RECALL = """
    SELECT fingerprint, labels, (extract(epoch FROM starts_at) * 1000)::bigint,
        (extract(epoch FROM ends_at) * 1000)::bigint, (extract(epoch FROM changed_at) * 1000)::bigint
    FROM alert
    WHERE tenant_id = %s AND labels ->> 'site' = %s AND changed_at > %s AND starts_at >= %s"""


def write(session: Session, messages: Iterable[str]) -> None:
    """Writes messages, in their order, in one transaction."""
    session.transaction(partial(_write, messages=[orjson.loads(message) for message in messages]))


def recall(session: Session, tenant: str, site: str, after_ms: int, from_ms: int) -> list[Row]:
    """What the table says of a site's alerts that begin at `from_ms` or later and were changed after `after_ms`.

    After a failure, the rows since the last checkpoint may be of alerts that the job, which takes up its work from
    there and may see the same evidence in larger lots, never raises again.
    """
    since = (to_time(max(0, after_ms)), to_time(max(0, from_ms)))

    def read(cursor: Cursor) -> list[Row]:
        cursor.execute(_RECALL, (tenant, site, *since))
        return [Row(*row) for row in cursor.fetchall()]

    return session.transaction(read)


def _write(cursor: Cursor, messages: list[dict[str, Any]]) -> None:
    for m in messages:
        key = (m["fingerprint"], m["startsAt"])
        if m.get("retracted"):
            cursor.execute(_DELETE, key)
            continue
        labels, annotations = (orjson.dumps(m[part]).decode() for part in ("labels", "annotations"))
        row = (m["tenant_id"], m["status"], labels, annotations, m["endsAt"], m["generatorURL"], m["at"])
        cursor.execute(_UPSERT, (*key, *row))
        if "supersedes" in m:
            cursor.execute(_MOVE, (*key, m["supersedes"]))
            cursor.execute(_DELETE, (m["fingerprint"], m["supersedes"]))
