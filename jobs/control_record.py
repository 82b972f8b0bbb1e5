"""Control's record: setpoints, answers and the log → the database. Apart from `control`, which waits for no database.

flink run -py jobs/control_record.py --kafka HOST:PORT --database-url postgresql://…
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from jobs import launch, preflight
from jobs.flink_sql import statements
from jobs.job_settings import JobSettings
from jobs.launch import job_of, table_environment
from jobs.tables import topic

NAME = "energyai-control-record"
FEEDS = {"setpoint_record": "control.setpoints", "ack_record": "control.acks", "log_record": "control.log"}
OPTIONS = {
    "python.fn-execution.bundle.time": "200",
    "python.fn-execution.arrow.batch.size": "1000",
}


def build(t_env: Any, settings: JobSettings) -> Any:
    """The job: records of the topics, as they are, into their tables."""
    from operators.control_function import write_control

    for table, name in FEEDS.items():
        for statement in statements(
            "control_feed",
            table=table,
            field="ts",
            # What this run decided, and what the deployment's devices answered.
            topic=topic(settings, name) if name == "control.acks" else settings.output_topic(name),
            kafka=settings.kafka,
            group=settings.name(NAME),
            start="earliest-offset",
            discovery="0" if settings.until_complete else "30 s",
            bounded="'scan.bounded.mode' = 'latest-offset'," if settings.until_complete else "",
            idle_timeout="",
            event_time="arrival AS PROCTIME()",
        ):
            t_env.execute_sql(statement)
    t_env.create_temporary_function("write_control", write_control(settings.database_url))
    return job_of(t_env, "control_record")


def submit(settings: JobSettings) -> Any:
    """Submits the job."""
    preflight.check_topics(settings, ("control.acks",), ("control.setpoints", "control.log"))
    _, t_env = table_environment(settings, settings.name(NAME), OPTIONS)
    return build(t_env, settings).execute()


def main(argv: Sequence[str] | None = None) -> int:
    """The job's command line."""
    return launch.main(NAME, argv, __doc__, submit)


if __name__ == "__main__":
    sys.exit(main())
