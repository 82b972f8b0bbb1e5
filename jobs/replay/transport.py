"""Messages into Kafka, in order within a partition, none lost or repeated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from jobs.replay.batch import ReplayError

OUTAGE_MS = 120_000
"""How long a broker may be away in mid-replay."""


class Transport(Protocol):
    """Where messages go."""

    def put(self, keys: Iterable[bytes], messages: Iterable[bytes]) -> None:
        """Takes messages, each with its key; may return before they are acknowledged, and wait when too many are not.

        Raises:
            ReplayError: the broker refused or lost an earlier one.
        """

    def flush(self) -> None:
        """Returns when all are acknowledged.

        Raises:
            ReplayError: some never were.
        """

    def close(self) -> None:
        """Gives the connection back."""


class KafkaTransport:
    """kafka-python's idempotent producer.

    Uncompressed: the codecs worth their time (lz4, zstd) are no dependency of ours, and the broker is near.
    """

    def __init__(self, bootstrap: str, topic: str) -> None:
        """Connects.

        Raises:
            ReplayError: no broker answers at `bootstrap` (`host:port[,host:port]`), or it has no such topic.
        """
        from kafka import KafkaProducer
        from kafka.errors import KafkaError

        self.bootstrap = bootstrap
        self.topic = topic
        try:
            self._partitions = _partitions(bootstrap, topic)
            self._producer: Any = KafkaProducer(
                bootstrap_servers=bootstrap.split(","),
                client_id="energyai-replay",
                acks="all",
                enable_idempotence=True,
                # What the library asks for beside idempotence: one request in flight keeps a partition's order.
                max_in_flight_requests_per_connection=1,
                linger_ms=20,
                batch_size=512 * 1024,
                max_request_size=8 * 1024 * 1024,
                # A broker that was killed comes back within this: the replay waits for it and loses nothing.
                max_block_ms=OUTAGE_MS,
                delivery_timeout_ms=OUTAGE_MS,
                allow_auto_create_topics=False,
                metrics_enabled=False,
            )
        except (KafkaError, OSError, ValueError) as error:
            raise ReplayError(self._unreachable(error)) from error
        if not self._partitions:
            self.close()
            raise ReplayError(f"no topic {topic} at {bootstrap}: `energyai up` makes the topics")
        self._partition_of: dict[bytes, int] = {}
        self._failures: list[BaseException] = []

    def put(self, keys: Iterable[bytes], messages: Iterable[bytes]) -> None:
        from kafka.errors import KafkaError

        failed = self._failures.append
        try:
            for key, message in zip(keys, messages, strict=True):
                self._producer.send(self.topic, message, key, partition=self._partition(key)).add_errback(failed)
        except KafkaError as error:
            raise ReplayError(self._unreachable(error)) from error
        self._check()

    def flush(self) -> None:
        from kafka.errors import KafkaError

        try:
            self._producer.flush(timeout=OUTAGE_MS / 1000)
        except KafkaError as error:
            raise ReplayError(self._unreachable(error)) from error
        self._check()

    def close(self) -> None:
        self._producer.close(timeout=1)

    def _partition(self, key: bytes) -> int:
        """The Java client's murmur2 of the key, hashed once a meter: it is slow in Python."""
        found = self._partition_of.get(key)
        if found is None:
            partitioner = self._producer.config["partitioner"]
            found = self._partition_of[key] = int(partitioner(key, self._partitions, self._partitions))
        return found

    def _check(self) -> None:
        if self._failures:
            raise ReplayError(f"{len(self._failures)} readings were not taken: {self._unreachable(self._failures[0])}")

    def _unreachable(self, error: object) -> str:
        text = str(error) or type(error).__name__
        return f"Kafka at {self.bootstrap} does not answer ({text}): `energyai up`, or set ENERGYAI_KAFKA or --kafka"


def _partitions(bootstrap: str, topic: str) -> list[int]:
    """The topic's partitions; none when there is no such topic. The producer itself would wait for it to be made."""
    from kafka.admin import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=bootstrap.split(","), client_id="energyai-replay")
    try:
        if topic not in admin.list_topics():
            return []
        found = admin.describe_topics([topic])[0]["partitions"]
        return sorted(int(partition["partition"]) for partition in found)
    finally:
        admin.close()
