"""Announcements to the running jobs: a row first, then one message with all of a model's announcements.

The message is a function of the rows. So one that was not sent, or that another one overtook, is made good by sending
again (`energyai models announce`), and compaction of the topic loses nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from infra.database import connected
from jobs.errors import UserError
from jobs.models.registry import Version
from jobs.settings import Addresses
from operators.serving.model_tables import announcements, write_announcement
from operators.serving.plan import CHAMPION, Announcement, Pinned, message

TOPIC = "models"
SLOT_MS = 900_000
TIMEOUT_S = 20.0


def announce(where: Addresses, model_name: str, announced: Announcement, prefix: str = "") -> Announcement:
    """Writes an announcement to `model_announcement` and sends all of the model's to the topic.

    Args:
        where: addresses of Kafka and the database.
        model_name: of the model.
        announced: its `announced_ms` may be put later, so that it comes after all that was said before.
        prefix: put before the topic's name.

    Raises:
        UserError: the database or Kafka does not answer.
    """
    with connected(where.database_url) as link, link.cursor() as cursor:
        # One at a time, so that each comes after all that was said before.
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('model_announcement'), hashtext(%s))", (model_name,))
        known = announcements(cursor, model_name)
        last = max((each.announced_ms for each in known), default=0)
        announced = replace(announced, announced_ms=max(announced.announced_ms, last + 1))
        write_announcement(cursor, model_name, announced)
        link.commit()
    send(where, model_name, prefix)
    return announced


def send(where: Addresses, model_name: str, prefix: str = "") -> int:
    """Sends all announcements of a model again; how many there are. What the jobs know already changes nothing.

    Raises:
        UserError: nothing was announced yet, or Kafka does not answer.
    """
    known = stored(where.database_url, model_name)
    if not known:
        raise UserError(f"nothing was announced of {model_name} yet: `energyai models promote VERSION` does", 1)
    from kafka import KafkaProducer
    from kafka.errors import KafkaError

    newest = known[-1]
    with connected(where.database_url) as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT feature_set, metrics FROM model_version WHERE model_name = %s AND version = %s",
            (model_name, newest.version),
        )
        feature_set, metrics = cursor.fetchone() or ("", {})
    try:
        producer = KafkaProducer(
            bootstrap_servers=where.kafka.split(","), acks="all", max_block_ms=round(TIMEOUT_S * 1000)
        )
        try:
            sending = producer.send(
                prefix + TOPIC, message(model_name, known, feature_set or "", metrics), model_name.encode()
            )
            sending.get(timeout=TIMEOUT_S)
        finally:
            producer.close(timeout=TIMEOUT_S)
    except (KafkaError, OSError, ValueError) as error:
        raise UserError(
            f"the announcement is stored, but Kafka at {where.kafka} did not take it ({type(error).__name__}): "
            "`energyai models announce` sends it again",
            3,
        ) from error
    return len(known)


def stored(database_url: str, model_name: str) -> list[Announcement]:
    """All announcements of a model, in order."""
    with connected(database_url) as link, link.cursor() as cursor:
        return announcements(cursor, model_name)


def of_version(version: Version, alias: str, effective_ms: int, reason: str) -> Announcement:
    """The announcement of a version, as of now."""
    now = round(time.time() * 1000)
    return Announcement(now, effective_ms, version.version, version.sha256, alias, version.uri, reason)


def before(known: Sequence[Announcement]) -> tuple[Announcement, Announcement | None]:
    """The present champion, and the one before it (None: the model that the job brings along).

    Raises:
        UserError: nobody was promoted yet.
    """
    champions = [each for each in known if each.alias == CHAMPION]
    if not champions:
        raise UserError("no version was promoted yet: there is nothing to roll back from", 1)
    plan = Pinned({each: each.effective_ms for each in champions})
    newest = max(champions)
    others = Pinned({each: since for each, since in plan.since.items() if each.sha256 != newest.sha256})
    return newest, others.serving(CHAMPION, newest.effective_ms)


def effective_from(database_url: str, lead_ms: int) -> int:
    """An event time that no shard has passed: the newest forecast and some time, at a quarter hour; 0 where none is.

    Args:
        database_url: libpq URL.
        lead_ms: how long after the newest stored forecast.
    """
    with connected(database_url) as link, link.cursor() as cursor:
        cursor.execute("SELECT (extract(epoch FROM max(issued_at)) * 1000)::bigint FROM forecast_issue")
        (newest,) = cursor.fetchone() or (None,)
    return 0 if newest is None else -(-(int(newest) + lead_ms) // SLOT_MS) * SLOT_MS


def store_version(database_url: str, version: Version, metrics: Mapping[str, Any]) -> None:
    """The version's row of `model_version`; its alias is the announcements' matter."""
    manifest = version.manifest
    begin, end = manifest.get("data_range") or (None, None)
    with connected(database_url) as link, link.cursor() as cursor:
        cursor.execute(
            """INSERT INTO model_version (model_name, version, sha256, uri, feature_set, registered_at, trained_at,
                metrics, data_range, lineage)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, tstzrange(%s, %s), %s)
            ON CONFLICT (model_name, version) DO UPDATE SET
                sha256 = excluded.sha256, uri = excluded.uri, feature_set = excluded.feature_set,
                registered_at = excluded.registered_at, trained_at = excluded.trained_at, metrics = excluded.metrics,
                data_range = excluded.data_range, lineage = excluded.lineage""",
            (
                version.model_name,
                version.version,
                version.sha256,
                version.uri,
                manifest.get("feature_set"),
                manifest.get("registered_at"),
                manifest.get("registered_at"),
                json.dumps(metrics),
                begin,
                end,
                json.dumps(manifest.get("lineage") or {}),
            ),
        )
        link.commit()


def store_verdict(
    database_url: str, model_name: str, version: int, against: str, passed: bool, verdict: Mapping[str, Any]
) -> None:
    """A row of `model_promotion`: what the gate said."""
    with connected(database_url) as link, link.cursor() as cursor:
        cursor.execute(
            """INSERT INTO model_promotion (model_name, version, against_sha256, passed, verdict)
            VALUES (%s, %s, %s, %s, %s)""",
            (model_name, version, against, passed, json.dumps(verdict)),
        )
        link.commit()
