"""(a) EnergyAI's way: the JVM parses, times and packs; Python is handed a shard of meters and a minute in one text.

It gives one text back. State is the shard's arrays, of which a window writes one column.
`python -m tests.bench.engines.energyai FLINK_URL`
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import orjson
from pyflink.common.typeinfo import Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from jobs.launch import Statements
from operators.packing import RECORD, UNIT, unpack
from operators.shard_function import BYTES
from tests.bench.engines.flink_tables import MEANS, TEXTS, environment, exploded, shards, submit
from tests.bench.minute_shard import MinuteShard
from tests.bench.workload import CLOSING, HISTORY, MINUTE_MS, Job, Network, result


class ForecastMinutes(KeyedProcessFunction):  # type: ignore[misc]
    """Keyed by shard: (shard, window end, pieces) → the messages of all its meters, as one text."""

    def __init__(self, model: str) -> None:
        self._model = model

    def open(self, runtime_context: RuntimeContext) -> None:
        self._network = Network(self._model)
        self._shards: dict[int, MinuteShard] = {}
        self._names = runtime_context.get_state(ValueStateDescriptor("names", BYTES))
        self._columns = runtime_context.get_map_state(MapStateDescriptor("columns", Types.LONG(), BYTES))

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        key, end_ms, text = value
        shard = self._shard(key)
        minute = end_ms // MINUTE_MS
        pieces = unpack(text)
        known = len(shard.names)
        rows = shard.introduce([name[0] for name in pieces.series])[pieces.owner]
        shard.put(minute, rows, pieces.value)
        if len(shard.names) != known:
            self._names.update(orjson.dumps(shard.names))
        self._columns.put(minute, shard.column(minute))
        self._columns.remove(minute - HISTORY)
        ys = self._network.forecast(shard.window(minute, rows)).tolist()
        names = [shard.names[row] for row in rows.tolist()]
        messages = [name + UNIT + result(name, end_ms, y) for name, y in zip(names, ys, strict=True)]
        issued = [message for message in messages if not message.startswith(CLOSING)]
        if issued:
            yield RECORD.join(issued)

    def _shard(self, key: int) -> MinuteShard:
        shard = self._shards.get(key)
        if shard is None:
            names = self._names.value()
            columns = {} if names is None else {minute: bytes(column) for minute, column in self._columns.items()}
            shard = MinuteShard.restore([] if names is None else orjson.loads(bytes(names)), columns)
            self._shards[key] = shard
        return shard


def build(job: Job, flink_url: str) -> tuple[Any, Statements]:
    """Readings → minute means → texts of a shard and minute → forecasts → topic."""
    stream, t_env = environment(job, "bench energyai", flink_url)
    t_env.execute_sql(MEANS)
    t_env.execute_sql(TEXTS.format(shards=shards(job)))
    issued = (
        t_env.to_data_stream(t_env.from_path("shard_text"))
        .key_by(lambda row: row[0], key_type=Types.INT())
        .process(ForecastMinutes(job.model), output_type=Types.STRING())
        .uid("forecast-minutes")
    )
    return stream, exploded(t_env, issued)


if __name__ == "__main__":
    sys.exit(submit(build))
