"""What a run has brought so far, counted where it counts: in Kafka and in the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from infra.database import connected

TABLES = {
    "readings_stored": "reading",
    "readings_rejected": "rejected_reading",
    "forecasts": "forecast_issue",
    "anomalies": "anomaly",
    "alerts": "alert",
    "setpoints": "setpoint",
}

BASELINES = ("previous_week", "persistence_ensemble", "mean_day_week")


@dataclass(frozen=True)
class Counts:
    """Rows of the tables, and the newest times."""

    rows: Mapping[str, int]
    newest_reading: str
    newest_issue: str


def stored(url: str) -> Counts:
    """Counts the tables."""
    columns = ", ".join(f"(SELECT count(*) FROM {table})" for table in TABLES.values())
    with connected(url) as connection, connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {columns}, (SELECT max(ts) FROM reading)::text, (SELECT max(issued_at) FROM forecast_issue)::text"
        )
        *counts, reading, issue = cursor.fetchone() or ()
    return Counts(dict(zip(TABLES, map(int, counts), strict=True)), reading or "", issue or "")


def records(kafka: str, topic: str) -> int:
    """Messages that were ever put on a topic."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=kafka.split(","))
    try:
        partitions = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
        return sum(consumer.end_offsets(partitions).values())
    finally:
        consumer.close()


def accuracy(url: str, prefix: str = "") -> dict[str, Any]:
    """NRMSE of the stored forecasts and of the baselines, median over meters whose id begins with `prefix`."""
    columns = ["nrmse", *(f"nrmse_{name}" for name in BASELINES)]
    medians = ", ".join(f"percentile_cont(0.5) WITHIN GROUP (ORDER BY {column})" for column in columns)
    with connected(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*), {medians} FROM forecast_accuracy WHERE starts_with(meter_id, %s)", (prefix,))
        meters, *values = cursor.fetchone() or ()
    rounded = [None if value is None else round(float(value), 4) for value in values]
    return {"meters": meters, "nrmse": rounded[0], "nrmse_baselines": dict(zip(BASELINES, rounded[1:], strict=True))}
