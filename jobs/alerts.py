"""Alerts: anomalies, and what other jobs raise → alerts that fire and resolve, on the topic and in the database.

flink run -py jobs/alerts.py --kafka HOST:PORT --database-url postgresql://…
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from jobs import launch, preflight
from jobs.flink_sql import statements
from jobs.job_settings import JobSettings
from jobs.launch import job_of, table_environment
from jobs.tables import create_sink, stopping, topic

NAME = "energyai-alerts"
SOURCES = ("anomalies", "alerts.control")
TIMES = ("known_at", "end", "endsAt", "start", "startsAt")
"""Fields of a message that tell when it became known, the best first."""

BATCHES = {
    # An alert should not wait for others to fill a batch or a buffer: there are few (docs/decisions/017).
    "python.fn-execution.bundle.time": "5",
    "python.fn-execution.arrow.batch.size": "500",
    "execution.buffer-timeout.interval": "10 ms",
}


def create_evidence(t_env: Any, settings: JobSettings) -> None:
    """The table `evidence` on the topics that tell of anomalies and of alerts."""
    bounded = settings.until_complete
    source = statements(
        "evidence",
        kafka=settings.kafka,
        topics=";".join(topic(settings, name) for name in SOURCES),
        group=settings.name(NAME),
        discovery="0" if bounded else "30 s",
        bounded=stopping(settings),
        # A run to the end never calls a partition idle: a slow fetch would make its anomalies late.
        idle_timeout="" if bounded else f"'scan.watermark.idle-timeout' = '{settings.idle_timeout_s} s',",
        known_ms=_known_ms(),
        tolerance=settings.future_tolerance_s,
        delay=settings.watermark_delay_s,
    )
    for statement in source:
        t_env.execute_sql(statement)


def _known_ms() -> str:
    """SQL for when a message became known, to the second: the first of its times that is there, in UTC as jobs write.

    Another form gives no time, and moves no watermark. To read all forms, as `timestamp_ms` does, takes code of which
    Flink splits and compiles a copy for each partition: 20 s of a core, at each start of the job.
    """
    text = "CAST(payload AS STRING)"
    second = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}"
    found = [f"""REGEXP_EXTRACT({text}, '"{name}"\\s*:\\s*"({second})[.0-9]{{0,10}}Z"', 1)""" for name in TIMES]
    return f"UNIX_TIMESTAMP(COALESCE({', '.join(found)}), 'yyyy-MM-dd''T''HH:mm:ss') * 1000"


def build(t_env: Any, settings: JobSettings) -> None:
    """The job: evidence → its site → the site's book → database → topic."""
    from pyflink.common.typeinfo import Types
    from pyflink.table import Schema

    from operators.alert_function import AlertBook, RouteEvidence
    from operators.alerting import rows
    from operators.sinks import write_texts

    create_evidence(t_env, settings)
    create_sink(t_env, settings, "alerts", "alerts", at_once=True)
    meters, rules = topic(settings, "meters"), topic(settings, "alerts.rules")
    raised = (
        t_env.to_data_stream(t_env.sql_query("SELECT payload FROM evidence"))
        .process(RouteEvidence(settings.kafka, meters), Types.ROW([Types.STRING(), Types.STRING()]))
        .uid("alert-route")
        .name("evidence to its site")
        .key_by(lambda row: row[0], key_type=Types.STRING())
        .process(AlertBook(settings.kafka, rules, meters, settings.database_url), output_type=Types.STRING())
        .uid("alert-book")
        .name("alerts of a site")
        .disable_chaining()
    )
    schema = Schema.new_builder().column_by_expression("messages", "f0").build()
    t_env.create_temporary_view("raised", t_env.from_data_stream(raised, schema))
    t_env.create_temporary_function("write_alerts", write_texts(settings.database_url, rows.write))
    job_of(t_env, "alerts").attach_as_datastream()


def submit(settings: JobSettings) -> Any:
    """Submits the job."""
    preflight.check_topics(settings, SOURCES, ("alerts",))
    stream, t_env = table_environment(settings, settings.name(NAME), BATCHES)
    build(t_env, settings)
    return stream.execute_async(settings.name(NAME))


def main(argv: Sequence[str] | None = None) -> int:
    """The job's command line."""
    return launch.main(NAME, argv, __doc__, submit)


if __name__ == "__main__":
    sys.exit(main())
