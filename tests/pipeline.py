"""The main job under test: readings of known truth, topics of a test's own, and what plain Python makes of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import psycopg2
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from infra.embedded.stack import Stack
from jobs.replay import fleet
from jobs.replay.batch import Batch
from jobs.replay.fleet_faults import Faults
from jobs.settings import Addresses, Settings, addresses
from operators.energy import SeriesConfig, derive
from operators.features import CONTEXT_HOURS
from operators.forecaster import Forecaster
from operators.kafka_limits import ANSWER_MAX_BYTES
from operators.packing import Pieces
from operators.readings import Kind, Quality
from operators.serving.artifacts import Models
from operators.serving.server import Server
from operators.shard import Shard

SLOT_MS = 900_000
UNIT_KWH = {"Wh": 1e-3, "kWh": 1.0, "MWh": 1e3, "W": 1e-3, "kW": 1.0, "MW": 1e3}
Key = tuple[str, int]


@dataclass(frozen=True)
class Deployment:
    """The jobs' surroundings for one test: the shared stack, and topics with a prefix of the test's own."""

    settings: Settings
    where: Addresses
    prefix: str

    @classmethod
    def on(cls, stack: Stack, prefix: str, partitions: int = 4) -> Deployment:
        """Makes the topics."""
        settings = Settings.load({"ENERGYAI_HOME": str(stack.options.home)}, stack.options.data_dir)
        where = addresses(settings)
        admin = KafkaAdminClient(bootstrap_servers=where.kafka)
        config = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "1100000"}
        admin.create_topics(
            [
                NewTopic(prefix + "meter.readings", partitions, 1, topic_configs=config),
                NewTopic(prefix + "meter.readings.rejected", 1, 1, topic_configs={"max.message.bytes": "8388608"}),
                NewTopic(prefix + "forecasts", partitions, 1),
                NewTopic(prefix + "models", 1, 1, topic_configs={"cleanup.policy": "compact"}),
            ]
        )
        admin.close()
        return cls(settings, where, prefix)

    @property
    def options(self) -> list[str]:
        """Options of every job."""
        return ["--topic-prefix", self.prefix]

    def rows(self, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        """A query's rows."""
        connection = psycopg2.connect(self.where.database_url)
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def produce(self, records: Iterable[tuple[bytes, bytes]]) -> int:
        """Puts (key, value) records on the topic of readings; how many."""
        producer = KafkaProducer(
            bootstrap_servers=self.where.kafka, acks="all", linger_ms=20, max_request_size=1_000_000
        )
        n = 0
        for key, value in records:
            producer.send(self.prefix + "meter.readings", key=key, value=value)
            n += 1
        producer.flush()
        producer.close()
        return n

    def consume(self, name: str) -> list[dict[str, Any]]:
        """All committed messages of a topic."""
        consumer = KafkaConsumer(
            self.prefix + name,
            bootstrap_servers=self.where.kafka,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            isolation_level="read_committed",
            consumer_timeout_ms=5000,
            max_partition_fetch_bytes=8 << 20,
            receive_message_max_bytes=ANSWER_MAX_BYTES,
        )
        try:
            return [orjson.loads(message.value) for message in consumer]
        finally:
            consumer.close()

    def issues(self, prefix: str) -> dict[Key, np.ndarray[Any, Any]]:
        """Stored forecasts by (meter, issued at ms): float32 values."""
        found = self.rows(
            "SELECT meter_id, (extract(epoch FROM issued_at) * 1000)::bigint, kwh FROM forecast_issue"
            " WHERE starts_with(meter_id, %s)",
            (prefix,),
        )
        return {(meter, int(at)): np.array(kwh, np.float32) for meter, at, kwh in found}

    def readings(self, prefix: str) -> dict[Any, Any]:
        """Stored readings as `reading_truth` gives them."""
        found = self.rows(
            "SELECT meter_id, register, (extract(epoch FROM ts) * 1000)::bigint, kind::text, value, revision,"
            " quality::text FROM reading WHERE starts_with(meter_id, %s)",
            (prefix,),
        )
        return {
            (meter, register, int(ts)): (kind, round(value, 9), revision, quality)
            for meter, register, ts, kind, value, revision, quality in found
        }

    def energy(self, prefix: str) -> dict[Key, float]:
        """Rows of `energy_15m` by (meter, start in ms): kWh to nine places."""
        found = self.rows(
            "SELECT meter_id, (extract(epoch FROM bucket) * 1000)::bigint, kwh FROM energy_15m"
            " WHERE starts_with(meter_id, %s)",
            (prefix,),
        )
        return {(meter, int(bucket)): round(kwh, 9) for meter, bucket, kwh in found}


