"""Settings of one job run: options of its command line, whose defaults come from the environment (ENERGYAI_…)."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from jobs.errors import UserError

OFFSETS = re.compile(r"\d+:\d+(,\d+:\d+)*")


@dataclass(frozen=True)
class JobSettings:
    """What a job is told. Frozen, so that it travels to the workers as it is."""

    kafka: str
    """Bootstrap servers."""
    database_url: str
    """libpq URL of the TimescaleDB."""
    until_complete: bool = False
    """Read to the topics' present end, close every window, finish."""
    parallelism: int = 1
    shards: int = 4
    """Buckets of meters; fixed for the life of a job's state. Some hundred meters a shard is best."""
    watermark_delay_s: int = 60
    """How far out of order readings may be and still be on time."""
    idle_timeout_s: int = 60
    """A partition without readings for this long holds no watermark back."""
    future_tolerance_s: int = 3600
    """A reading later than its arrival by more than this is rejected as ts_in_future."""
    max_record_bytes: int = 65_536
    """A longer record is rejected as too_large (counted in characters)."""
    model: str = ""
    """Path of the ONNX model; empty means the shipped one."""
    model_sha256: str = ""
    """Its checksum; empty means the shipped model's card, or any for a model of your own."""
    model_name: str = "forecaster"
    """Whose announcements on the topic `models` the job follows."""
    model_keys: str = ""
    """Public keys, hexadecimal, separated by commas: who may sign a model; empty: this installation's own."""
    rollback_windows: int = 50
    """Meter-days that a new champion and the one before are compared on, before it is taken back."""
    rollback_margin: float = 0.1
    """By how much its quantile loss may be above the other's."""
    topic_prefix: str = ""
    """Put before each topic's name, so that several deployments can share a broker."""
    output_prefix: str = ""
    """A run beside production: put before the topics that it writes, not those that it reads, and before its name."""
    until_offsets: str = ""
    """Where a run to the end stops reading: `PARTITION:OFFSET,…`, every partition named; empty: at the present end."""
    flink_url: str = ""
    """REST address of the cluster to submit to; empty under `flink run` and the Web UI, which say it themselves."""
    savepoint: str = ""
    """Savepoint or retained checkpoint to start from."""

    @classmethod
    def parse(cls, argv: Sequence[str] | None, description: str) -> Self:
        """Reads the options.

        Raises:
            UserError: no Kafka or database is named, by option or environment.
        """
        parser = argparse.ArgumentParser(description=description)
        parser.add_argument("--kafka", default=os.environ.get("ENERGYAI_KAFKA", ""), help="bootstrap servers")
        parser.add_argument("--database-url", default=os.environ.get("ENERGYAI_DATABASE_URL", ""), help="libpq URL")
        parser.add_argument("--until-complete", action="store_true", help="read to the topics' present end and finish")
        for name, kind, text in (
            ("parallelism", int, "subtasks of each operator"),
            ("shards", int, "buckets of meters; keep it when you restart from a savepoint"),
            ("watermark-delay-s", int, "seconds that readings may be out of order and still be on time"),
            ("idle-timeout-s", int, "seconds after which a silent partition holds no watermark back"),
            ("future-tolerance-s", int, "seconds that a reading may be ahead of its arrival"),
            ("max-record-bytes", int, "a longer record is rejected"),
            ("model", str, "ONNX model (default: the shipped one)"),
            ("model-sha256", str, "the model's checksum"),
            ("model-name", str, "whose announcements on the topic models are followed"),
            ("model-keys", str, "public keys of who may sign a model (default: this installation's)"),
            ("rollback-windows", int, "meter-days that a new champion is compared on before it is taken back"),
            ("rollback-margin", float, "share by which its quantile loss may be above the former champion's"),
            ("topic-prefix", str, "put before each topic's name"),
            ("output-prefix", str, "a run beside production: put before the topics that it writes and its name"),
            ("until-offsets", str, "with --until-complete: stop at PARTITION:OFFSET,… instead of the present end"),
            ("savepoint", str, "savepoint or retained checkpoint to start from"),
        ):
            field = name.replace("-", "_")
            default = kind(os.environ.get(f"ENERGYAI_{field.upper()}", getattr(cls, field)))
            parser.add_argument(f"--{name}", type=kind, default=default, help=f"{text} (default: {default!r})")
        parser.add_argument("--flink-url", default="", help="cluster to submit to; not needed under `flink run`")
        settings = cls(**vars(parser.parse_args(argv)))
        for field, option in (("kafka", "--kafka"), ("database_url", "--database-url")):
            if not getattr(settings, field):
                raise UserError(
                    f"no {field}: give {option}, or set ENERGYAI_{field.upper()} (`energyai status` shows it)", 2
                )
        if settings.until_offsets and not OFFSETS.fullmatch(settings.until_offsets):
            raise UserError(f"--until-offsets {settings.until_offsets}: expected PARTITION:OFFSET,…, as 0:42,1:40", 2)
        return settings

    def name(self, job: str) -> str:
        """A job's name in this run, which is its consumer group too."""
        return self.output_prefix + job

    def output_topic(self, name: str) -> str:
        """A topic of the contract that is written, as it is called in this deployment and run."""
        return self.output_prefix + self.topic_prefix + name
