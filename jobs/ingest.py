"""Ingest: meter.readings → reading and its energy, or the dead letter. Validation is SQL on the JVM.

flink run -py jobs/ingest.py --kafka HOST:PORT --database-url postgresql://…
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from jobs import launch
from jobs.job_settings import JobSettings
from jobs.launch import job_of, table_environment
from jobs.tables import create_readings, create_sink
from operators.sinks import write_readings, write_rejected

NAME = "energyai-ingest"

BATCHES = {
    # Rows of one call, and so of one transaction: the database's cost is by transaction as much as by row.
    "python.fn-execution.arrow.batch.size": "10000",
    "python.fn-execution.bundle.size": "10000",
    "python.fn-execution.bundle.time": "200",
}


def build(t_env: Any, settings: JobSettings) -> Any:
    """The job's statements: source → validated readings → store, rejected records → store and dead letter."""
    create_readings(t_env, settings, group=settings.name(NAME), event_time=False)
    create_sink(t_env, settings, "dead_letters", "meter.readings.rejected")
    t_env.create_temporary_function("write_readings", write_readings(settings.database_url))
    t_env.create_temporary_function("write_rejected", write_rejected(settings.database_url))
    return job_of(t_env, "ingest")


def submit(settings: JobSettings) -> Any:
    """Submits the job."""
    _, t_env = table_environment(settings, settings.name(NAME), BATCHES)
    return build(t_env, settings).execute()


def main(argv: Sequence[str] | None = None) -> int:
    """The job's command line."""
    return launch.main(NAME, argv, __doc__, submit)


if __name__ == "__main__":
    sys.exit(main())
