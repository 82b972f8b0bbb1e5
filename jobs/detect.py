"""Detect: meter.readings → quarter hours → shards → what no meter of this kind does → anomalies, topic and table.

flink run -py jobs/detect.py --kafka HOST:PORT --database-url postgresql://…
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from jobs import launch, preflight
from jobs.forecast import model, shard_settings
from jobs.job_settings import JobSettings
from jobs.launch import job_of, table_environment
from jobs.streams import shard_texts
from jobs.tables import create_readings, create_shards, create_sink, topic

NAME = "energyai-detect"

BATCHES = {
    # An anomaly should not wait for others to fill a batch or a buffer: there are few (docs/decisions/017).
    "python.fn-execution.bundle.time": "5",
    "execution.buffer-timeout.interval": "10 ms",
}


def build(t_env: Any, settings: JobSettings, verified: tuple[bytes, str]) -> None:
    """The job: readings → texts of a shard and quarter hour → anomalies → database → topic.

    Beside it the fast path: readings → texts of a shard and a moment → what a reading shows by itself → the same way.
    """
    from pyflink.common.typeinfo import Types
    from pyflink.table import Schema

    from operators import anomaly_rows
    from operators.detect_function import DetectShard
    from operators.raw_function import RawShard
    from operators.sinks import write_texts

    # A run to the end has no use for the clock, and Flink ends no windows of it: there, moments are quarter hours.
    raw = not settings.until_complete
    meters = topic(settings, "meters")
    create_readings(t_env, settings, group=settings.name(NAME), event_time=True)
    create_shards(t_env, settings, raw=raw)
    create_sink(t_env, settings, "anomalies", "anomalies", at_once=True)
    texts = shard_texts(t_env, "shard_texts")
    found = (
        texts.process(DetectShard(*verified, shard_settings(settings)), output_type=Types.STRING())
        .uid("detect-shard")
        .name("anomalies of a shard")
        .disable_chaining()
    )
    breaches = (
        (shard_texts(t_env, "raw_texts") if raw else texts)
        .process(RawShard(settings.kafka, meters), output_type=Types.STRING())
        .uid("raw-shard")
        .name("raw breaches of a shard")
        # A thread of its own: it does not wait while a quarter hour is judged.
        .disable_chaining()
    )
    schema = Schema.new_builder().column_by_expression("messages", "f0").build()
    t_env.create_temporary_view("found", t_env.from_data_stream(found.union(breaches), schema))
    t_env.create_temporary_function("write_anomalies", write_texts(settings.database_url, anomaly_rows.write))
    job_of(t_env, "anomalies").attach_as_datastream()


def submit(settings: JobSettings) -> Any:
    """Submits the job."""
    verified = model(settings)
    preflight.check_topics(settings, ("meter.readings",), ("anomalies",))
    stream, t_env = table_environment(settings, settings.name(NAME), BATCHES)
    build(t_env, settings, verified)
    return stream.execute_async(settings.name(NAME))


def main(argv: Sequence[str] | None = None) -> int:
    """The job's command line."""
    return launch.main(NAME, argv, __doc__, submit)


if __name__ == "__main__":
    sys.exit(main())
