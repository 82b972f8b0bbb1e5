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


def shards(job: Job) -> int:
    """Of how many meters a message is made: some hundred, and one shard a core at least."""
    return max(PARTITIONS, -(-job.meters // METERS_A_SHARD))


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
