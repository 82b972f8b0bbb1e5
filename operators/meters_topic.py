"""The topic `meters` (compacted): read to its end when a job starts, then what is new at each look."""

from __future__ import annotations

import logging
import time

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from operators.kafka_limits import ANSWER_MAX_BYTES
from operators.meters import MeterConfig

log = logging.getLogger(__name__)

PATIENCE_S = 60.0
"""How long the brokers may stay away when a job starts, before it fails and is started again."""


class MetersTopic:
    """What the topic says of each meter by now. Not thread-safe.

    A meter's configuration is a fact about all its readings: it does not begin at a time.
    """

    def __init__(self, kafka: str, topic: str) -> None:
        """
        Args:
            kafka: bootstrap servers.
            topic: name; one that does not exist configures nothing.

        Raises:
            KafkaError: no broker answered.
        """
        self.configs: dict[str, MeterConfig] = {}
        self._consumer = self._connected(kafka)
        partitions = self._consumer.partitions_for_topic(topic) or set()
        self._assigned = [TopicPartition(topic, number) for number in sorted(partitions)]
        if not self._assigned:
            log.warning("topic %s is not there: no meter is configured", topic)
            self._consumer.close()
            return
        self._consumer.assign(self._assigned)
        self._consumer.seek_to_beginning(*self._assigned)
        ends = self._consumer.end_offsets(self._assigned)
        deadline = time.monotonic() + PATIENCE_S
        while any(self._consumer.position(partition) < ends[partition] for partition in self._assigned):
            self._take(200)
            if time.monotonic() > deadline:
                raise KafkaError(f"topic {topic} was not read to its end within {PATIENCE_S:.0f} s")

    def _connected(self, kafka: str) -> KafkaConsumer:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return KafkaConsumer(
                    bootstrap_servers=kafka.split(","), client_id="energyai-meters", group_id=None,
                    enable_auto_commit=False, metrics_enabled=False, receive_message_max_bytes=ANSWER_MAX_BYTES,
                )  # fmt: skip
            except (KafkaError, OSError):
                if time.monotonic() > deadline:
                    raise
                time.sleep(1.0)

    def look(self) -> bool:
        """Takes what is new, without waiting; whether anything was."""
        return bool(self._assigned) and self._take(0)

    def _take(self, wait_ms: int) -> bool:
        try:
            found = self._consumer.poll(timeout_ms=wait_ms)
        except (KafkaError, OSError) as error:  # the brokers are away: the next look finds it
            log.warning("topic meters: %s", error)
            return False
        for messages in found.values():
            for message in messages:
                meter = (message.key or b"").decode(errors="replace")
                if message.value is None:
                    self.configs.pop(meter, None)
                else:
                    self.configs[meter] = MeterConfig.of_message(message.value)
        return bool(found)

    def close(self) -> None:
        """Closes the connection."""
        if self._assigned:
            self._consumer.close()
