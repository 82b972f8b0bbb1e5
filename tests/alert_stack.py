"""Topics of a test's own for the jobs that detect and alert, and waiting for what they do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import orjson
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from infra.embedded.stack import Stack
from tests.pipeline import Deployment

WITHIN_S = 150
TOPICS = ("anomalies", "alerts", "alerts.control", "alerts.rules", "meters")


def until(condition: Callable[[], Any], what: Callable[[], object], within_s: float = WITHIN_S) -> Any:
    """The condition's value, once it is true."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what()}: not within {within_s:g} s"
        time.sleep(0.2)
    return found


def put(deployment: Deployment, topic: str, messages: Iterable[tuple[str, Any]]) -> None:
    """Puts (key, message) on a topic of the deployment."""
    producer = KafkaProducer(bootstrap_servers=deployment.where.kafka, acks="all", linger_ms=20)
    for key, value in messages:
        producer.send(deployment.prefix + topic, orjson.dumps(value), key.encode())
    producer.flush()
    producer.close()


def deployed(stack: Stack, prefix: str) -> Deployment:
    """A deployment with all topics that these jobs read and write."""
    made = Deployment.on(stack, prefix, partitions=2)
    admin = KafkaAdminClient(bootstrap_servers=made.where.kafka)
    admin.create_topics([NewTopic(prefix + name, 1 if name == "alerts.rules" else 2, 1) for name in TOPICS])
    admin.close()
    return made
