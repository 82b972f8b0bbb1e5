"""Thin Flink wrappers around the shard: keyed state, forecasts to the database, forecasts as messages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pyflink.common.typeinfo import Types
from pyflink.datastream import KeyedProcessFunction, MapFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from operators.features import QUANTILES
from operators.forecaster import Forecaster
from operators.packing import RECORD, UNIT, unpack
from operators.shard import Due, Shard
from operators.store import Store

BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())
QUANTILE_NAMES = [f"q{round(100 * q)}" for q in QUANTILES]


@dataclass(frozen=True)
class Issued:
    """Forecasts of one shard, time and step."""

    due: Due
    kwh: NDArray[np.float32]
    """[m, 9, steps] kWh of each step."""
    model_id: str
    model_sha256: str


class ForecastShard(KeyedProcessFunction):  # type: ignore[misc]
    """Keyed by shard: (shard, window end, readings as text) → the forecasts that are due.

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

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Iterator[list[Issued]]:
        key, window_end_ms, text = value
        shard = self._shard(key)
        changed = shard.apply(unpack(text))
        issued = [
            Issued(
                due,
                self._forecaster.predict(due.history, due.issued_at_ms, due.step_s),
                self._forecaster.model_id,
                self._forecaster.sha256,
            )
            for due in (shard.due(window_end_ms) if window_end_ms else ())
        ]
        self._save(key, shard, changed)
        if issued:
            yield issued

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


class StoreForecasts(MapFunction):  # type: ignore[misc]
    """Forecasts → the same, when they are committed in the database, as one text for the JVM to cut into messages."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url

    def open(self, runtime_context: RuntimeContext) -> None:
        self._store = Store(self._database_url)

    def close(self) -> None:
        self._store.close()

    def map(self, value: list[Issued]) -> str:
        for issued in value:
            due = issued.due
            m = len(due.meter_id)
            self._store.write_forecasts(
                due.meter_id,
                np.full(m, due.issued_at_ms),
                np.full(m, due.step_s),
                issued.kwh,
                issued.model_id,
                issued.model_sha256,
                due.tenant_id,
            )
        return RECORD.join(message for issued in value for message in messages(issued))


def messages(issued: Issued) -> Iterator[str]:
    """Key and value of the topic `forecasts`, with US between them, of each meter."""
    due = issued.due
    at = np.datetime64(due.issued_at_ms, "ms").astype(str) + "Z"
    for meter_id, tenant_id, kwh in zip(due.meter_id, due.tenant_id, issued.kwh, strict=True):
        value = {
            "meter_id": meter_id,
            "tenant_id": tenant_id,
            "issued_at": at,
            "target_start": at,
            "step_s": due.step_s,
            "kwh": dict(zip(QUANTILE_NAMES, kwh, strict=True)),
            "model_id": issued.model_id,
            "model_sha256": issued.model_sha256,
        }
        yield meter_id + UNIT + orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
