"""Plans the jobs several times in one JVM, once with more operators, and prints the uids of each plan as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from jobs import alerts, control, detect, forecast, ingest, launch, uids
from jobs.flink_sql import statements
from jobs.job_settings import JobSettings

SETTINGS = JobSettings(kafka="127.0.0.1:1", database_url="postgresql://nobody@127.0.0.1:1/nothing")
COUNTED = """CREATE TEMPORARY TABLE counted (code STRING, n BIGINT, PRIMARY KEY (code) NOT ENFORCED)
WITH ('connector' = 'blackhole')"""
COUNT = "INSERT INTO counted SELECT reason, COUNT(*) FROM reading_rejected GROUP BY reason"
COUNT_EVIDENCE = """INSERT INTO counted
SELECT reason, COUNT(*) FROM (SELECT CAST(payload AS STRING) AS reason FROM evidence) GROUP BY reason"""
COUNTS = {**dict.fromkeys(("ingest", "forecast", "control", "anomalies"), COUNT), "alerts": COUNT_EVIDENCE}
"""By the file of the job's own statements."""


def more_statements(name: str, **values: object) -> list[str]:
    """`sql/flink/<name>.sql` as a later version might have it: with one more thing to count, ahead of the rest."""
    return [*((COUNTED, COUNTS[name]) if name in COUNTS else ()), *statements(name, **values)]


def plan(build: Callable[[Any, JobSettings], None]) -> list[str]:
    """The uids of one plan, operators in order."""
    stream, t_env = launch.table_environment(SETTINGS, "plan")
    build(t_env, SETTINGS)
    return [operator.getUid() for operator in uids.operators(stream._j_stream_execution_environment)]


def plan_ingest(t_env: Any, settings: JobSettings) -> None:
    """All of job ingest but its submission."""
    ingest.build(t_env, settings).attach_as_datastream()


def plan_forecast(t_env: Any, settings: JobSettings) -> None:
    """All of job forecast but its submission."""
    forecast.build(t_env, settings, forecast.model(settings))


def plan_detect(t_env: Any, settings: JobSettings) -> None:
    """All of job detect but its submission."""
    detect.build(t_env, settings, forecast.model(settings))


def main() -> None:
    """Prints {"ingest": [first, again, changed], "forecast": […], …}."""
    builds = {
        "ingest": plan_ingest,
        "forecast": plan_forecast,
        "detect": plan_detect,
        "alerts": alerts.build,
        "control": control.build,
    }
    found = {name: [plan(build), plan(build)] for name, build in builds.items()}
    launch.statements = more_statements
    for name, build in builds.items():
        found[name].append(plan(build))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
