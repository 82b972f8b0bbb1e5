"""Thin Flink wrapper around the shard: keyed state in, messages of forecasts out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyflink.common.typeinfo import Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from operators import forecast_messages
from operators.forecaster import Forecaster
from operators.packing import RECORD, unpack
from operators.shard import Shard

BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())


class ForecastShard(KeyedProcessFunction):  # type: ignore[misc]
    """Keyed by shard: (shard, window end, readings as text) → the messages of the forecasts that are due, as one text.

    The arrays live in this instance. Keyed state has what it takes to make them again: a header, and one entry for each
    quarter hour, of which a window writes only those that it changed.
    """

    def __init__(self, model: bytes, model_sha256: str) -> None:
        self._model = model
        self._model_sha256 = model_sha256

    def open(self, runtime_context: RuntimeContext) -> None:
        self._shards: dict[int, Shard] = {}
        self._kept: dict[int, set[int]] = {}
        self._header = runtime_context.get_state(ValueStateDescriptor("header", BYTES))
        self._columns = runtime_context.get_map_state(MapStateDescriptor("columns", Types.LONG(), BYTES))
        self._forecaster = Forecaster.from_bytes(self._model, self._model_sha256)

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Iterator[str]:
        key, window_end_ms, text = value
        shard = self._shard(key)
        changed = shard.apply(unpack(text))
        forecaster = self._forecaster
        issued = [
            forecast_messages.write(
                due,
                forecaster.predict(due.history, due.issued_at_ms, due.step_s),
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
            shard = Shard() if header is None else Shard.restore(bytes(header), columns)
            self._shards[key], self._kept[key] = shard, set(columns)
        return shard

    def _save(self, key: int, shard: Shard, changed: set[int]) -> None:
        self._header.update(shard.header())
        for number in changed:
            self._columns.put(number, shard.column(number))
        kept = self._kept[key] | changed
        passed = {number for number in kept if number < shard.oldest()}
        for number in passed:
            self._columns.remove(number)
        self._kept[key] = kept - passed
