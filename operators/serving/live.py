"""The models of one subtask as its shards learn of them: the topic followed, each shard told what is new."""

from __future__ import annotations

import time

from operators.forecaster import Forecaster
from operators.serving.artifacts import Models
from operators.serving.models_topic import ModelsTopic
from operators.serving.server import Server
from operators.serving.settings import ShardSettings

MODELS_EVERY_S = 0.1
"""How often the topic `models` is asked for news, a millisecond: what is seen after its time counts from then on."""


class LiveModels:
    """Loaded models, and the topic that announces them. Not thread-safe."""

    def __init__(self, model: bytes, model_sha256: str, settings: ShardSettings) -> None:
        """
        Args:
            model, model_sha256: what the job brings along.
            settings: of the operator.

        Raises:
            KafkaError: no broker answered.
        """
        base = Forecaster.from_bytes(model, model_sha256)
        base.reference = base.reference or settings.reference
        self.models = Models(base, settings.model_name, settings.model_keys)
        self._topic = ModelsTopic(settings.kafka, settings.models_topic, settings.model_name)
        self._announced: dict[int, int] = {}
        self._plan, self._look_at = 1, time.monotonic() + MODELS_EVERY_S

    def announce(self, key: int, server: Server) -> int:
        """Tells a shard's server what it has not heard; how many announcements came too late for their time."""
        now = time.monotonic()
        if now >= self._look_at:
            self._plan += self._topic.look()
            self._look_at = time.monotonic() + MODELS_EVERY_S
        if self._announced.get(key) == self._plan:
            return 0
        self._announced[key] = self._plan
        return server.announce(self._topic.announcements)

    def refused(self) -> int:
        """Announcements that cannot be followed."""
        return len(self.models.refused) + self._topic.unusable

    def close(self) -> None:
        """Closes the connection."""
        self._topic.close()
