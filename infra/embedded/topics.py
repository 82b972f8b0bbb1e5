"""The topics of the contracts, and creating those that are missing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.embedded.errors import StackError

DAY_MS = 24 * 3600 * 1000
COMPACTED = {
    "cleanup.policy": "compact",
    # Configuration is small and read from the start by each job: keep what must be read short.
    "min.cleanable.dirty.ratio": "0.1",
    "segment.ms": str(DAY_MS),
}


@dataclass(frozen=True)
class Topic:
    """A topic's name and what it says besides the defaults; `partitions` 0 means the stack's setting."""

    name: str
    partitions: int = 0
    config: Mapping[str, str] = field(default_factory=dict)


def _kept(days: int, **config: str) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(days * DAY_MS), **config}


TOPICS = (
    # Retention counts from arrival: a replay of 2015's readings must not be deleted as eleven years old. Two weeks are
    # the 7 days that a reading may be late, and a week in which a job may be down.
    Topic(
        "meter.readings",
        config=_kept(14, **{"message.timestamp.type": "LogAppendTime", "max.message.bytes": str(1024 * 1024 + 4096)}),
    ),
    # Carries the largest record that is let in, of which each byte may be a control character: six in JSON.
    Topic("meter.readings.rejected", config=_kept(30, **{"max.message.bytes": str(8 * 1024 * 1024)})),
    Topic("forecasts", config=_kept(7)),
    Topic("anomalies", config=_kept(30)),
    Topic("alerts", config=_kept(30)),
    # Alerts that other jobs raise, for the alerts job to tell.
    Topic("alerts.control", config=_kept(30)),
    Topic("alerts.rules", 1, COMPACTED),
    Topic("control.setpoints", config=_kept(30)),
    Topic("control.acks", config=_kept(30)),
    # What devices measure of themselves: of use for minutes.
    Topic("control.states", config=_kept(1)),
    # Plans with all that they were made from, and quarter hours as they came out.
    Topic("control.log", config=_kept(30)),
    Topic("dr.events", 1, _kept(90)),
    # A forecast looks a week back; a job that starts reads all of it.
    Topic("weather", 1, _kept(30)),
    Topic("models", 1, COMPACTED),
    Topic("sites", 1, COMPACTED),
    Topic("meters", config=COMPACTED),
)


def create(bootstrap: str, partitions: int = 4, replication: int | None = None, timeout_s: float = 60.0) -> list[str]:
    """Creates the topics that `bootstrap` does not have yet; returns their names. Existing ones are left as they are.

    Args:
        bootstrap: Kafka's bootstrap servers.
        partitions: partitions of the topics that name none.
        replication: copies of each; None takes the broker's default.
        timeout_s: how long to try.

    Raises:
        StackError: Kafka cannot be reached or refuses.
    """
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError, TopicAlreadyExistsError

    end = time.monotonic() + timeout_s
    while True:
        try:
            admin = KafkaAdminClient(
                bootstrap_servers=bootstrap, request_timeout_ms=30_000, client_id="energyai-topics"
            )
            try:
                present = set(admin.list_topics())
                new = [topic for topic in TOPICS if topic.name not in present]
                if new:
                    admin.create_topics([_wanted(topic, partitions, replication) for topic in new])
                return [topic.name for topic in new]
            finally:
                admin.close()
        except TopicAlreadyExistsError:
            continue  # somebody else creates them at this moment: look again at what is missing
        except (KafkaError, OSError, ValueError) as error:
            if time.monotonic() > end:
                raise StackError(
                    f"topics cannot be created on {bootstrap} ({type(error).__name__}: {error}): check that Kafka runs "
                    "there and that ENERGYAI_KAFKA is right"
                ) from error
            time.sleep(0.5)


def _wanted(topic: Topic, partitions: int, replication: int | None) -> Any:
    from kafka.admin import NewTopic

    return NewTopic(topic.name, topic.partitions or partitions, replication or -1, topic_configs=dict(topic.config))
