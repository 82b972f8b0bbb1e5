"""Forecast: meter.readings → quarter hours → shards → ONNX → forecasts, on the topic and in the database.

flink run -py jobs/forecast.py --kafka HOST:PORT --database-url postgresql://…
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobs import launch
from jobs.job_settings import JobSettings
from jobs.launch import job_of, table_environment
from jobs.models import keys
from jobs.streams import shard_texts
from jobs.tables import create_announcements, create_readings, create_shards, create_sink, topic
from operators.forecaster import SHIPPED_MODEL, Forecaster, shipped_reference, shipped_sha256
from operators.serving.settings import ShardSettings
from operators.serving.watch import Policy

NAME = "energyai-forecast"

BATCHES = {
    # Texts of one call, and so of one transaction: each holds a shard's forecasts of one quarter hour.
    "python.fn-execution.arrow.batch.size": "50",
}


def model(settings: JobSettings) -> tuple[bytes, str]:
    """The model's bytes and checksum, verified here: a bad one must not become a job that restarts for ever.

    Raises:
        ModelError: no file, another checksum, or no usable model.
    """
    path = Path(settings.model) if settings.model else SHIPPED_MODEL
    expected = settings.model_sha256 or (None if settings.model else shipped_sha256())
    loaded = Forecaster.load(path, expected)
    return path.read_bytes(), loaded.sha256


def build(t_env: Any, settings: JobSettings, verified: tuple[bytes, str]) -> None:
    """The job: readings → texts of a shard and quarter hour → forecasts due → database → topic.

    Beside it, days that are over → the models' watch → database → rollbacks on the topic `models`.
    """
    from pyflink.common.typeinfo import Types
    from pyflink.table import Schema

    from operators.serving.watch_function import ModelWatch
    from operators.shard_function import REPORTS, ForecastShard
    from operators.sinks import write_forecasts, write_model_events

    create_readings(t_env, settings, group=settings.name(NAME), event_time=True)
    create_shards(t_env, settings)
    create_sink(t_env, settings, "forecasts", "forecasts")
    create_announcements(t_env, settings)

    issued = (
        shard_texts(t_env, "shard_texts")
        .process(ForecastShard(*verified, shard_settings(settings)), output_type=Types.STRING())
        .uid("forecast-shard")
        .name("forecast shard")
        # A thread of its own: the next windows are scored while the database writes.
        .disable_chaining()
    )
    watched = (
        issued.get_side_output(REPORTS)
        .key_by(lambda report: 0, key_type=Types.INT())
        .process(ModelWatch(policy(settings)), output_type=Types.STRING())
        .uid("model-watch")
        .name("model watch")
    )
    for name, column, stream in (("issued", "messages", issued), ("model_events", "events", watched)):
        schema = Schema.new_builder().column_by_expression(column, "f0").build()
        t_env.create_temporary_view(name, t_env.from_data_stream(stream, schema))
    t_env.create_temporary_function("write_forecasts", write_forecasts(settings.database_url))
    t_env.create_temporary_function("write_model_events", write_model_events(settings.database_url))
    job_of(t_env, "forecast").attach_as_datastream()


def shard_settings(settings: JobSettings) -> ShardSettings:
    """What the shards are told."""
    return ShardSettings(
        settings.kafka,
        topic(settings, "meters"),
        topic(settings, "models"),
        settings.model_name,
        keys.trusted(settings.model_keys),
        topic(settings, "weather"),
        "" if settings.model else shipped_reference(),
    )


def policy(settings: JobSettings) -> Policy:
    """When a new champion is taken back."""
    return Policy(settings.model_name, settings.rollback_margin, settings.rollback_windows)


def submit(settings: JobSettings) -> Any:
    """Submits the job."""
    verified = model(settings)
    stream, t_env = table_environment(settings, settings.name(NAME), BATCHES)
    build(t_env, settings, verified)
    return stream.execute_async(settings.name(NAME))


def main(argv: Sequence[str] | None = None) -> int:
    """The job's command line."""
    return launch.main(NAME, argv, __doc__, submit)


if __name__ == "__main__":
    sys.exit(main())
