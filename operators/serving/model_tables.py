"""Rows of the models' tables: what the watch found. Written again, they change nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from operators.pg import rows_of
from operators.serving.plan import CHAMPION, Announcement


def write_events(cursor: Cursor, events: Sequence[Mapping[str, Any]]) -> int:
    """Stores errors, drifts and announcements; how many rows were sent.

    Args:
        cursor: in a transaction.
        events: texts of `operators.serving.watch_function`, decoded.
    """
    written = 0
    for event in events:
        name = event["model_name"]
        if event["errors"]:
            write_errors(cursor, name, event["errors"])
        if event["drifts"]:
            write_drifts(cursor, name, event["drifts"])
        for fields in event["announcements"]:
            write_announcement(cursor, name, Announcement.of(fields))
        written += len(event["errors"]) + len(event["drifts"]) + len(event["announcements"])
    return written


def write_errors(cursor: Cursor, model_name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of `model_error`."""
    source, parameters = rows_of(
        i=("integer", np.arange(len(rows))),
        role=("text", [row["role"] for row in rows]),
        sha=("text", [row["model_sha256"] for row in rows]),
        issued=("bigint", np.array([row["issued_ms"] for row in rows], np.int64)),
        step_s=("integer", np.array([row["step_s"] for row in rows], np.int64)),
        known=("bigint", np.array([row["known_ms"] for row in rows], np.int64)),
        model_id=("text", [row["model_id"] for row in rows]),
        version=("float8", np.array([np.nan if row["version"] is None else row["version"] for row in rows])),
        days=("integer", np.array([row["days"] for row in rows], np.int64)),
        squared=("float8", np.array([row["squared"] for row in rows], np.float64)),
        pinball=("float8", np.array([row["pinball"] for row in rows], np.float64)),
        error=("float8", np.array([row["error"] for row in rows], np.float64)),
        inside=("float8", np.array([row["inside"] for row in rows], np.float64)),
    )
    cursor.execute(
        f"""INSERT INTO model_error (model_name, role, model_sha256, issued_at, step_s, known_at, model_id, version,
            days, squared, pinball, error, inside)
        SELECT %s, role, sha, to_timestamp(issued / 1000.0), step_s, to_timestamp(known / 1000.0), model_id,
            version::integer, days, squared, pinball, error, inside
        FROM {source} AS u
        ON CONFLICT (model_name, role, model_sha256, issued_at, step_s, known_at) DO UPDATE SET
            days = excluded.days, squared = excluded.squared, pinball = excluded.pinball, error = excluded.error,
            inside = excluded.inside""",
        [model_name, *parameters],
    )


def write_drifts(cursor: Cursor, model_name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of `model_drift`."""
    source, parameters = rows_of(
        i=("integer", np.arange(len(rows))),
        sha=("text", [row["model_sha256"] for row in rows]),
        day=("bigint", np.array([row["day_ms"] for row in rows], np.int64)),
        figure=("text", [row["figure"] for row in rows]),
        model_id=("text", [row["model_id"] for row in rows]),
        psi=("float8", np.array([row["psi"] for row in rows], np.float64)),
        meters=("integer", np.array([row["meters"] for row in rows], np.int64)),
        reference=("text", [row["reference"] for row in rows]),
    )
    cursor.execute(
        f"""INSERT INTO model_drift (model_name, model_sha256, day, figure, model_id, psi, meters, reference)
        SELECT %s, sha, (to_timestamp(day / 1000.0) AT TIME ZONE 'UTC')::date, figure, model_id, psi, meters, reference
        FROM {source} AS u
        ON CONFLICT (model_name, model_sha256, day, figure) DO UPDATE SET
            psi = excluded.psi, meters = excluded.meters, reference = excluded.reference""",
        [model_name, *parameters],
    )


def write_announcement(cursor: Cursor, model_name: str, announced: Announcement) -> None:
    """A row of `model_announcement`, and the alias of the version that it names."""
    cursor.execute(
        """INSERT INTO model_announcement
            (model_name, announced_at, effective_from, version, sha256, alias, uri, reason, withdrawn)
        VALUES (%s, to_timestamp(%s / 1000.0), to_timestamp(%s / 1000.0), %s, %s, %s, %s, %s, %s)
        ON CONFLICT DO NOTHING""",
        [
            model_name,
            announced.announced_ms,
            announced.effective_ms,
            announced.version,
            announced.sha256,
            announced.alias,
            announced.uri,
            announced.reason,
            announced.withdrawn,
        ],
    )
    if cursor.rowcount == 0:  # known already: what was said since must stand
        return
    cursor.execute(
        "UPDATE model_version SET alias = NULL WHERE model_name = %s AND alias = %s", [model_name, announced.alias]
    )
    if not announced.withdrawn:
        cursor.execute(
            """UPDATE model_version SET alias = %s, effective_from = to_timestamp(%s / 1000.0)
            WHERE model_name = %s AND version = %s AND sha256 = %s""",
            [announced.alias, announced.effective_ms, model_name, announced.version, announced.sha256],
        )


def announcements(cursor: Cursor, model_name: str) -> list[Announcement]:
    """All that was announced of a model, in order."""
    cursor.execute(
        """SELECT (extract(epoch FROM announced_at) * 1000)::bigint,
            (extract(epoch FROM effective_from) * 1000)::bigint, version, sha256, alias, uri, reason, withdrawn
        FROM model_announcement WHERE model_name = %s""",
        [model_name],
    )
    return sorted(Announcement(*row) for row in cursor.fetchall())


def champion_of(known: Sequence[Announcement]) -> Announcement | None:
    """Who was named champion last, in force already or not; None: nobody."""
    return max((each for each in known if each.alias == CHAMPION), default=None)
