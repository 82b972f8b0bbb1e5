"""Thin Flink wrapper around the shard and its models: keyed state in, messages of forecasts out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pyflink.common.typeinfo import Types
from pyflink.datastream import KeyedProcessFunction, OutputTag, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from operators import forecast_messages
from operators.energy import NEVER
from operators.lateness import BOUNDS_S, lateness
from operators.packing import Pieces, unpack
from operators.serving.live import LiveModels
from operators.serving.plan import CHAMPION
from operators.serving.server import Server, WeatherOf
from operators.serving.settings import ShardSettings
from operators.shard import Due, Shard
from operators.shard_states import BYTES, ShardStates
from operators.weather_topic import WeatherTopic

REPORTS = OutputTag("model-reports", Types.STRING())
"""What the models' watch is told: one text a day that is over."""


class ForecastShard(KeyedProcessFunction):  # type: ignore[misc]
    """Keyed by shard: (shard, window end, readings as two texts) → messages of the forecasts that are due, as one text.

    The shards are in keyed state (`shard_states.py`), and beside them which models serve and the days that are open.
    """

    def __init__(self, model: bytes, model_sha256: str, settings: ShardSettings) -> None:
        self._model = model
        self._model_sha256 = model_sha256
        self._settings = settings

    def open(self, runtime_context: RuntimeContext) -> None:
        self._servers: dict[int, Server] = {}
        self._serving = runtime_context.get_state(ValueStateDescriptor("serving", BYTES))
        self._days = runtime_context.get_map_state(MapStateDescriptor("open-days", Types.LONG(), BYTES))
        settings = self._settings
        self._shards = ShardStates(runtime_context, settings.kafka, settings.meters_topic)
        self._live = LiveModels(self._model, self._model_sha256, settings)
        self._sky: WeatherTopic | None = None
        metrics = runtime_context.get_metrics_group()
        self._late = metrics.counter("late_readings")
        self._late_by = [metrics.add_group("le", str(bound)).counter("late_readings_bucket") for bound in BOUNDS_S]
        self._late_models = metrics.counter("model_announcements_late")
        metrics.gauge("models_refused", self._live.refused)

    def close(self) -> None:
        self._shards.close()
        self._live.close()
        if self._sky is not None:
            self._sky.close()

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        key, window_end_ms, series, numbers = value
        shard = self._shards.get(key)
        server = self._server(key, shard)
        changed = self._shards.configure(key)
        self._late_models.inc(self._live.announce(key, server))
        pieces = unpack(series, numbers)
        self._count_late(pieces, window_end_ms)
        changed |= shard.apply(pieces)
        for report in server.learn(shard, window_end_ms):
            yield REPORTS, orjson.dumps({**report, "shard": key}).decode()
        messages = issue(server, shard.due(window_end_ms), self._weather)
        self._shards.save(key, changed)
        self._save_models(server)
        if messages:
            yield messages

    def _server(self, key: int, shard: Shard) -> Server:
        server = self._servers.get(key)
        if server is None:
            header = self._serving.value()
            issued_ms = int(shard.issued_ms.max(initial=NEVER))
            if header is None:  # new, or of a version of the job that had no such state
                server = Server(self._live.models, issued_ms=issued_ms)
            else:
                days = {number: bytes(packed) for number, packed in self._days.items()}
                server = Server.restore(self._live.models, bytes(header), days, issued_ms)
            self._servers[key] = server
        return server

    def _count_late(self, pieces: Pieces, window_end_ms: int) -> None:
        counts = lateness(pieces.ts_ms, window_end_ms)
        if counts is not None:
            self._late.inc(int(counts[-1]))
            for counter, count in zip(self._late_by, counts[:-1].tolist(), strict=True):
                counter.inc(count)

    def _weather(self, due: Due) -> NDArray[np.float32]:
        """What is known of the weather; the topic is read from when a model asks for it first."""
        if self._sky is None:
            self._sky = WeatherTopic(self._settings.kafka, self._settings.weather_topic)
        return self._sky.of(due)

    def _save_models(self, server: Server) -> None:
        if not server.changed:
            return
        self._serving.update(server.header())
        for number in server.removed:
            self._days.remove(number)
        for number in server.added:
            self._days.put(number, server.days[number].to_bytes())
        server.clean()


def issue(server: Server, dues: Iterable[Due], weather: WeatherOf | None = None) -> str:
    """Scores what is due: one text of all messages, or '' when nothing is."""
    issued: list[str] = []
    shadows: list[str] = []
    for due in dues:
        for scored in server.issue(due, weather):
            champion = scored.role == CHAMPION
            into, role = (issued, "") if champion else (shadows, scored.role)
            into.append(forecast_messages.write(due, scored.kwh, scored.model.model_id, scored.model.sha256, role))
    return forecast_messages.join(issued, shadows) if issued else ""
