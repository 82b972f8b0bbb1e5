"""Control: readings, forecasts, device states and answers → a site's controller → setpoints, alerts and the log.

flink run -py jobs/control.py --kafka HOST:PORT --database-url postgresql://…

A second job, `control-record`, writes what was decided and answered into the database: control goes on without one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from jobs import control_record, launch, preflight
from jobs.flink_rest import FlinkRest
from jobs.flink_sql import row_time, statements
from jobs.job_settings import JobSettings
from jobs.launch import job_of, table_environment
from jobs.tables import EVENT_TIME, create_readings, create_sink, topic

NAME = "energyai-control"
READ = ("meter.readings", "forecasts", "control.acks", "control.states", "sites", "meters", "dr.events")
WRITTEN = ("control.setpoints", "alerts.control", "control.log")
FEEDS = {
    "forecast_feed": ("forecasts", "issued_at"),
    "ack_feed": ("control.acks", "ts"),
    "state_feed": ("control.states", "ts"),
}
"""Table → its topic, and the field that holds its records' time."""
IDLE_TIMEOUT_S = 20
OPTIONS = {
    # A setpoint is seen when its transaction is committed, with the next checkpoint.
    "execution.checkpointing.interval": "2 s",
    "execution.checkpointing.min-pause": "500 ms",
    # Nothing may wait for others to fill a batch.
    "python.fn-execution.bundle.time": "50",
    "python.fn-execution.arrow.batch.size": "1000",
}


def create_feeds(t_env: Any, settings: JobSettings) -> None:
    """The tables of `FEEDS`."""
    bounded = settings.until_complete
    for table, (name, field) in FEEDS.items():
        event_time = EVENT_TIME.format(
            rowtime=row_time("payload").replace('"ts"', f'"{field}"'), tolerance=settings.future_tolerance_s, delay=0
        )
        for statement in statements(
            "control_feed",
            table=table,
            field=field,
            topic=topic(settings, name),
            kafka=settings.kafka,
            group=settings.name(NAME),
            start="earliest-offset",
            discovery="0" if bounded else "30 s",
            bounded="'scan.bounded.mode' = 'latest-offset'," if bounded else "",
            idle_timeout="" if bounded else f"'scan.watermark.idle-timeout' = '{IDLE_TIMEOUT_S} s',",
            event_time=event_time,
        ):
            t_env.execute_sql(statement)


def build(t_env: Any, settings: JobSettings) -> None:
    """The job: records with their site → the site's controller → topics."""
    from pyflink.common.typeinfo import Types
    from pyflink.table import Schema

    from operators.control_function import ControlSite, site_of

    names = [topic(settings, name) for name in ("sites", "meters", "dr.events")]
    create_readings(t_env, settings, group=settings.name(NAME), event_time=True, windows=False)
    create_feeds(t_env, settings)
    for table, name in zip(("setpoints", "control_alerts", "control_log"), WRITTEN, strict=True):
        create_sink(t_env, settings, table, name)
    t_env.create_temporary_function("site_of", site_of(settings.kafka, *names[:2]))
    for statement in statements("control_inputs"):
        t_env.execute_sql(statement)
    decisions = (
        t_env.to_data_stream(t_env.from_path("control_inputs"))
        .key_by(lambda row: row[0], key_type=Types.STRING())
        .process(ControlSite(settings.kafka, *names, past_only=settings.until_complete), output_type=Types.STRING())
        .uid("control-site")
        .name("controller of a site")
        .disable_chaining()
    )
    schema = Schema.new_builder().column_by_expression("message", "f0").build()
    t_env.create_temporary_view("decisions", t_env.from_data_stream(decisions, schema))
    job_of(t_env, "control").attach_as_datastream()


def submit(settings: JobSettings) -> Any:
    """Submits the job."""
    preflight.check_topics(settings, READ, WRITTEN)
    stream, t_env = table_environment(settings, settings.name(NAME), OPTIONS)
    build(t_env, settings)
    return stream.execute_async(settings.name(NAME))


def main(argv: Sequence[str] | None = None) -> int:
    """The job's command line; the job that records follows it, unless it runs already."""
    return launch.main(NAME, argv, __doc__, submit) or (0 if _recorded(argv) else control_record.main(argv))


def _recorded(argv: Sequence[str] | None) -> bool:
    """Whether the job that records needs no start: one of it is enough, a savepoint is another job's, and a run to the
    end has nothing to record yet.
    """
    settings = JobSettings.parse(argv, "")
    if settings.savepoint or settings.until_complete:
        return True
    name = settings.name(control_record.NAME)
    return bool(settings.flink_url) and any(job["name"] == name for job in FlinkRest(settings.flink_url).running())


if __name__ == "__main__":
    sys.exit(main())
