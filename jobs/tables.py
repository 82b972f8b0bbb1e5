"""Sources and sinks of the jobs as Flink tables: the SQL of `sql/flink`, with the settings of one run filled in."""

from __future__ import annotations

from typing import Any

from jobs.flink_sql import HALF_SURROGATE, row_time, short_text, statements, timestamp_ms
from jobs.job_settings import JobSettings

EVENT_TIME = """rowtime AS {rowtime},
  arrival AS PROCTIME(),
  WATERMARK FOR rowtime AS
    CASE WHEN rowtime <= TIMESTAMPADD(SECOND, {tolerance}, received) THEN TIMESTAMPADD(SECOND, -{delay}, rowtime) END"""

NO_EVENT_TIME = "known_ms AS CAST(NULL AS BIGINT)"

LONGEST_ID = 256
"""Characters of a meter's, register's or tenant's name."""


def topic(settings: JobSettings, name: str) -> str:
    """A topic of the contract that is read, as it is called in this deployment."""
    return settings.topic_prefix + name


def stopping(settings: JobSettings) -> str:
    """Options of the source that say where it stops reading; empty: nowhere."""
    if not settings.until_complete:
        return ""
    if not settings.until_offsets:
        return "'scan.bounded.mode' = 'latest-offset',"
    pairs = (pair.split(":") for pair in settings.until_offsets.split(","))
    offsets = ";".join(f"partition:{int(partition)},offset:{int(offset)}" for partition, offset in pairs)
    return f"'scan.bounded.mode' = 'specific-offsets',\n  'scan.bounded.specific-offsets' = '{offsets}',"


def create_readings(t_env: Any, settings: JobSettings, group: str, *, event_time: bool, windows: bool = True) -> None:
    """The table `meter_readings` on Kafka, and the views `reading_valid` and `reading_rejected` on it.

    Args:
        t_env: a pyflink TableEnvironment.
        settings: of this run.
        group: consumer group, under which the brokers show how far the job has read.
        event_time: whether the job has event time; one that has none saves the cost of watermarks.
        windows: with event time, whether readings go into windows, and so need the time at which they became known.
    """
    tolerance = settings.future_tolerance_s
    delay = settings.watermark_delay_s
    bounded = settings.until_complete
    known = event_time and windows
    times = [] if known else [NO_EVENT_TIME]
    if event_time:
        times.append(EVENT_TIME.format(rowtime=row_time("payload"), tolerance=tolerance, delay=delay))
    source = statements(
        "meter_readings",
        kafka=settings.kafka,
        topic=topic(settings, "meter.readings"),
        group=group,
        start="earliest-offset",
        discovery="0" if bounded else "30 s",
        bounded=stopping(settings),
        # A run to the end never calls a partition idle: a slow fetch would make its readings late.
        idle_timeout="" if bounded else f"'scan.watermark.idle-timeout' = '{settings.idle_timeout_s} s',",
        event_time=",\n  ".join(times),
    )
    clock = statements("known", watermark_delay_s=delay, future_tolerance_s=tolerance) if known else []
    views = statements(
        "readings",
        records="record_known" if known else "meter_readings",
        ts_ms=timestamp_ms("ts_json"),
        meter_ok=short_text("meter_json", LONGEST_ID),
        register_ok=f"(register_json IS NULL OR {short_text('register_json', LONGEST_ID)})",
        tenant_ok=f"(tenant_json IS NULL OR {short_text('tenant_json', LONGEST_ID)})",
        half_surrogate=HALF_SURROGATE,
        max_record_bytes=settings.max_record_bytes,
        future_tolerance_s=tolerance,
    )
    for statement in source + clock + views:
        t_env.execute_sql(statement)


def create_shards(t_env: Any, settings: JobSettings, *, raw: bool = False) -> None:
    """The view `shard_texts` (shard, at_ms, series, numbers): readings packed for Python, in the order of event time.

    Args:
        t_env: a pyflink TableEnvironment, which has `reading_valid`.
        settings: of this run.
        raw: whether to make the view `raw_texts` too, of the same columns: the same readings, at once.
    """
    from pyflink.table import Schema

    for statement in statements("shards", shards=settings.shards):
        t_env.execute_sql(statement)
    # SQL takes a row time only from a source. Through a stream, which stays on the JVM, a computed time becomes one,
    # with the watermarks that the source has made.
    schema = (
        Schema.new_builder()
        .column_by_expression("known", "TO_TIMESTAMP_LTZ(known_ms, 3)")
        .column_by_expression("passing", "PROCTIME()")
        .watermark("known", "SOURCE_WATERMARK()")
        .build()
    )
    pieces = t_env.to_data_stream(t_env.from_path("reading_piece"))
    t_env.create_temporary_view("piece", t_env.from_data_stream(pieces, schema))
    names = ["windows", "raw"] if raw else ["windows"]
    for name in names:
        for statement in statements(name):
            t_env.execute_sql(statement)


def create_sink(t_env: Any, settings: JobSettings, table: str, name: str, *, at_once: bool = False) -> None:
    """The table `table` (record_key, record_value) on topic `name`, exactly once.

    Args:
        t_env: a pyflink TableEnvironment.
        settings: of this run.
        table: its name.
        name: of the topic.
        at_once: whether a message is seen at once, and after a failure again: at least once.
    """
    for statement in statements(
        "keyed_sink",
        table=table,
        topic=settings.output_topic(name),
        kafka=settings.kafka,
        transactions=f"energyai-{settings.output_topic(table)}",
        guarantee="at-least-once" if at_once else "exactly-once",
        linger_ms=2 if at_once else 20,
    ):
        t_env.execute_sql(statement)


def create_announcements(t_env: Any, settings: JobSettings) -> None:
    """The table `model_announcements` (record_key, record_value) on the topic `models`, at least once."""
    topic_name = settings.output_topic("models")
    for statement in statements("model_announcements", topic=topic_name, kafka=settings.kafka):
        t_env.execute_sql(statement)
