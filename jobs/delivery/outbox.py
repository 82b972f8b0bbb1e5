"""The outbox in the database: what is to be told, to whom, in which order, and what became of it.

A row is written before anything is sent, and is settled after the answer. A worker that dies in between leaves a claim
that runs out, and the request is made again with the same id.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from psycopg2.extras import execute_values

from jobs.delivery.formats import batch_id
from jobs.delivery.receivers import Receiver
from operators.alerting.silences import Silence, hiding

_INSERT = """
    INSERT INTO webhook_delivery
        (delivery_id, tenant_id, fingerprint, url, status, last_error, receiver, starts_at, kind, group_key, message,
        position)
    SELECT delivery_id, tenant_id, fingerprint, url, status, last_error, receiver, starts_at, kind, group_key, message,
        nextval('webhook_delivery_position')
    FROM (
        SELECT v.* FROM (VALUES %s) AS v (delivery_id, tenant_id, fingerprint, url, status, last_error, receiver,
            starts_at, kind, group_key, message, n)
        WHERE NOT EXISTS (SELECT FROM webhook_delivery AS d WHERE d.delivery_id = v.delivery_id)
        ORDER BY n
    ) AS fresh"""
_ROW = "(%s, %s, %s, %s, %s, %s::text, %s, %s::timestamptz, %s, %s, %s::jsonb, %s)"
_HEAD = """
    SELECT group_key, batch_id FROM (
        SELECT DISTINCT ON (group_key) group_key, batch_id, position, next_attempt_at, claimed_until, created_at
        FROM webhook_delivery
        WHERE status = 'pending' AND receiver = %(receiver)s
        ORDER BY group_key, position
    ) AS head
    WHERE next_attempt_at <= now() AND coalesce(claimed_until <= now(), true)
        AND created_at <= now() - make_interval(secs => %(wait)s)
    ORDER BY position
    LIMIT 1"""
_ROWS = """
    SELECT delivery_id, attempts, message FROM webhook_delivery
    WHERE status = 'pending' AND receiver = %(receiver)s AND group_key = %(group)s
        AND batch_id IS NOT DISTINCT FROM %(batch)s
    ORDER BY position
    LIMIT %(limit)s"""
# Workers take turns, or one could take what follows what another is taking.
_TURN = "SELECT pg_try_advisory_xact_lock(hashtextextended('energyai alerts ' || %s, 0))"
_CLAIM = """
    UPDATE webhook_delivery SET batch_id = %(batch)s, attempts = attempts + 1, updated_at = now(),
        claimed_until = now() + make_interval(secs => %(lease)s)
    WHERE delivery_id = ANY(%(ids)s) AND status = 'pending'"""
_SETTLE = """
    UPDATE webhook_delivery SET status = %(status)s, last_error = %(error)s, updated_at = now(), claimed_until = NULL,
        next_attempt_at = now() + make_interval(secs => %(wait)s)
    WHERE delivery_id = ANY(%(ids)s) AND status = 'pending'"""


@dataclass(frozen=True)
class Batch:
    """One request: alerts of one group for one receiver."""

    batch_id: str
    group: Mapping[str, str]
    delivery_ids: list[str]
    alerts: list[dict[str, Any]]
    attempts: int
    """This one included."""


def group_of(labels: Mapping[str, str]) -> dict[str, str]:
    """The labels by which alerts are grouped: those of their site."""
    return {"tenant": labels.get("tenant", "default"), "site": labels.get("site", "default")}


def put(
    cursor: Cursor, messages: Iterable[Mapping[str, Any]], receivers: Sequence[Receiver], silences: Sequence[Silence]
) -> dict[str, int]:
    """Writes what messages of topic `alerts` tell; the same messages again change nothing.

    Who was told that an alert fires is told that it is over, in spite of a silence; who was not, is not. Repeats and
    escalations of an acknowledged alert, and what else a silence hides, are noted as suppressed.

    Returns:
        Receiver → rows that are to be sent.
    """
    telling = [m for m in messages if m.get("notify")]
    if not telling:
        return {}
    told = _told(cursor, telling, receivers)
    acknowledged = _acknowledged(cursor, telling)
    rows: dict[str, tuple[Any, ...]] = {}
    for m in telling:
        kind, labels = m["notify"]["kind"], m["labels"]
        hidden = hiding(silences, labels)
        for receiver in receivers:
            delivery = f"{m['notify']['id']}:{receiver.name}"
            if kind == "resolved":
                owed = (
                    receiver.enabled
                    and receiver.send_resolved
                    and any(name in told for name in _firing_ids(m, receiver))
                )
                if not owed:
                    continue
            elif not receiver.takes(m):
                continue
            why = f"silenced by {hidden}" if hidden and kind != "resolved" else None
            if kind in ("repeat", "escalated") and (m["fingerprint"], m["startsAt"]) in acknowledged:
                why = "acknowledged"
            if kind in ("firing", "escalated") and why is None:
                told.add(delivery)
            rows[delivery] = (
                delivery, labels.get("tenant", "default"), m["fingerprint"], receiver.shown_url,
                "pending" if why is None else "suppressed", why, receiver.name, m["startsAt"], kind,
                orjson.dumps(group_of(labels)).decode(), orjson.dumps(m).decode(), len(rows),
            )  # fmt: skip
    if rows:
        execute_values(cursor, _INSERT, list(rows.values()), template=_ROW, page_size=1000)
    counts: dict[str, int] = {}
    for row in rows.values():
        if row[4] == "pending":
            counts[row[6]] = counts.get(row[6], 0) + 1
    return counts


def claim(cursor: Cursor, receiver: Receiver) -> Batch | None:
    """The next request to make, claimed for as long as it may take; None: nothing is due.

    Within a group the order stays: a later request waits for the earlier one.
    """
    cursor.execute(_TURN, (receiver.name,))
    if cursor.fetchone() != (True,):
        return None
    cursor.execute(_HEAD, {"receiver": receiver.name, "wait": receiver.group_wait_s})
    head = cursor.fetchone()
    if head is None:
        return None
    group, batch = head
    which = {"receiver": receiver.name, "group": group, "batch": batch, "limit": receiver.max_alerts}
    cursor.execute(_ROWS, which)
    found = cursor.fetchall()
    if not found:
        return None
    ids = [delivery for delivery, _, _ in found]
    name = batch or batch_id(receiver.name, ids)
    cursor.execute(_CLAIM, {"batch": name, "ids": ids, "lease": receiver.timeout_s + 10})
    attempts = max(tries for _, tries, _ in found) + 1
    return Batch(name, orjson.loads(group), ids, [message for _, _, message in found], attempts)


def settle(cursor: Cursor, batch: Batch, status: str, error: str | None = None, wait_s: float = 0.0) -> None:
    """Notes what became of a request: `delivered`, `dead`, or `pending` again after `wait_s`."""
    cursor.execute(_SETTLE, {"ids": batch.delivery_ids, "status": status, "error": error, "wait": wait_s})


def pending(cursor: Cursor) -> list[tuple[str, int, float]]:
    """Receiver, rows that wait, age of the oldest in seconds."""
    cursor.execute(
        "SELECT receiver, count(*), extract(epoch FROM now() - min(created_at)) FROM webhook_delivery "
        "WHERE status = 'pending' GROUP BY receiver"
    )
    return [(receiver, int(count), float(age)) for receiver, count, age in cursor.fetchall()]


def silences_of(cursor: Cursor) -> list[Silence]:
    """The silences that are in force now."""
    cursor.execute("SELECT silence_id, matchers FROM alert_silence WHERE now() >= starts_at AND now() < ends_at")
    return [Silence(*row) for row in cursor.fetchall()]


def _firing_ids(message: Mapping[str, Any], receiver: Receiver) -> list[str]:
    base, _, number = message["notify"]["id"].rsplit("-", 2)
    return [f"{base}-firing-{number}:{receiver.name}", f"{base}-escalated-1:{receiver.name}"]


def _told(cursor: Cursor, messages: Sequence[Mapping[str, Any]], receivers: Sequence[Receiver]) -> set[str]:
    """Which of the notifications that the messages end were not suppressed."""
    wanted = [
        name
        for m in messages
        if m["notify"]["kind"] == "resolved"
        for receiver in receivers
        for name in _firing_ids(m, receiver)
    ]
    if not wanted:
        return set()
    cursor.execute(
        "SELECT delivery_id FROM webhook_delivery WHERE delivery_id = ANY(%s) AND status <> 'suppressed'", (wanted,)
    )
    return {name for (name,) in cursor.fetchall()}


def _acknowledged(cursor: Cursor, messages: Sequence[Mapping[str, Any]]) -> set[tuple[str, str]]:
    wanted = [m for m in messages if m["notify"]["kind"] in ("repeat", "escalated")]
    if not wanted:
        return set()
    cursor.execute(
        "SELECT v.fingerprint, v.starts FROM unnest(%s::text[], %s::text[]) AS v (fingerprint, starts) "
        "JOIN alert AS a ON a.fingerprint = v.fingerprint AND a.starts_at = v.starts::timestamptz "
        "WHERE a.acknowledged_at IS NOT NULL",
        ([m["fingerprint"] for m in wanted], [m["startsAt"] for m in wanted]),
    )
    return {(fingerprint, starts) for fingerprint, starts in cursor.fetchall()}
