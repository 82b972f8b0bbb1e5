"""The Flink job of `tests.bench.crossing`: `python -m tests.bench.crossing_job FLINK_URL`, told by CROSSING."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pyflink.common.typeinfo import Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor
from pyflink.table import DataTypes, Schema
from pyflink.table.udf import udaf, udf

from jobs.job_settings import JobSettings
from jobs.launch import Statements, table_environment
from operators.shard_function import BYTES
from tests.bench.crossing_ways import RECORD, UNIT, WAYS, Way
from tests.bench.minute_shard import MinuteShard
from tests.bench.workload import HISTORY

PARALLELISM = 2
SOURCE = """
CREATE TEMPORARY TABLE counted (
  n BIGINT,
  meter_id AS CONCAT('m', CAST(MOD(n, {meters}) AS STRING)),
  `value` AS CAST(MOD(n * 7919, 100003) AS DOUBLE) / 1000,
  rowtime AS TO_TIMESTAMP_LTZ(60000 * (n / {meters}), 3),
  WATERMARK FOR rowtime AS rowtime
) WITH (
  'connector' = 'datagen', 'rows-per-second' = '100000000', 'number-of-rows' = '{rows}',
  'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '{last}'
)"""
MEANS = """
CREATE TEMPORARY VIEW minute_mean AS
SELECT
  MOD(MOD(HASH_CODE(meter_id), {shards}) + {shards}, {shards}) AS shard,
  meter_id, AVG(`value`) AS mean, window_start, window_end, window_time
FROM TABLE(TUMBLE(DATA => TABLE counted, TIMECOL => DESCRIPTOR(rowtime), SIZE => INTERVAL '1' MINUTE))
GROUP BY meter_id, window_start, window_end, window_time"""
CROSSED = """
CREATE TEMPORARY VIEW crossed AS
SELECT shard, EXTRACT(EPOCH FROM window_end) / 60 AS `minute`, {select}
FROM minute_mean GROUP BY shard, window_start, window_end"""
ANSWERED = """
CREATE TEMPORARY TABLE answered (meter_id STRING, answer STRING) WITH ('connector' = 'blackhole')"""
INSERT = (
    "INSERT INTO answered SELECT {columns} FROM {source} CROSS JOIN UNNEST(SPLIT(messages, U&'\\001e')) AS t (message)"
)
CUT = "SPLIT_INDEX(message, U&'\\001f', 0), SPLIT_INDEX(message, U&'\\001f', 1)"


class Answer(KeyedProcessFunction):  # type: ignore[misc]
    """Keyed by shard: a minute of its meters → the mean of the last 96 of each."""

    def __init__(self, way: str) -> None:
        self._way = way

    def open(self, runtime_context: RuntimeContext) -> None:
        self._shards: dict[int, MinuteShard] = {}
        self._columns = runtime_context.get_map_state(MapStateDescriptor("columns", Types.LONG(), BYTES))
        self._names = runtime_context.get_state(ValueStateDescriptor("names", BYTES))

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        way = WAYS[self._way]
        key, minute = value[0], value[1]
        assert way.columns is not None
        names, means = way.columns(*[value[i] for i in range(2, len(value))])
        shard = self._shards.setdefault(key, MinuteShard())
        known = len(shard.names)
        rows = shard.introduce(list(names))
        shard.put(minute, rows, means)
        if len(shard.names) != known:
            self._names.update("\n".join(shard.names).encode())
        self._columns.put(minute, shard.column(minute))
        self._columns.remove(minute - HISTORY)
        answers = shard.window(minute, rows).mean(axis=1).tolist()
        texts = [f"{name}{UNIT}{answer:.6f}" for name, answer in zip(names, answers, strict=True)]
        if way.rows:
            yield from texts
        else:
            yield RECORD.join(texts)


def texts_of(names: Sequence[str], answers: np.ndarray[Any, Any]) -> str:
    """What is sent back."""
    return RECORD.join(f"{name}{UNIT}{answer:.6f}" for name, answer in zip(names, answers.tolist(), strict=True))


def by_process(t_env: Any, name: str, way: Way) -> str:
    """Through a keyed process function; the source of the INSERT."""
    t_env.execute_sql(CROSSED.format(select=way.select))
    answers = (
        t_env.to_data_stream(t_env.from_path("crossed"))
        .key_by(lambda row: row[0], key_type=Types.INT())
        .process(Answer(name), output_type=Types.STRING())
        .disable_chaining()
    )
    schema = Schema.new_builder().column_by_expression("messages", "f0").build()
    t_env.create_temporary_view("issued", t_env.from_data_stream(answers, schema))
    return "issued"


def by_udaf(t_env: Any, shards: int) -> str:
    """Through a vectorised aggregate of a window; no state of its own: what it would cost at least."""

    def answer(names: pd.Series[Any], means: pd.Series[Any]) -> str:
        return texts_of(names.tolist(), means.to_numpy(np.float64))

    t_env.create_temporary_function("answer", udaf(answer, result_type=DataTypes.STRING(), func_type="pandas"))
    t_env.execute_sql(
        "CREATE TEMPORARY VIEW issued AS SELECT answer(meter_id, `value`) AS messages FROM ("
        f"SELECT *, MOD(MOD(HASH_CODE(meter_id), {shards}) + {shards}, {shards}) AS shard FROM counted)"
        " GROUP BY shard, TUMBLE(rowtime, INTERVAL '1' MINUTE)"
    )
    return "issued"


def by_over(t_env: Any) -> str:
    """The history as an array of the JVM, row by row into a vectorised function."""

    def answer(names: pd.Series[Any], histories: pd.Series[Any]) -> pd.Series[Any]:
        sums = np.array([np.sum(history) for history in histories]) / HISTORY
        return pd.Series([f"{name}{UNIT}{mean:.6f}" for name, mean in zip(names, sums.tolist(), strict=True)])

    t_env.create_temporary_function("answer", udf(answer, result_type=DataTypes.STRING(), func_type="pandas"))
    t_env.execute_sql(
        "CREATE TEMPORARY VIEW issued AS SELECT answer(meter_id, history) AS messages FROM ("
        "SELECT meter_id, ARRAY_AGG(mean) OVER (PARTITION BY meter_id ORDER BY window_time"
        f" ROWS BETWEEN {HISTORY - 1} PRECEDING AND CURRENT ROW) AS history FROM minute_mean)"
    )
    return "issued"


def main() -> int:
    """Submits the way that CROSSING names, and prints the job's id."""
    name, meters, minutes, shards = json.loads(os.environ["CROSSING"])
    way = WAYS[name]
    settings = JobSettings(kafka="", database_url="", parallelism=PARALLELISM, flink_url=sys.argv[1])
    stream, t_env = table_environment(settings, f"crossing {name}")
    rows = meters * minutes
    t_env.execute_sql(SOURCE.format(meters=meters, rows=rows, last=rows - 1))
    t_env.execute_sql(MEANS.format(shards=shards))
    t_env.execute_sql(ANSWERED)
    if way.pandas == "udaf":
        source = by_udaf(t_env, shards)
    elif way.pandas == "over":
        source = by_over(t_env)
    else:
        source = by_process(t_env, name, way)
    job = Statements(t_env)
    job.add(INSERT.format(columns=CUT, source=source))
    job.attach_as_datastream()
    print("job", stream.execute_async("crossing").get_job_id(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
