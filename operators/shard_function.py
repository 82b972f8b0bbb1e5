"""Thin Flink wrapper around the shard: keyed state in, messages of forecasts out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from pyflink.common.typeinfo import Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import MapState, MapStateDescriptor, ValueStateDescriptor

from operators import forecast_messages
from operators.forecaster import Forecaster
from operators.lateness import BOUNDS_S, lateness
from operators.meters_topic import MetersTopic
from operators.packing import RECORD, Pieces, unpack
from operators.shard import Shard

BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())
LOOK_EVERY_S = 2.0
"""How often the topic `meters` is asked for news, between windows."""


class _StateSlots:
    """A shard's readings in Flink's state: of the key whose element is being processed."""

    def __init__(self, state: MapState) -> None:
        self._state = state

    def get(self, number: int) -> bytes | None:
        packed = self._state.get(number)
        return None if packed is None else bytes(packed)

    def put(self, number: int, packed: bytes) -> None:
        self._state.put(number, packed)

    def remove(self, number: int) -> None:
        self._state.remove(number)

    def numbers(self) -> list[int]:
        return list(self._state.keys())


class ForecastShard(KeyedProcessFunction):  # type: ignore[misc]
    """Keyed by shard: (shard, window end, readings as text) → the messages of the forecasts that are due, as one text.

    The arrays live in this instance. Keyed state has what it takes to make them again: the names, a header, one entry
    for each quarter hour, of which a window writes only those that it changed, and the readings of each quarter hour,
    which are read only when late ones come.
    """

    def __init__(self, model: bytes, model_sha256: str, kafka: str, meters_topic: str) -> None:
        self._model = model
        self._model_sha256 = model_sha256
        self._kafka = kafka
        self._topic = meters_topic

    def open(self, runtime_context: RuntimeContext) -> None:
        self._shards: dict[int, Shard] = {}
        self._kept: dict[int, set[int]] = {}
        self._named: dict[int, int] = {}
        self._configured: dict[int, int] = {}
        self._names = runtime_context.get_state(ValueStateDescriptor("names", BYTES))
        self._header = runtime_context.get_state(ValueStateDescriptor("header", BYTES))
        self._columns = runtime_context.get_map_state(MapStateDescriptor("columns", Types.LONG(), BYTES))
        self._readings = runtime_context.get_map_state(MapStateDescriptor("readings", Types.LONG(), BYTES))
        self._forecaster = Forecaster.from_bytes(self._model, self._model_sha256)
        self._meters = MetersTopic(self._kafka, self._topic)
        self._version, self._look_at = 1, time.monotonic() + LOOK_EVERY_S
        metrics = runtime_context.get_metrics_group()
        self._late = metrics.counter("late_readings")
        self._late_by = [metrics.add_group("le", str(bound)).counter("late_readings_bucket") for bound in BOUNDS_S]

    def close(self) -> None:
        self._meters.close()

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Iterator[str]:
        key, window_end_ms, text = value
        shard = self._shard(key)
        changed = self._configure(key, shard)
        pieces = unpack(text)
        self._count_late(pieces, window_end_ms)
        changed |= shard.apply(pieces)
        forecaster = self._forecaster
        issued = [
            forecast_messages.write(
                due,
                forecaster.predict(due.history, due.issued_at_ms, due.step_s, zones=due.zone),
                forecaster.model_id,
                forecaster.sha256,
            )
            for due in shard.due(window_end_ms)
        ]
        self._save(key, shard, changed)
        if issued:
            yield RECORD.join(issued)

    def _shard(self, key: int) -> Shard:
        shard = self._shards.get(key)
        if shard is None:
            header = self._header.value()
            columns = {} if header is None else {number: bytes(column) for number, column in self._columns.items()}
            slots = _StateSlots(self._readings)
            if header is None:
                shard = Shard(slots)
            else:
                shard = Shard.restore(bytes(self._names.value()), bytes(header), columns, slots)
            self._shards[key], self._kept[key] = shard, set(columns)
            self._named[key] = len(shard.series)
        return shard

    def _configure(self, key: int, shard: Shard) -> set[int]:
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._version += self._meters.look()
        if self._configured.get(key) == self._version:
            return set()
        self._configured[key] = self._version
        return shard.configure(self._meters.configs)

    def _count_late(self, pieces: Pieces, window_end_ms: int) -> None:
        counts = lateness(pieces.ts_ms, window_end_ms)
        if counts is not None:
            self._late.inc(int(counts[-1]))
            for counter, count in zip(self._late_by, counts[:-1].tolist(), strict=True):
                counter.inc(count)

    def _save(self, key: int, shard: Shard, changed: set[int]) -> None:
        if len(shard.series) != self._named[key]:
            self._names.update(shard.names())
            self._named[key] = len(shard.series)
        self._header.update(shard.header())
        for number in changed:
            self._columns.put(number, shard.column(number))
        kept = self._kept[key] | changed
        passed = {number for number in kept if number < shard.oldest()}
        for number in passed:
            self._columns.remove(number)
        self._kept[key] = kept - passed
