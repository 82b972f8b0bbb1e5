"""Before a job is submitted: do the services it needs answer? A job that cannot reach them would restart for ever."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.errors import UserError
from jobs.job_settings import JobSettings

TIMEOUT_S = 10


def check(settings: JobSettings) -> None:
    """Looks at Kafka and the database.

    Raises:
        UserError: one line that says which does not answer, or is not set up, and what to do.
    """
    check_kafka(settings)
    check_database(settings.database_url)


def check_kafka(settings: JobSettings) -> None:
    """Whether the brokers answer and have the topics of readings, forecasts and models.

    Raises:
        UserError: they do not.
    """
    check_topics(settings, ("meter.readings",), ("meter.readings.rejected", "forecasts", "models"))


def check_topics(settings: JobSettings, read: Sequence[str], written: Sequence[str]) -> None:
    """Whether the brokers answer and have the topics that a job reads and writes.

    Raises:
        UserError: they do not.
    """
    from kafka import KafkaConsumer
    from kafka.errors import KafkaError

    try:
        consumer = KafkaConsumer(
            bootstrap_servers=settings.kafka.split(","), api_version_auto_timeout_ms=TIMEOUT_S * 1000
        )
    except (KafkaError, ValueError, OSError) as error:
        raise UserError(
            f"no Kafka at {settings.kafka} ({type(error).__name__}): see `energyai status`, or check ENERGYAI_KAFKA", 3
        ) from error
    try:
        topics = consumer.topics()
    finally:
        consumer.close()
    wanted = [settings.topic_prefix + name for name in read] + [settings.output_topic(name) for name in written]
    missing = [name for name in wanted if name not in topics]
    if missing:
        raise UserError(
            f"Kafka at {settings.kafka} lacks the topics {', '.join(missing)}: `energyai up` creates them", 3
        )


def check_database(url: str) -> None:
    """Whether the database answers and is migrated.

    Raises:
        UserError: it does not, or is not.
    """
    import psycopg2

    from infra.database import DatabaseError, connected

    try:
        with connected(url, wait_s=TIMEOUT_S) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM reading, forecast_issue LIMIT 0")
    except DatabaseError as error:
        raise UserError(str(error), 3) from error
    except psycopg2.Error as error:
        reason = " ".join(str(error).split())
        raise UserError(f"the database is not migrated ({reason}): `energyai up` does it", 3) from error
