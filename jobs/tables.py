"""Sources and sinks of the jobs as Flink tables: the SQL of `sql/flink`, with the settings of one run filled in."""

from __future__ import annotations

from typing import Any

from jobs.flink_sql import row_time, short_text, statements, timestamp_ms
from jobs.job_settings import JobSettings

WATERMARK = """, WATERMARK FOR rowtime AS
    CASE WHEN rowtime <= TIMESTAMPADD(SECOND, {}, received) THEN TIMESTAMPADD(SECOND, -{}, rowtime) END"""

LONGEST_ID = 256
"""Characters of a meter's, register's or tenant's name."""


def topic(settings: JobSettings, name: str) -> str:
    """A topic of the contract, as it is called in this deployment."""
    return settings.topic_prefix + name


def create_readings(t_env: Any, settings: JobSettings, group: str, *, event_time: bool) -> None:
    """The table `meter_readings` on Kafka, and the views `reading_valid` and `reading_rejected` on it.

    Args:
        t_env: a pyflink TableEnvironment.
        settings: of this run.
        group: consumer group, under which the brokers show how far the job has read.
        event_time: whether the job has windows; one that has none saves the cost of watermarks.
    """
    tolerance = settings.future_tolerance_s
    bounded = settings.until_complete
    source = statements(
        "meter_readings",
        kafka=settings.kafka,
        topic=topic(settings, "meter.readings"),
        group=group,
        start="earliest-offset",
        discovery="0" if bounded else "30 s",
        bounded="'scan.bounded.mode' = 'latest-offset'," if bounded else "",
        # A run to the end never calls a partition idle: a slow fetch would make its readings late.
        idle_timeout="" if bounded else f"'scan.watermark.idle-timeout' = '{settings.idle_timeout_s} s',",
        rowtime=row_time("payload") if event_time else "CAST(NULL AS TIMESTAMP_LTZ(3))",
        watermark=WATERMARK.format(tolerance, settings.watermark_delay_s) if event_time else "",
    )
    views = statements(
        "readings",
        ts_ms=timestamp_ms("ts_json"),
        meter_ok=short_text("meter_json", LONGEST_ID),
        register_ok=f"(register_json IS NULL OR {short_text('register_json', LONGEST_ID)})",
        tenant_ok=f"(tenant_json IS NULL OR {short_text('tenant_json', LONGEST_ID)})",
        max_record_bytes=settings.max_record_bytes,
        future_tolerance_s=tolerance,
    )
    for statement in source + views:
        t_env.execute_sql(statement)


def create_shards(t_env: Any, settings: JobSettings) -> None:
    """The view `shard_texts` (shard, window_end_ms, pieces): readings packed for Python; late ones with window 0."""
    for statement in statements("shards", shards=settings.shards):
        t_env.execute_sql(statement)


def create_sink(t_env: Any, settings: JobSettings, table: str, name: str) -> None:
    """The table `table` (record_key, record_value) on topic `name`, exactly once."""
    for statement in statements(
        "keyed_sink", table=table, topic=topic(settings, name), kafka=settings.kafka, transactions=f"energyai-{table}"
    ):
        t_env.execute_sql(statement)
