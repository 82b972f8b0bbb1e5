"""Puts workload W on its topic: `python -m tests.bench.feed`, in the peers' environment, told by `BENCH_…`."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from confluent_kafka import KafkaException, Producer

from tests.bench.workload import Job, Size, records

QUEUED = 100_000


def send(kafka: str, topic: str, messages: Iterable[tuple[int, bytes, bytes]]) -> int:
    """Sends (partition, key, value) in their order; how many.

    Raises:
        KafkaException: one was not acknowledged.
    """
    producer = Producer(
        {
            "bootstrap.servers": kafka,
            "linger.ms": 50,
            "batch.size": 262_144,
            "enable.idempotence": True,
            "queue.buffering.max.messages": 2 * QUEUED,
        }
    )
    failed: list[object] = []

    def acknowledged(error: object, _message: object) -> None:
        if error is not None:
            failed.append(error)

    sent = 0
    for partition, key, value in messages:
        producer.produce(topic, value, key, partition, on_delivery=acknowledged)
        sent += 1
        while len(producer) > QUEUED:
            producer.poll(0.1)
        if not sent % 1000:
            producer.poll(0)
    if producer.flush(120) or failed:
        raise KafkaException(failed[0] if failed else f"not all messages were acknowledged on {topic}")
    return sent


def main() -> int:
    """Sends all of W."""
    job = Job.from_environment()
    print(send(job.kafka, job.source, records(Size(job.meters, job.minutes))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
