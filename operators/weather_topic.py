"""The topic `weather`: what was measured and foreseen by now, for the job that forecasts."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.compacted_topic import FollowedTopic
from operators.shard import Due
from operators.weather import HOUR_MS, Report, Weather, WeatherError

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
"""How often the topic is asked for news, between windows."""
KEPT_MS = 15 * 24 * HOUR_MS
"""Hours so long before the newest forecast are forgotten: a week is asked for, by shards that may be a week behind."""
FORGET_EVERY_MS = 24 * HOUR_MS


class WeatherTopic(FollowedTopic):
    """All that the topic has said by now. Not thread-safe.

    A forecast uses what was issued by its own time (`operators.weather`) and is here when it is made: what is on the
    topic when a job starts is all read first, so that a replay sees it whole.
    """

    def __init__(self, kafka: str, topic: str) -> None:
        """
        Args:
            kafka: bootstrap servers.
            topic: name; of one that does not exist nothing is known.

        Raises:
            KafkaError: no broker answered.
        """
        self.weather = Weather()
        self._look_at = 0.0
        self._forgotten_ms: int | None = None
        super().__init__(kafka, topic)

    def of(self, due: Due) -> NDArray[np.float32]:
        """[m, 192, 2] what is known for forecasts that are due."""
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self.look()
        if self._forgotten_ms is None or due.issued_at_ms - self._forgotten_ms >= FORGET_EVERY_MS:
            self._forgotten_ms = due.issued_at_ms
            self.weather.forget(due.issued_at_ms - KEPT_MS)
        return self.weather.known(due.site, np.full(len(due.site), due.issued_at_ms, np.int64))

    def _hear(self, message: Any) -> None:
        try:
            self.weather.add(Report.of_message(message.value))
        except WeatherError:  # the job `weather` has it in the dead letter
            log.debug("topic %s, offset %d is no weather", self._topic, message.offset)
