"""What producers send in a schedule: readings in order, bursts of them again, and poison between."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from kafka import KafkaProducer

from jobs.replay import messages
from jobs.replay.batch import Batch, batch, concat
from jobs.replay.fleet_faults import REJECT_CODES, bad_record
from operators.readings import Kind
from tests.faults.schedule import Schedule
from tests.pipeline import meters

PARTITIONS = 4
METERS = 8
DAYS = 9
CONTEXT_MS = 7 * 86_400_000
"""What forecasts need before them: sent at once, in front of the paced part that the faults meet."""
LONGEST_BURST = 40
OUTAGE_MS = 180_000
GARBAGE_BYTES = 1_000_000


@dataclass(frozen=True)
class Record:
    """One message of `meter.readings`."""

    partition: int
    key: bytes
    value: bytes


@dataclass(frozen=True)
class Traffic:
    """What is sent, and what must come of it."""

    readings: Batch
    """Each reading once, in order: the truth."""
    context: list[Record]
    """Sent first, at once."""
    records: list[Record]
    """Sent at the pace of the replay."""
    closing: list[Record]
    """A last reading in each partition, an hour later, with which event time passes all the others."""
    rejected: list[tuple[str, bytes]]
    """Code and bytes of each record that is no reading."""


def traffic(schedule: Schedule, prefix: str, n: int = METERS, days: int = DAYS) -> Traffic:
    """The records of a schedule, of n meters; its seed decides the fleet, the bursts and the poison."""
    rng = np.random.default_rng([schedule.seed, 2])
    sent = meters(prefix, n, days, seed=schedule.seed).readings
    last = _closing(prefix, int(sent.ts_ms.max()) + 3_600_000)
    readings = concat([sent, last])
    ids = list(dict.fromkeys(readings.meter_id.tolist()))
    # By the number of the meter: hashes of a few names would leave a partition empty, and event time waiting for it.
    partition = {name: i % PARTITIONS for i, name in enumerate(ids)}
    clean = [
        Record(partition[str(name)], key, value)
        for name, key, value in zip(readings.meter_id, messages.keys(readings), messages.encode(readings), strict=True)
    ]
    begin = int(np.searchsorted(readings.ts_ms, int(readings.ts_ms[0]) + CONTEXT_MS))
    records: list[Record] = []
    rejected: list[tuple[str, bytes]] = []
    for i, record in enumerate(clean[begin : -len(last)], begin):
        records.append(record)
        if rng.random() < schedule.duplicates:
            records += clean[max(0, i + 1 - int(rng.integers(1, LONGEST_BURST))) : i + 1]
        if rng.random() < schedule.poison:
            code, value = _poison(prefix, int(readings.ts_ms[i]), len(rejected), rng)
            rejected.append((code, value))
            records.append(Record(int(rng.integers(PARTITIONS)), b"poison", value))
    return Traffic(readings, clean[:begin], records, clean[-len(last) :], rejected)


def _closing(prefix: str, ts_ms: int) -> Batch:
    """A reading of a meter in each partition."""
    names = np.array([f"{prefix}close-{i}" for i in range(PARTITIONS)], object)
    return batch(names, np.full(PARTITIONS, ts_ms), np.ones(PARTITIONS), kind=Kind.INSTANT, unit="kW")


def _poison(prefix: str, ts_ms: int, number: int, rng: np.random.Generator) -> tuple[str, bytes]:
    """The next kind of record that is no reading: its code and its bytes."""
    meter = f"{prefix}poison"
    more: list[tuple[str, Callable[[], bytes]]] = [
        ("too_large", lambda: rng.bytes(GARBAGE_BYTES)),
        ("too_large", lambda: b"\x01" * GARBAGE_BYTES),  # six bytes each in JSON
        ("not_json", lambda: b"\xff\xfe\x00 no UTF-8, and a NUL"),
        ("not_json", lambda: b""),
        ("not_json", lambda: b"[" * 20_000),
        ("not_finite", lambda: bad_record("bad_type", meter, ts_ms).replace(b'"one and a half"', b"NaN")),
        ("bad_type", lambda: bad_record("bad_type", meter, ts_ms).replace(b'"one and a half"', b'{"a":[1]}')),
    ]
    if number % 2 == 0 and number // 2 < len(more):
        code, make = more[number // 2]
        return code, make()
    code = REJECT_CODES[number % len(REJECT_CODES)]
    return code, bad_record(code, meter, ts_ms)


class Producer:
    """Sends records in order, and waits out a broker that is away."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._topic = topic
        self._failures: list[BaseException] = []
        self._producer: Any = KafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            enable_idempotence=True,
            max_in_flight_requests_per_connection=1,
            linger_ms=20,
            max_request_size=2_000_000,
            max_block_ms=OUTAGE_MS,
            delivery_timeout_ms=OUTAGE_MS,
        )

    def send(self, records: Sequence[Record]) -> None:
        """Returns when they are on their way."""
        for record in records:
            sending = self._producer.send(self._topic, record.value, record.key, partition=record.partition)
            sending.add_errback(self._failures.append)

    def flush(self) -> None:
        """Returns when the broker has all of them."""
        self._producer.flush(timeout=OUTAGE_MS / 1000)
        assert not self._failures, self._failures[0]

    def close(self) -> None:
        """Sends what is left, and gives the connection back."""
        self.flush()
        self._producer.close()


def slices(records: Sequence[Record], count: int) -> Iterator[Sequence[Record]]:
    """The records in about `count` parts."""
    size = max(1, -(-len(records) // count))
    for start in range(0, len(records), size):
        yield records[start : start + size]
