"""Reads a topic to its present end, in the peers' environment: what engines wrote, and what plain loops read."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition

BATCH = 10_000
FILL_S = 0.1
"""A batch waits for so long to be filled: `consume` returns early only when it is full."""
TIMEOUT_S = 30.0


def batches(
    kafka: str,
    topic: str,
    partitions: Sequence[int] | None = None,
    *,
    begin: Mapping[int, int] | None = None,
    committed: bool = False,
) -> Iterator[list[Any]]:
    """The messages of a topic's partitions (all, or some), thousands at a time.

    Args:
        kafka: bootstrap servers.
        topic: its name.
        partitions: of which; None: all.
        begin: the first offset by partition; else 0.
        committed: leave out what belongs to open and aborted transactions.

    Raises:
        KafkaException: the broker refuses, or sends nothing for half a minute before the end.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": f"bench-drain-{topic}",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed" if committed else "read_uncommitted",
            "enable.partition.eof": True,
            "queued.min.messages": 200_000,
        }
    )
    try:
        every = consumer.list_topics(topic, TIMEOUT_S).topics[topic].partitions
        chosen = list(every if partitions is None else partitions)
        consumer.assign([TopicPartition(topic, each, (begin or {}).get(each, 0)) for each in chosen])
        left, silent_since = set(chosen), time.monotonic()
        while left:
            found = consumer.consume(BATCH, FILL_S)
            if not found and time.monotonic() > silent_since + TIMEOUT_S:
                raise KafkaException(f"{topic}: nothing came for {TIMEOUT_S:.0f} s before its end")
            if found:
                silent_since = time.monotonic()
            messages = []
            for message in found:
                error = message.error()
                if error is None:
                    messages.append(message)
                elif error.name() == "_PARTITION_EOF":
                    left.discard(message.partition())
                else:
                    raise KafkaException(error)
            if messages:
                yield messages
    finally:
        consumer.close()
