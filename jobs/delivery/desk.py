"""What a person asks of the alerts: list, look at one, acknowledge, silence, try dead letters again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from psycopg2.extensions import cursor as Cursor  # noqa: N812

from jobs.delivery.outbox import silences_of
from jobs.errors import UserError
from operators.alerting.silences import hiding

_COLUMNS = (
    "fingerprint", "status", "labels", "annotations", "starts_at", "ends_at", "acknowledged_at", "acknowledged_by",
    "generator_url",
)  # fmt: skip
_SHORTEST = 4
"""Characters of a fingerprint that are enough to name it."""


def listed(cursor: Cursor, *, everything: bool, matchers: Mapping[str, str], limit: int) -> list[dict[str, Any]]:
    """Alerts that fire, with `everything` the resolved ones too, the newest first.

    Args:
        cursor: on the database.
        everything: whether resolved ones are shown.
        matchers: label → pattern (`*`, `?`), all of which must match.
        limit: at most so many.
    """
    like = {key: _like(pattern) for key, pattern in matchers.items()}
    cursor.execute(
        f"""SELECT {", ".join(_COLUMNS)} FROM alert AS a
        WHERE (%(all)s OR status = 'firing') AND NOT EXISTS (
            SELECT FROM jsonb_each_text(%(like)s::jsonb) AS m WHERE coalesce(a.labels ->> m.key, '') NOT LIKE m.value
        )
        ORDER BY starts_at DESC, fingerprint LIMIT %(limit)s""",
        {"all": everything, "like": json.dumps(like), "limit": limit},
    )
    found = [_shown(dict(zip(_COLUMNS, row, strict=True))) for row in cursor.fetchall()]
    quiet = silences_of(cursor)
    return [{**alert, "silenced_by": hiding(quiet, alert["labels"])} for alert in found]


def one(cursor: Cursor, prefix: str) -> dict[str, Any]:
    """The newest alert whose fingerprint begins so.

    Raises:
        UserError: none, or several, have such a fingerprint.
    """
    if len(prefix) < _SHORTEST:
        raise UserError(f"{prefix!r} is too short: give at least {_SHORTEST} characters of the fingerprint", 2)
    cursor.execute(
        f"SELECT DISTINCT ON (fingerprint) {', '.join(_COLUMNS)} FROM alert WHERE starts_with(fingerprint, %s) "
        "ORDER BY fingerprint, starts_at DESC LIMIT 2",
        (prefix,),
    )
    found = cursor.fetchall()
    if not found:
        raise UserError(f"no alert {prefix}: `energyai alerts list --all` shows them")
    if len(found) > 1:
        raise UserError(f"several alerts begin with {prefix}: give more of the fingerprint", 2)
    return _shown(dict(zip(_COLUMNS, found[0], strict=True)))


def context(cursor: Cursor, alert: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What came and what was expected around an alert of a meter: rows of `alert_context`; none for others."""
    meter = alert["labels"].get("meter")
    if meter is None:
        return []
    cursor.execute(
        "SELECT bucket, kwh, coverage, q10, q50, q90, anomaly FROM alert_context(%s, %s::timestamptz - "
        "INTERVAL '3 hours', coalesce(%s::timestamptz, %s::timestamptz + INTERVAL '3 hours') + INTERVAL '1 hour') "
        "ORDER BY bucket LIMIT 200",
        (meter, alert["starts_at"], alert["ends_at"], alert["starts_at"]),
    )
    names = ("bucket", "kwh", "coverage", "q10", "q50", "q90", "anomaly")
    return [_shown(dict(zip(names, row, strict=True))) for row in cursor.fetchall()]


def deliveries(cursor: Cursor, fingerprint: str, starts_at: str) -> list[dict[str, Any]]:
    """Who was told of an alert, and what became of it."""
    cursor.execute(
        "SELECT receiver, kind, status, attempts, last_error, updated_at FROM webhook_delivery "
        "WHERE fingerprint = %s AND starts_at = %s ORDER BY position",
        (fingerprint, starts_at),
    )
    names = ("receiver", "kind", "status", "attempts", "last_error", "updated_at")
    return [_shown(dict(zip(names, row, strict=True))) for row in cursor.fetchall()]


