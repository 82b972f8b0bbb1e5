"""Topic `alerts` into the outbox: offsets are committed after the rows are."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import psycopg2
from kafka import KafkaConsumer
from kafka.errors import KafkaError
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from jobs.delivery import outbox
from jobs.delivery.receivers import Receiver
from operators.kafka_limits import ANSWER_MAX_BYTES
from operators.pg import Session, StoreError

log = logging.getLogger(__name__)
GROUP = "energyai-alerts-delivery"
AGAIN_S = 2.0


def receivers_of(cursor: Cursor) -> dict[str, Receiver]:
    """The configured receivers by name."""
    cursor.execute("SELECT entry FROM alert_receiver ORDER BY receiver")
    found = {}
    for (entry,) in cursor.fetchall():
        try:
            receiver = Receiver.of(entry)
        except (ValueError, KeyError, TypeError) as error:
            log.error("receiver %s is not usable (%s): apply its configuration again", entry.get("receiver"), error)
            continue
        found[receiver.name] = receiver
    return found


def usable(value: bytes | None) -> Mapping[str, Any] | None:
    """A message of the topic, or None when it is none."""
    try:
        message = orjson.loads(value or b"")
        labels, notify = message["labels"], message.get("notify")
        good = (
            all(isinstance(message[key], str) for key in ("fingerprint", "status", "startsAt", "generatorURL"))
            and message["status"] in ("firing", "resolved")
            and (message["endsAt"] is None or isinstance(message["endsAt"], str))
            and isinstance(labels, dict)
            and isinstance(labels["alertname"], str)
            and isinstance(message["annotations"], dict)
            and b"\\u0000" not in (value or b"")  # which PostgreSQL does not hold
            and (notify is None or notify["id"].count("-") >= 3)
        )
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        good = False
    return message if good else None


class Intake(threading.Thread):
    """Reads the topic in a thread of its own, with a connection of its own to the database."""

    def __init__(
        self, kafka: str, topic: str, session: Session, woken: Callable[[Mapping[str, int], int], None]
    ) -> None:
        """
        Args:
            kafka: bootstrap servers.
            topic: `alerts`, as it is called in this deployment.
            session: of this thread alone.
            woken: told of rows that are new, by receiver, and of how many messages were read.
        """
        super().__init__(name="alerts-intake", daemon=True)
        self._kafka, self._topic, self._session, self._woken = kafka, topic, session, woken
        self._ending = threading.Event()
        self.error: Exception | None = None
        """Why it ended by itself."""

    def stop(self) -> None:
        """Ends it after the batch that it is at."""
        self._ending.set()

    def run(self) -> None:
        """Until it is stopped; while the brokers or the database are away it waits."""
        try:
            self._run()
        except (StoreError, psycopg2.Error) as error:
            self.error = error
        finally:
            self._session.close()

    def _run(self) -> None:
        while not self._ending.is_set():
            try:
                consumer = KafkaConsumer(
                    self._topic,
                    bootstrap_servers=self._kafka.split(","), group_id=f"{GROUP}-{self._topic}", client_id=GROUP,
                    auto_offset_reset="earliest", enable_auto_commit=False, isolation_level="read_committed",
                    max_poll_records=500, metrics_enabled=False, receive_message_max_bytes=ANSWER_MAX_BYTES,
                )  # fmt: skip
                try:
                    self._read(consumer)
                finally:
                    consumer.close()
            except (KafkaError, OSError) as error:
                log.warning("topic %s cannot be read, trying on: %s", self._topic, error)
                self._ending.wait(AGAIN_S)

    def _read(self, consumer: KafkaConsumer) -> None:
        while not self._ending.is_set():
            found = consumer.poll(timeout_ms=200)
            values = [record.value for records in found.values() for record in records]
            if not values:
                continue
            messages = [message for value in values if (message := usable(value)) is not None]
            if len(messages) < len(values):
                log.warning("%d messages of topic %s are no alerts: left out", len(values) - len(messages), self._topic)

            def put(cursor: Cursor, messages: list[Mapping[str, Any]] = messages) -> dict[str, int]:
                return outbox.put(cursor, messages, list(receivers_of(cursor).values()), outbox.silences_of(cursor))

            counts = self._session.transaction(put)
            consumer.commit()
            self._woken(counts, len(values))
