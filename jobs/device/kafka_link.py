"""A device's link over Kafka, in a thread of its own: the device never waits for the network."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from jobs.device.client import Received
from jobs.device.lane import Ack

POLL_MS = 200
BACKOFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
CATCH_UP_S = 10.0
"""The longest that a backlog is gathered before what came is handed over: a topic that never pauses must not starve."""
ACKS_KEPT = 10_000
ANSWER_MAX_BYTES = 64 * 1024 * 1024
"""More than a broker answers with at once (`fetch.max.bytes`); kafka-python's default refuses larger ones."""
log = logging.getLogger(__name__)


class KafkaLink:
    """Reads all partitions of the setpoints' topic, outside any consumer group: each device sees each message.

    After a lost connection it goes on where it stopped; whether a message is still good is its lease's to say. Use it
    as a context manager, or call `close`.

    Args:
        bootstrap: Kafka's bootstrap servers.
        setpoints: topic to read.
        acks: topic to write.
        states: topic to write what devices report of themselves.
        lookback_s: how far back to begin (by the broker's time), so that a device that restarts finds its running
            lease; None begins with the topic.
    """

    def __init__(
        self,
        bootstrap: str,
        setpoints: str = "control.setpoints",
        acks: str = "control.acks",
        lookback_s: float | None = 300.0,
        states: str = "control.states",
    ) -> None:
        self.bootstrap = bootstrap
        self.setpoints = setpoints
        self.acks = acks
        self.states = states
        self.lookback_s = lookback_s
        self.connected = threading.Event()
        self.dropped_acks = 0
        """Messages lost because the broker was away for too long."""
        self._received: deque[list[Received]] = deque()
        self._queued: deque[tuple[str, Mapping[str, Any]]] = deque()
        self._lock = threading.Lock()
        self._positions: dict[Any, int] = {}
        self._begun_ms = time.time_ns() // 1_000_000
        self._stop = threading.Event()
        self._consumer: Any = None
        self._producer: Any = None
        self._thread = threading.Thread(target=self._run, name="kafka-link", daemon=True)
        self._thread.start()

    def __enter__(self) -> KafkaLink:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def receive(self) -> list[Received]:
        """What came since the last call."""
        found: list[Received] = []
        while self._received:
            found += self._received.popleft()
        return found

    def send(self, acks: Sequence[Ack]) -> None:
        """Queues acknowledgements; the oldest are dropped, and counted, when the broker stays away."""
        self._put(self.acks, acks)

    def report(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Queues what devices say of themselves; as for `send`."""
        self._put(self.states, states)

    def _put(self, topic: str, messages: Sequence[Mapping[str, Any]]) -> None:
        with self._lock:
            self._queued.extend((topic, message) for message in messages)
            while len(self._queued) > ACKS_KEPT:
                self._queued.popleft()
                self.dropped_acks += 1

    def close(self, timeout_s: float = 10.0) -> None:
        """Sends what is queued if the broker answers, and ends the thread."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        from kafka.errors import KafkaError

        failures = 0
        while not self._stop.is_set():
            try:
                self._connect()
                failures = 0
                self.connected.set()
                while not self._stop.is_set():
                    self._gather()
                    self._flush()
                self._flush()
            except (KafkaError, OSError, ValueError) as error:
                pause = BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]
                failures += 1
                log.warning("Kafka at %s: %s; again in %.0f s", self.bootstrap, error or type(error).__name__, pause)
                self.connected.clear()
                self._disconnect()
                self._stop.wait(pause)
        self.connected.clear()
        self._disconnect()

    def _connect(self) -> None:
        from kafka import KafkaConsumer, KafkaProducer

        servers = self.bootstrap.split(",")
        self._consumer = KafkaConsumer(
            bootstrap_servers=servers,
            client_id="energyai-device",
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            isolation_level="read_committed",
            metrics_enabled=False,
            receive_message_max_bytes=ANSWER_MAX_BYTES,
        )
        self._producer = KafkaProducer(
            bootstrap_servers=servers,
            client_id="energyai-device",
            acks="all",
            max_block_ms=5_000,
            request_timeout_ms=5_000,
            delivery_timeout_ms=10_000,
            allow_auto_create_topics=False,
            metrics_enabled=False,
        )
        self._seek()

    def _seek(self) -> None:
        """Assigns all partitions: where it stopped, or `lookback_s` ago."""
        from kafka import TopicPartition
        from kafka.errors import UnknownTopicOrPartitionError

        numbers = self._consumer.partitions_for_topic(self.setpoints)
        if not numbers:
            raise UnknownTopicOrPartitionError(f"no topic {self.setpoints}: `energyai up` makes the topics")
        partitions = [TopicPartition(self.setpoints, number) for number in sorted(numbers)]
        self._consumer.assign(partitions)
        new = [partition for partition in partitions if partition not in self._positions]
        if new and self.lookback_s is None:
            self._positions.update(self._consumer.beginning_offsets(new))
        elif new:
            since = self._begun_ms - round((self.lookback_s or 0.0) * 1000)
            ends = self._consumer.end_offsets(new)
            found = self._consumer.offsets_for_times(dict.fromkeys(new, since))
            self._positions.update({p: found[p].offset if found.get(p) is not None else ends[p] for p in new})
        for partition in partitions:
            self._consumer.seek(partition, self._positions[partition])

    def _gather(self) -> None:
        """One batch: everything up to the topic's end, so that nothing overtaken is handed over alone."""
        batch: list[Received] = []
        until = time.monotonic() + CATCH_UP_S
        try:
            while time.monotonic() < until and not self._stop.is_set():
                found = self._consumer.poll(timeout_ms=POLL_MS)
                for partition, records in found.items():
                    batch += [_received(record) for record in records]
                    self._positions[partition] = records[-1].offset + 1
                if not found or not self._behind():
                    break
        finally:
            if batch:
                self._received.append(batch)

    def _behind(self) -> bool:
        for partition, position in self._positions.items():
            end = self._consumer.highwater(partition)
            if end is not None and position < end:
                return True
        return False

    def _flush(self) -> None:
        """Sends what is queued; what fails stays queued."""
        with self._lock:
            queued = list(self._queued)
        sent = []
        for entry in queued:
            topic, message = entry
            value = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
            sent.append((entry, self._producer.send(topic, value, str(message["asset_id"]).encode())))
        for entry, future in sent:
            future.get(timeout=15)
            with self._lock:
                if self._queued and self._queued[0] is entry:
                    self._queued.popleft()

    def _disconnect(self) -> None:
        if self._consumer is not None:
            self._consumer.close(autocommit=False)
        if self._producer is not None:
            self._producer.close(timeout=1)
        self._consumer = self._producer = None


def _received(record: Any) -> Received:
    key = None if record.key is None else record.key.decode(errors="replace")
    sent_ms = record.timestamp if record.timestamp is not None and record.timestamp >= 0 else None
    return Received(record.value or b"", key, sent_ms)
