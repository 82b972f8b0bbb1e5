"""What the Flink engines of workload W share: the topic as a table, one-minute means, the sink. SQL on the JVM."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from jobs.job_settings import JobSettings
from jobs.launch import Statements, table_environment
from jobs.tables import create_sink
from tests.bench.workload import PARTITIONS, Job

METERS_A_SHARD = 125

SOURCE = """
CREATE TEMPORARY TABLE readings (
  meter_id STRING,
  ts BIGINT,
  `value` DOUBLE,
  rowtime AS TO_TIMESTAMP_LTZ(ts, 3),
  WATERMARK FOR rowtime AS rowtime
) WITH (
  'connector' = 'kafka',
  'topic' = '{source}',
  'properties.bootstrap.servers' = '{kafka}',
  'properties.group.id' = '{sink}',
  'scan.startup.mode' = 'earliest-offset',
  'scan.bounded.mode' = 'latest-offset',
  'scan.topic-partition-discovery.interval' = '0',
  'format' = 'json'
)"""

MEANS = """
CREATE TEMPORARY VIEW minute_mean AS
SELECT meter_id, window_start, window_end, window_time, AVG(`value`) AS mean
FROM TABLE(TUMBLE(DATA => TABLE readings, TIMECOL => DESCRIPTOR(rowtime), SIZE => INTERVAL '1' MINUTE))
GROUP BY meter_id, window_start, window_end, window_time"""

TEXTS = """
CREATE TEMPORARY VIEW shard_text AS
SELECT
  shard,
  EXTRACT(EPOCH FROM window_end) * 1000 AS window_end_ms,
  LISTAGG(
    CONCAT(
      meter_id, U&'\\001f\\001f\\001f2\\001f1\\001f',
      CAST(EXTRACT(EPOCH FROM window_end) * 1000 AS STRING), ' ', CAST(mean AS STRING), ' 0 0 0'
    ), U&'\\001e'
  ) AS pieces
FROM (SELECT *, MOD(MOD(HASH_CODE(meter_id), {shards}) + {shards}, {shards}) AS shard FROM minute_mean)
GROUP BY shard, window_start, window_end"""
"""Pieces as `operators.packing.unpack` reads them: no register, no tenant, kind 2 (a power), one reading."""


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


def shards(job: Job) -> int:
    """Of how many meters a message is made: some hundred, and one shard a core at least."""
    return max(PARTITIONS, -(-job.meters // METERS_A_SHARD))


def keyed_columns(t_env: Any, count: int) -> Any:
    """`shard_columns` as a stream keyed by shard, by the JVM alone.

    PyFlink's own `key_by` asks Python for the key: each text would cross twice. And `count` shards hashed into few
    subtasks give one of them most of the work: so a shard's key is one whose key group is at the shard's place.
    """
    from pyflink.common.typeinfo import Types
    from pyflink.datastream.data_stream import KeyedStream
    from pyflink.java_gateway import get_gateway

    columns = Types.ROW([Types.INT(), Types.LONG(), Types.STRING(), Types.STRING()])
    keys = spread_keys(count, int(t_env.get_config().get("pipeline.max-parallelism", "128")))
    digits = len(str(max(keys)))
    query = KEYED.format(keys="".join(f"{key:0{digits}}" for key in keys), digits=digits)
    stream = t_env.to_append_stream(t_env.sql_query(query), Types.ROW([Types.INT(), columns]))
    keyed = stream._j_data_stream.keyBy(
        get_gateway().jvm.KeyByKeySelector(), Types.ROW([Types.INT()]).get_java_type_info()
    )
    return KeyedStream(keyed, columns, stream)


def spread_keys(count: int, key_groups: int) -> list[int]:
    """A key for each of `count` shards, so that their key groups are spread evenly over all there are."""
    from pyflink.java_gateway import get_gateway

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


def environment(job: Job, name: str, flink_url: str, options: Mapping[str, str] | None = None) -> tuple[Any, Any]:
    """The stream and table environments of one run, with the tables `readings` and `results`."""
    settings = JobSettings(kafka=job.kafka, database_url="", parallelism=PARTITIONS, flink_url=flink_url)
    stream, t_env = table_environment(settings, name, options)
    t_env.execute_sql(SOURCE.format(**vars(job)))
    create_sink(t_env, settings, "results", job.sink)
    return stream, t_env


def submit(build: Callable[[Job, str], tuple[Any, Statements]]) -> int:
    """Submits what `build` makes for the cluster that the command line names, and prints the job's id."""
    stream, job = build(Job.from_environment(), sys.argv[1])
    job.attach_as_datastream()
    client = stream.execute_async("bench")
    print("job", client.get_job_id(), flush=True)
    return 0


def exploded(t_env: Any, texts: Any) -> Statements:
    """The INSERT of a stream of texts, "key US message" joined by RS, cut on the JVM."""
    from pyflink.table import Schema

    schema = Schema.new_builder().column_by_expression("messages", "f0").build()
    t_env.create_temporary_view("issued", t_env.from_data_stream(texts, schema))
    job = Statements(t_env)
    job.add(
        "INSERT INTO results SELECT SPLIT_INDEX(message, U&'\\001f', 0), SPLIT_INDEX(message, U&'\\001f', 1)"
        " FROM issued CROSS JOIN UNNEST(SPLIT(messages, U&'\\001e')) AS t (message)"
    )
    return job