def acknowledge(cursor: Cursor, prefix: str, who: str) -> dict[str, Any]:
    """Notes that somebody cares: no repeats, no escalation. Done again, the first one stays.

    Raises:
        UserError: no such alert.
    """
    alert = one(cursor, prefix)
    cursor.execute(
        "UPDATE alert SET acknowledged_at = coalesce(acknowledged_at, now()), "
        "acknowledged_by = coalesce(acknowledged_by, %s) WHERE fingerprint = %s AND starts_at = %s "
        "RETURNING acknowledged_at, acknowledged_by",
        (who, alert["fingerprint"], alert["starts_at"]),
    )
    row = cursor.fetchone()
    assert row is not None, "it was found just now"
    return {**alert, **_shown({"acknowledged_at": row[0], "acknowledged_by": row[1]})}


def silence(
    cursor: Cursor, matchers: Mapping[str, str], begin: datetime, length_ms: int, who: str, comment: str
) -> dict[str, Any]:
    """Nobody is told of alerts whose labels match, for a time. The same again changes nothing."""
    end = begin + timedelta(milliseconds=length_ms)
    identity = json.dumps([sorted(matchers.items()), begin.isoformat(), end.isoformat()])
    name = hashlib.sha256(identity.encode()).hexdigest()[:12]
    cursor.execute(
        "INSERT INTO alert_silence (silence_id, matchers, starts_at, ends_at, created_by, comment) "
        "VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING",
        (name, json.dumps(dict(matchers)), begin, end, who, comment),
    )
    made = {"silence_id": name, "matchers": dict(matchers), "starts_at": begin, "ends_at": end}
    return _shown({**made, "created_by": who, "comment": comment})


def silences(cursor: Cursor) -> list[dict[str, Any]]:
    """Silences that are in force or to come."""
    names = ("silence_id", "matchers", "starts_at", "ends_at", "created_by", "comment")
    cursor.execute(f"SELECT {', '.join(names)} FROM alert_silence WHERE ends_at > now() ORDER BY ends_at")
    return [_shown(dict(zip(names, row, strict=True))) for row in cursor.fetchall()]


def unsilence(cursor: Cursor, name: str) -> None:
    """Ends a silence now.

    Raises:
        UserError: there is none of that id in force or to come.
    """
    cursor.execute(
        "UPDATE alert_silence SET ends_at = greatest(starts_at, now()) WHERE silence_id = %s AND ends_at > now()",
        (name,),
    )
    if not cursor.rowcount:
        raise UserError(f"no silence {name}: `energyai alerts silences` lists them")


def dead(cursor: Cursor, *, retry: bool) -> list[dict[str, Any]]:
    """Notifications that were given up; with `retry` they are tried again from the first attempt."""
    names = ("delivery_id", "receiver", "fingerprint", "kind", "attempts", "last_error", "updated_at")
    cursor.execute(
        f"SELECT {', '.join(names)} FROM webhook_delivery WHERE status = 'dead' ORDER BY position LIMIT 10000"
    )
    found = [_shown(dict(zip(names, row, strict=True))) for row in cursor.fetchall()]
    if retry and found:
        cursor.execute(
            "UPDATE webhook_delivery SET status = 'pending', attempts = 0, next_attempt_at = now(), updated_at = now() "
            "WHERE status = 'dead' AND delivery_id = ANY(%s)",
            ([row["delivery_id"] for row in found],),
        )
    return found


def _like(pattern: str) -> str:
    for plain, escaped in (("\\", "\\\\"), ("%", "\\%"), ("_", "\\_"), ("*", "%"), ("?", "_")):
        pattern = pattern.replace(plain, escaped)
    return pattern


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in row.items()}
