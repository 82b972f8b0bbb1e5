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
from pyflink.java_gateway import get_gateway

from jobs.launch import Statements
from jobs.streams import keyed
from operators.packing import RECORD, UNIT
from operators.shard_function import BYTES
from tests.bench.crossing_ways import two_texts
from tests.bench.engines.flink_tables import environment, exploded, shards, submit
from tests.bench.minute_shard import MinuteShard
from tests.bench.workload import CLOSING, HISTORY, MINUTE_MS, Job, Network, result

SHARD_COLUMNS = """
CREATE TEMPORARY VIEW shard_columns AS
SELECT
  shard,
  EXTRACT(EPOCH FROM window_end) * 1000 AS window_end_ms,
  LISTAGG(meter_id, U&'\\001e') AS names,
  LISTAGG(CAST(`value` AS STRING), ' ') AS numbers
FROM TABLE(TUMBLE(
  DATA => TABLE shard_reading, TIMECOL => DESCRIPTOR(rowtime), SIZE => INTERVAL '1' MINUTE
))
GROUP BY shard, window_start, window_end"""
"""The readings of a shard and minute as two texts. No window a meter: each costs the JVM 30 µs of state and timers."""

SHARD_READING = """
CREATE TEMPORARY VIEW shard_reading AS
SELECT *, MOD(MOD(HASH_CODE(meter_id), {shards}) + {shards}, {shards}) AS shard FROM readings"""

KEYED = """
SELECT
  CAST(SUBSTRING('{keys}' FROM shard * {digits} + 1 FOR {digits}) AS INT),
  ROW(shard, window_end_ms, names, numbers)
FROM shard_columns"""


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
        owner = shard.introduce(names)
        count = np.bincount(owner)
        rows = np.flatnonzero(count)
        shard.put(minute, rows, np.bincount(owner, values)[rows] / count[rows])
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


def keyed_columns(t_env: Any, count: int) -> Any:
    """`shard_columns` as a stream keyed by shard, by the JVM alone.

    `count` shards hashed into few subtasks give one of them most of the work: a shard's key is one whose key group is
    at the shard's place.
    """
    keys = spread_keys(count, int(t_env.get_config().get("pipeline.max-parallelism", "128")))
    digits = len(str(max(keys)))
    query = KEYED.format(keys="".join(f"{key:0{digits}}" for key in keys), digits=digits)
    return keyed(t_env, query, [Types.INT(), Types.LONG(), Types.STRING(), Types.STRING()])


def spread_keys(count: int, key_groups: int) -> list[int]:
    """A key for each of `count` shards, so that their key groups are spread evenly over all there are."""
    jvm = get_gateway().jvm
    assign = jvm.org.apache.flink.runtime.state.KeyGroupRangeAssignment.assignToKeyGroup
    free: dict[int, list[int]] = {}
    keys: list[int] = []
    candidate = 0
    for shard in range(count):
        wanted = shard * key_groups // count
        while not free.get(wanted):
            row = jvm.org.apache.flink.types.Row(1)
            row.setField(0, candidate)
            free.setdefault(assign(row, key_groups), []).append(candidate)
            candidate += 1
        keys.append(free[wanted].pop(0))
    return keys


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
