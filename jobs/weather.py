"""Weather: the topic `weather` → its table, or the dead letter. Training reads the table, the forecast job the topic.

flink run -py jobs/weather.py --kafka HOST:PORT --database-url postgresql://…
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from jobs import launch, preflight
from jobs.job_settings import JobSettings
from jobs.launch import job_of, table_environment
from jobs.tables import create_sink, topic

NAME = "energyai-weather"
TOPIC = "weather"
OPTIONS = {
    "python.fn-execution.bundle.time": "200",
    "python.fn-execution.arrow.batch.size": "5000",
}


def build(t_env: Any, settings: JobSettings) -> Any:
    """The job's statement: records of the topic → their rows, or the dead letter."""
    from operators.weather_function import write_weather

    create_sink(t_env, settings, "dead_letters", "meter.readings.rejected")
    t_env.create_temporary_function("write_weather", write_weather(settings.database_url))
    return job_of(
        t_env,
        "weather",
        topic=topic(settings, TOPIC),
        kafka=settings.kafka,
        group=settings.name(NAME),
        discovery="0" if settings.until_complete else "30 s",
        bounded="'scan.bounded.mode' = 'latest-offset'," if settings.until_complete else "",
    )


def submit(settings: JobSettings) -> Any:
    """Submits the job."""
    preflight.check_topics(settings, (TOPIC,), ("meter.readings.rejected",))
    _, t_env = table_environment(settings, settings.name(NAME), OPTIONS)
    return build(t_env, settings).execute()


def main(argv: Sequence[str] | None = None) -> int:
    """The job's command line."""
    return launch.main(NAME, argv, __doc__, submit)


if __name__ == "__main__":
    sys.exit(main())
