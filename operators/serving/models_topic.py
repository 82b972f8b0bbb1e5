"""The topic `models` (compacted): what was announced of one model by now."""

from __future__ import annotations

import logging
import time
from typing import Any

from kafka.errors import KafkaError

from operators.compacted_topic import FollowedTopic
from operators.serving.plan import Announcement, AnnouncementError, read

log = logging.getLogger(__name__)

LOOK_WITHIN_MS = 5_000
"""How long a look waits for the brokers; they are then left alone for as long."""


class ModelsTopic(FollowedTopic):
    """What the topic says of one model by now: all announcements, not the newest alone. Not thread-safe."""

    def __init__(self, kafka: str, topic: str, model_name: str) -> None:
        """
        Args:
            kafka: bootstrap servers.
            topic: name; one that does not exist announces nothing.
            model_name: announcements of others are left alone.

        Raises:
            KafkaError: no broker answered.
        """
        self.announcements: frozenset[Announcement] = frozenset()
        self.unusable = 0
        """Messages that are no announcements."""
        self._model_name = model_name
        self._paused_until = 0.0
        super().__init__(kafka, topic)
        # Of the questions for the topic's end, not of fetches: kafka-python would wait for five minutes.
        self._consumer.config["request_timeout_ms"] = LOOK_WITHIN_MS

    def look(self) -> bool:
        """Reads on to the topic's present end; whether anything was new.

        What a producer was told is stored is seen by the next look: a fetch that is under way would not be sure to have
        it.
        """
        before = self.announcements
        if not self._assigned:
            super().look()
        elif time.monotonic() >= self._paused_until:
            try:
                self._catch_up()
            except (KafkaError, OSError) as error:
                self._paused_until = time.monotonic() + LOOK_WITHIN_MS / 1000
                log.warning("topic %s: %s", self._topic, error)
        return self.announcements != before

    def _catch_up(self) -> None:
        ends = self._consumer.end_offsets(self._assigned)
        deadline = time.monotonic() + LOOK_WITHIN_MS / 1000
        while any(self._consumer.position(partition) < end for partition, end in ends.items()):
            self._take(100)
            if time.monotonic() > deadline:
                raise KafkaError("not read to its end in time")

    def _hear(self, message: Any) -> None:
        if message.value is not None:
            self._read(message.value, message.timestamp, message.offset)

    def _read(self, value: bytes, came_ms: int, offset: int) -> None:
        try:
            name, announced = read(value, came_ms)
        except AnnouncementError as error:
            self.unusable += 1
            log.warning("topic %s, offset %d is no announcement: %s", self._topic, offset, error)
            return
        if name == self._model_name:
            self.announcements |= announced
