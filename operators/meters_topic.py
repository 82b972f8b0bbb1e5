"""The topic `meters` (compacted): what is configured of each meter by now."""

from __future__ import annotations

from operators.compacted_topic import CompactedTopic
from operators.meters import MeterConfig


class MetersTopic(CompactedTopic[MeterConfig]):
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
        super().__init__(kafka, topic, MeterConfig.of_message)

    @property
    def configs(self) -> dict[str, MeterConfig]:
        """By meter."""
        return self.values
