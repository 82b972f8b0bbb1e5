"""(a) EnergyAI's way: the JVM parses, times and packs; Python is handed a shard of meters and a minute as two texts.

It makes the means, and gives one text back. State is the shard's arrays, of which a window writes one column.
`python -m tests.bench.engines.energyai FLINK_URL`
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
from pyflink.common.typeinfo import Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from jobs.launch import Statements
from operators.packing import RECORD, UNIT
from operators.shard_function import BYTES
from tests.bench.crossing_ways import two_texts
from tests.bench.engines.flink_tables import (
    SHARD_COLUMNS,
    SHARD_READING,
    environment,
    exploded,
    keyed_columns,
    shards,
    submit,
)
from tests.bench.minute_shard import MinuteShard
from tests.bench.workload import CLOSING, HISTORY, MINUTE_MS, Job, Network, result


class ForecastMinutes(KeyedProcessFunction):  # type: ignore[misc]
    """Keyed by shard: (shard, window end, names, values) → the messages of all its meters, as one text."""

    def __init__(self, model: str) -> None:
        self._model = model

    def open(self, runtime_context: RuntimeContext) -> None:
        self._network = Network(self._model)
        self._shards: dict[int, MinuteShard] = {}
        self._names = runtime_context.get_state(ValueStateDescriptor("names", BYTES))
        self._columns = runtime_context.get_map_state(MapStateDescriptor("columns", Types.LONG(), BYTES))

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        key, end_ms, each, numbers = value
        shard = self._shard(key)
        minute = end_ms // MINUTE_MS
        names, values = two_texts(each, numbers)
        known = len(shard.names)
        rows = shard.introduce(names)
        count = np.bincount(rows)
        rows, means = np.flatnonzero(count), np.bincount(rows, values)[count > 0] / count[count > 0]
        shard.put(minute, rows, means)
        if len(shard.names) != known:
            self._names.update(orjson.dumps(shard.names))
        self._columns.put(minute, shard.column(minute))
        self._columns.remove(minute - HISTORY)
        ys = self._network.forecast(shard.window(minute, rows)).tolist()
        messages = [
            name + UNIT + result(name, end_ms, y)
            for name, y in zip([shard.names[row] for row in rows.tolist()], ys, strict=True)
            if not name.startswith(CLOSING)
        ]
        if messages:
            yield RECORD.join(messages)

    def _shard(self, key: int) -> MinuteShard:
        shard = self._shards.get(key)
        if shard is None:
            names = self._names.value()
            columns = {} if names is None else {minute: bytes(column) for minute, column in self._columns.items()}
            shard = MinuteShard.restore([] if names is None else orjson.loads(bytes(names)), columns)
            self._shards[key] = shard
        return shard


def build(job: Job, flink_url: str) -> tuple[Any, Statements]:
    """Readings → columns of a shard and minute → means → forecasts → topic."""
    stream, t_env = environment(job, "bench energyai", flink_url)
    t_env.execute_sql(SHARD_READING.format(shards=shards(job)))
    t_env.execute_sql(SHARD_COLUMNS)
    issued = (
        keyed_columns(t_env, shards(job))
        .process(ForecastMinutes(job.model), output_type=Types.STRING())
        .uid("forecast-minutes")
    )
    return stream, exploded(t_env, issued)


if __name__ == "__main__":
    sys.exit(submit(build))