def meters(prefix: str, n: int, days: int, seed: int = 3, faults: Faults | None = None) -> fleet.Fleet:
    """A small fleet of all cadences, in delivery order."""
    kinds = ("interval:3600", "interval:900", "register:900", "register:3600")
    spec = fleet.FleetSpec(seed, n, 1_704_067_200_000, days, kinds, faults or Faults())
    return fleet.generate(spec.__class__(**{**spec.__dict__, "prefix": prefix}))


def plain_python(
    batch: Batch,
    until_ms: int,
    watermark_delay_s: int = 60,
    server: Server | None = None,
    before: Container[Key] = (),
) -> dict[Key, np.ndarray[Any, Any]]:
    """What the forecast job must issue for readings that come in order: the pure functions, without Flink.

    Args:
        batch: readings in the order of event time.
        until_ms: windows that end later are still open.
        watermark_delay_s: of the job.
        server: models, and what was announced of them; None: the shipped one alone.
        before: forecasts that an earlier version of the job had issued, which learnt nothing from them; left out.
    """
    shard, server = Shard(), server or Server(Models(Forecaster.load()))
    windows: dict[int, list[int]] = defaultdict(list)
    for row, ts in enumerate(batch.ts_ms.tolist()):
        windows[((ts - 1) // SLOT_MS + 1) * SLOT_MS].append(row)
    issued = {}
    for end in sorted(windows):
        if end - 1 > until_ms - 1 - watermark_delay_s * 1000:
            break
        shard.apply(_pieces(batch.take(np.array(windows[end]))))
        for _ in server.learn(shard, end):
            pass
        for due in shard.due(end):
            new = np.array([(meter, due.issued_at_ms) not in before for meter in due.meter_id])
            if new.any():
                part = due.take(np.flatnonzero(new))
                kwh = server.issue(part)[0].kwh
                issued |= {(meter, due.issued_at_ms): kwh[i].ravel() for i, meter in enumerate(part.meter_id)}
    return issued


def reading_truth(b: Batch) -> dict[Any, Any]:
    """What table `reading` must hold of readings that come once each: (meter, register, ts) → its other columns."""
    return {
        (str(meter), str(register) or "1-0:1.8.0", int(ts)): (
            Kind(kind).name.lower(),
            round(float(value) * UNIT_KWH[unit], 9),
            int(revision),
            Quality(quality).name.lower(),
        )
        for meter, register, ts, kind, value, unit, revision, quality in zip(
            b.meter_id, b.register, b.ts_ms, b.kind, b.value, b.unit, b.revision, b.quality, strict=True
        )
    }


def energy_truth(b: Batch) -> dict[Key, float]:
    """What `energy_15m` must hold of them: `derive` over each whole series, by (meter, start in ms), to nine places."""
    pieces = _pieces(b)
    config = SeriesConfig.of_kinds(np.array([kind for *_, kind in pieces.series], np.int8))
    slots = derive(pieces.owner, pieces.ts_ms, pieces.value, pieces.interval_ms, pieces.quality, config=config).slots
    energy: dict[Key, float] = {}
    for i, slot, kwh in zip(slots.series.tolist(), slots.slot_ms.tolist(), slots.kwh.tolist(), strict=True):
        meter, register, *_ = pieces.series[i]
        sign = -1 if register.startswith("1-0:2.") else 1
        energy[meter, slot] = energy.get((meter, slot), 0.0) + sign * kwh
    return {key: round(kwh, 9) for key, kwh in energy.items()}


def _pieces(b: Batch) -> Pieces:
    series = [
        (str(m), str(r) or "1-0:1.8.0", str(t) or "default", int(k))
        for m, r, t, k in zip(b.meter_id, b.register, b.tenant_id, b.kind, strict=True)
    ]
    names = list(dict.fromkeys(series))
    number = {name: i for i, name in enumerate(names)}
    return Pieces(
        names,
        np.array([number[name] for name in series], np.int64),
        b.ts_ms,
        b.value * np.array([UNIT_KWH[unit] for unit in b.unit]),
        np.where(b.kind == 1, b.interval_s * 1000, 0),
        b.revision,
        b.quality,
    )


def apart(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    """Largest difference of two forecasts as a share of the largest value: the model's float32 sums differ by the
    number of meters that it is given at once, which a restart at another parallelism changes.
    """
    return float(np.abs(found - expected).max() / max(1e-9, float(np.abs(expected).max())))


def steps_with_context(first_ms: int, last_ms: int, step_ms: int) -> int:
    """How many steps close with 168 hours of energy before their end, when nothing is missing."""
    begin = -(-(first_ms + CONTEXT_HOURS * 3_600_000) // step_ms)
    return max(0, last_ms // step_ms - begin + 1)
