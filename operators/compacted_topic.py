"""Topics that a job reads beside its streams: to their end when it starts, then what is new at each look."""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from operators.kafka_limits import ANSWER_MAX_BYTES

log = logging.getLogger(__name__)
T = TypeVar("T")

PATIENCE_S = 60.0
"""How long the brokers may stay away when a job starts, before it fails and is started again."""
AGAIN_S = 30.0
"""How often a topic that is not there is looked for."""


class FollowedTopic(ABC):
    """What a topic has said by now. Not thread-safe."""

    def __init__(self, kafka: str, topic: str) -> None:
        """
        Args:
            kafka: bootstrap servers.
            topic: name; one that does not exist holds nothing, and is looked for again.

        Raises:
            KafkaError: no broker answered.
        """
        self._topic = topic
        self._assigned: list[TopicPartition] = []
        self._consumer = _connected(kafka)
        self._again_at = 0.0
        self._assign()
        ends = self._consumer.end_offsets(self._assigned) if self._assigned else {}
        deadline = time.monotonic() + PATIENCE_S
        while any(self._consumer.position(partition) < end for partition, end in ends.items()):
            self._take(200)
            if time.monotonic() > deadline:
                raise KafkaError(f"topic {topic} was not read to its end within {PATIENCE_S:.0f} s")

    def look(self) -> bool:
        """Takes what is new, without waiting; whether anything was."""
        if not self._assigned and time.monotonic() >= self._again_at:
            try:
                self._assign()
            except (KafkaError, OSError) as error:
                log.warning("topic %s: %s", self._topic, error)
        return bool(self._assigned) and self._take(0)

    def close(self) -> None:
        """Closes the connection."""
        self._consumer.close()

    def _assign(self) -> None:
        numbers = self._consumer.partitions_for_topic(self._topic) or set()
        self._assigned = [TopicPartition(self._topic, number) for number in sorted(numbers)]
        self._again_at = time.monotonic() + AGAIN_S
        if self._assigned:
            self._consumer.assign(self._assigned)
            self._consumer.seek_to_beginning(*self._assigned)
        else:
            log.warning("topic %s is not there: nothing is configured by it", self._topic)

    def _take(self, wait_ms: int) -> bool:
        try:
            found = self._consumer.poll(timeout_ms=wait_ms)
        except (KafkaError, OSError) as error:  # the brokers are away: the next look finds it
            log.warning("topic %s: %s", self._topic, error)
            return False
        for messages in found.values():
            for message in messages:
                self._hear(message)
        return bool(found)

    @abstractmethod
    def _hear(self, message: Any) -> None:
        """Takes one message in."""


class CompactedTopic(FollowedTopic, Generic[T]):
    """A topic of configuration: the newest value of each key by now."""

    def __init__(self, kafka: str, topic: str, parse: Callable[[bytes], T | None]) -> None:
        """
        Args:
            kafka, topic: as of `FollowedTopic`.
            parse: of a message's value; None: it says nothing usable.

        Raises:
            KafkaError: no broker answered.
        """
        self.values: dict[str, T] = {}
        self._parse = parse
        super().__init__(kafka, topic)

    def _hear(self, message: Any) -> None:
        key = (message.key or b"").decode(errors="replace")
        value = None if message.value is None else self._parse(message.value)
        if value is not None:
            self.values[key] = value
        elif message.value is None:
            self.values.pop(key, None)
        else:
            log.warning("topic %s, key %s: not usable, the value before stays", self._topic, key)


def _connected(kafka: str) -> KafkaConsumer:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return KafkaConsumer(
                bootstrap_servers=kafka.split(","), client_id="energyai-configuration", group_id=None,
                enable_auto_commit=False, metrics_enabled=False, receive_message_max_bytes=ANSWER_MAX_BYTES,
            )  # fmt: skip
        except (KafkaError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(1.0)
