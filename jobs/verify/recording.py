"""What a topic holds at one moment: which offsets, when the last of them came, and how far its event time is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from jobs.errors import UserError
from operators.kafka_limits import ANSWER_MAX_BYTES

TAIL = 2_000
"""Records before the end of a partition in which its newest time is looked for."""
TIMEOUT_MS = 60_000
"""The broker may be busy: it serves production and the replay."""
LARGEST = 8 * 1024 * 1024
"""Bytes of a message, at most."""


@dataclass(frozen=True)
class Recording:
    """Records of one topic from `begins` to `ends` (by partition; an end is the offset after the last)."""

    topic: str
    begins: Mapping[int, int]
    ends: Mapping[int, int]
    arrived_ms: int
    """When the newest of them came, epoch milliseconds by the broker's clock; 0 when there is none."""
    settled_ms: int
    """Event time that every partition has reached: what is known later may come after the recording. 0: unknown."""

    @property
    def records(self) -> int:
        """How many there are."""
        return sum(self.ends.values()) - sum(self.begins.values())

    @property
    def deleted(self) -> int:
        """How many were there once, and are kept no longer."""
        return sum(self.begins.values())

    def until_offsets(self) -> str:
        """For the jobs' option of that name."""
        return ",".join(f"{partition}:{offset}" for partition, offset in sorted(self.ends.items()))

    def left(self, committed: Mapping[int, int]) -> int:
        """Records that a consumer group with these offsets has still to read."""
        return sum(
            max(0, end - committed.get(partition, self.begins[partition])) for partition, end in self.ends.items()
        )


def take(kafka: str, topic: str, watermark_delay_s: int, future_tolerance_s: int) -> Recording:
    """The topic as it is now.

    Args:
        kafka: bootstrap servers.
        topic: of readings.
        watermark_delay_s, future_tolerance_s: the jobs' settings, of which the clock of a partition follows.

    Raises:
        UserError: Kafka does not answer, or has no such topic.
    """
    from kafka import TopicPartition

    with _consumer(kafka) as consumer:
        numbers = sorted(consumer.partitions_for_topic(topic) or ())
        if not numbers:
            raise UserError(f"no topic {topic} at {kafka}: check ENERGYAI_TOPIC_PREFIX", 3)
        partitions = [TopicPartition(topic, number) for number in numbers]
        begins, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        tails = [_tail(consumer, partition, begins[partition], ends[partition]) for partition in partitions]
    found = [tail for tail in tails if tail is not None]
    newest = [_newest(tail, future_tolerance_s) - 1000 * watermark_delay_s for tail in found]
    return Recording(
        topic,
        {partition.partition: offset for partition, offset in begins.items()},
        {partition.partition: offset for partition, offset in ends.items()},
        max((tail[-1].timestamp for tail in found), default=0),
        max(0, min(newest, default=0)),
    )


def ends(kafka: str, topic: str) -> dict[int, int]:
    """The topic's end offsets by partition now."""
    from kafka import TopicPartition

    with _consumer(kafka) as consumer:
        numbers = consumer.partitions_for_topic(topic) or ()
        found = consumer.end_offsets([TopicPartition(topic, number) for number in numbers])
    return {partition.partition: offset for partition, offset in found.items()}


def committed(kafka: str, group: str, topic: str) -> dict[int, int]:
    """How far a consumer group has read the topic, by partition; empty when it has said nothing yet."""
    with _admin(kafka) as admin:
        offsets = admin.list_consumer_group_offsets(group)
    return {part.partition: told.offset for part, told in offsets.items() if part.topic == topic and told.offset >= 0}


@contextmanager
def temporary_topics(kafka: str, names: list[str]) -> Iterator[None]:
    """Topics for the time of the body.

    Raises:
        UserError: Kafka does not answer, or refuses to make them.
    """
    from kafka.admin import NewTopic

    config = {"max.message.bytes": str(LARGEST)}
    with _admin(kafka) as admin:
        admin.create_topics([NewTopic(name, 1, -1, topic_configs=config) for name in names])
    try:
        yield
    finally:
        with _admin(kafka) as admin:
            admin.delete_topics(names)


def delete_topics(kafka: str, prefix: str) -> None:
    """Deletes the topics whose name begins with `prefix`."""
    with _admin(kafka) as admin:
        names = [name for name in admin.list_topics() if name.startswith(prefix)]
        if names:
            admin.delete_topics(names)


@contextmanager
def _admin(kafka: str) -> Iterator[Any]:
    from kafka.admin import KafkaAdminClient

    with _client(kafka, lambda **options: KafkaAdminClient(request_timeout_ms=TIMEOUT_MS, **options)) as admin:
        yield admin


@contextmanager
def _consumer(kafka: str) -> Iterator[Any]:
    from kafka import KafkaConsumer

    options = {
        "group_id": None,
        "enable_auto_commit": False,
        "metrics_enabled": False,
        "max_partition_fetch_bytes": LARGEST,
        "receive_message_max_bytes": ANSWER_MAX_BYTES,
    }
    with _client(kafka, lambda **more: KafkaConsumer(**options, **more)) as consumer:
        yield consumer


@contextmanager
def _client(kafka: str, make: Callable[..., Any]) -> Iterator[Any]:
    """A client that is closed at the end.

    Raises:
        UserError: no broker answers, now or in the body.
    """
    from kafka.errors import KafkaError

    client = None
    try:
        client = make(bootstrap_servers=kafka.split(","), api_version_auto_timeout_ms=TIMEOUT_MS)
        yield client
    except (KafkaError, OSError) as error:
        reason = " ".join(f"{type(error).__name__} {error}".split())
        raise UserError(f"Kafka at {kafka} does not answer ({reason}): see `energyai status`", 3) from error
    finally:
        if client is not None:
            client.close()


def _tail(consumer: Any, partition: Any, begin: int, end: int) -> list[Any] | None:
    """The last records before `end`; None when the partition is empty."""
    if begin >= end:
        return None
    from kafka.errors import KafkaTimeoutError

    consumer.assign([partition])
    consumer.seek(partition, max(begin, end - TAIL))
    records: list[Any] = []
    deadline = time.monotonic() + TIMEOUT_MS / 1000
    while consumer.position(partition) < end:
        if time.monotonic() > deadline:
            raise KafkaTimeoutError(f"partition {partition.partition} was not read to offset {end}")
        for batch in consumer.poll(timeout_ms=1000).values():
            records += [record for record in batch if record.offset < end]
    return records or None


def _newest(records: list[Any], future_tolerance_s: int) -> int:
    """The newest time of the records, epoch milliseconds; those from the future do not count. 0: none has one."""
    times = ((_ts_ms(record.value), record.timestamp + 1000 * future_tolerance_s) for record in records)
    return max((ts for ts, latest in times if ts is not None and ts <= latest), default=0)


def _ts_ms(payload: bytes | None) -> int | None:
    try:
        ts = orjson.loads(payload or b"")["ts"]
        return int(ts) if isinstance(ts, (int, float)) else int(datetime.fromisoformat(ts).timestamp() * 1000)
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
