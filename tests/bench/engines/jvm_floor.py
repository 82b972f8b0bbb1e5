"""(b) The JVM's floor: the same SQL with no Python in it; what comes out is the mean itself.

python -m tests.bench.engines.jvm_floor FLINK_URL [--packed]; packed: texts are made and cut as for Python.
"""

from __future__ import annotations

import sys
from typing import Any

from jobs.launch import Statements
from tests.bench.engines.flink_tables import environment, shards, submit
from tests.bench.workload import CLOSING, Job

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

PLAIN = "SELECT meter_id, EXTRACT(EPOCH FROM window_end) * 1000 AS end_ms, mean FROM minute_mean"
PACKED = """
SELECT meter_id, end_ms, SPLIT_INDEX(numbers, ' ', 1) AS mean FROM (
  SELECT
    window_end_ms AS end_ms,
    SPLIT_INDEX(piece, U&'\\001f', 0) AS meter_id,
    SPLIT_INDEX(piece, U&'\\001f', 5) AS numbers
  FROM shard_text CROSS JOIN UNNEST(SPLIT(pieces, U&'\\001e')) AS t (piece)
)"""
INSERT = """
INSERT INTO results
SELECT
  meter_id,
  CONCAT('{{"meter_id":"', meter_id, '","ts":', CAST(end_ms AS STRING), ',"y":', CAST(mean AS STRING), '}}')
FROM ({means}) WHERE meter_id NOT LIKE '{closing}%'"""


def build(job: Job, flink_url: str) -> tuple[Any, Statements]:
    """Readings → minute means → topic."""
    packed = "--packed" in sys.argv
    stream, t_env = environment(job, "bench jvm floor", flink_url)
    t_env.execute_sql(MEANS)
    if packed:
        t_env.execute_sql(TEXTS.format(shards=shards(job)))
    inserts = Statements(t_env)
    inserts.add(INSERT.format(means=PACKED if packed else PLAIN, closing=CLOSING))
    return stream, inserts


if __name__ == "__main__":
    sys.exit(submit(build))
