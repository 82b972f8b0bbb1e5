"""Hostile records through both jobs: each accounted for exactly once, as plain Python reads the contract; no job falls.

`pytest tests/integration/test_fuzz.py --fuzz-records 10000 --fuzz-seed 2` for more, and for others.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from infra.embedded import topics
from infra.embedded.stack import Stack
from jobs.commands.submit import wait
from jobs.flink_rest import FlinkRest
from jobs.replay.fleet_faults import REJECT_CODES
from jobs.settings import Settings, addresses
from jobs.submission import submit
from tests.hostile import Record, records
from tests.oracle import Reading, classify
from tests.pipeline import Deployment

pytestmark = pytest.mark.timeout(3_600)  # of many records the first test waits for all

PREFIX = "fuzz-"
PARTITIONS = 3
Place = tuple[int, int]
"""Partition and offset."""


@dataclass(frozen=True)
class Run:
    """What was sent, by where it stands, and what became of it by the oracle."""

    deployment: Deployment
    sent: dict[Place, Record]
    wanted: dict[Place, Reading | str]
    jobs: dict[str, str]

    def of(self, place: Place) -> str:
        """A record, for a failing test to tell."""
        record = self.sent[place]
        return f"{record.how}: {(record.value or b'')[:300]!r}, oracle {self.wanted[place]}"

    def readings(self) -> dict[tuple[str, str, int], Reading]:
        """The row of each key: the greatest, whatever the order."""
        rows: dict[tuple[str, str, int], Reading] = {}
        for reading in self.wanted.values():
            if isinstance(reading, Reading) and (reading.key not in rows or reading.rank > rows[reading.key].rank):
                rows[reading.key] = reading
        return rows

    def rejected(self) -> dict[Place, str]:
        """The codes."""
        return {place: code for place, code in self.wanted.items() if isinstance(code, str)}


@pytest.fixture(scope="module")
def run(stack: Stack, pytestconfig: pytest.Config) -> Run:
    """The records are on the topic, and both jobs have read all of it."""
    seed, count = pytestconfig.getoption("--fuzz-seed"), pytestconfig.getoption("--fuzz-records")
    deployment = _deployment(stack)
    sent, arrived = _produce(deployment, records(seed, count, PREFIX))
    assert len(sent) == count
    wanted = {place: classify(record.value, arrived[place]) for place, record in sent.items()}
    ids = submit(
        deployment.settings, deployment.where, ("ingest", "forecast"), ["--until-complete", *deployment.options]
    )
    wait(FlinkRest(deployment.where.flink_url), ids)
    return Run(deployment, sent, wanted, ids)


def _deployment(stack: Stack) -> Deployment:
    """Topics of our own, with the settings of the real ones: what the broker takes must fit into the dead letter."""
    settings = Settings.load({"ENERGYAI_HOME": str(stack.options.home)}, stack.options.data_dir)
    deployment = Deployment(settings, addresses(settings), PREFIX)
    admin = KafkaAdminClient(bootstrap_servers=deployment.where.kafka)
    wanted = [NewTopic(PREFIX + topic.name, PARTITIONS, 1, topic_configs=dict(topic.config)) for topic in topics.TOPICS]
    admin.create_topics(wanted)
    admin.close()
    return deployment


def _produce(deployment: Deployment, hostile: Iterable[Record]) -> tuple[dict[Place, Record], dict[Place, int]]:
    """Sends the records; each by its place, and when the broker got it."""
    producer = KafkaProducer(
        bootstrap_servers=deployment.where.kafka, acks="all", linger_ms=20, max_request_size=2_000_000
    )
    waiting = [
        (record, producer.send(PREFIX + "meter.readings", record.value, record.key, headers=list(record.headers)))
        for record in hostile
    ]
    sent, arrived = {}, {}
    for record, future in waiting:
        told = future.get(60)
        sent[told.partition, told.offset] = record
        arrived[told.partition, told.offset] = told.timestamp
    producer.close()
    return sent, arrived


def test_no_job_was_started_again(run: Run) -> None:
    flink = FlinkRest(run.deployment.where.flink_url)
    for name, job in run.jobs.items():
        assert flink.state(job) == "FINISHED", name
        failures = flink.call(f"/jobs/{job}/exceptions").get("exceptionHistory", {}).get("entries", [])
        assert not failures, (name, flink.cause(job))


def test_each_record_is_a_reading_or_rejected_with_the_oracles_code(run: Run) -> None:
    found = {
        (partition, offset): reason
        for partition, offset, reason in run.deployment.rows(
            'SELECT partition, "offset", reason FROM rejected_reading WHERE topic = %s', (PREFIX + "meter.readings",)
        )
    }
    wanted = run.rejected()
    odd = {place for place in found.keys() | wanted.keys() if found.get(place) != wanted.get(place)}
    assert not odd, [f"{found.get(place)} for {run.of(place)}" for place in sorted(odd)[:10]]
    assert {*wanted.values()} == {*REJECT_CODES}


def test_each_reading_is_the_row_that_the_oracle_says(run: Run) -> None:
    wanted = run.readings()
    found = {}
    for meter, register, ts_ms, kind, value, interval_s, revision, quality, tenant in run.deployment.rows(
        "SELECT meter_id, register, (extract(epoch FROM ts) * 1000)::bigint, kind::text, value, interval_s, revision,"
        " quality::text, tenant_id FROM reading WHERE meter_id = ANY(%s)",
        (sorted({meter for meter, *_ in wanted}),),
    ):
        row = Reading(meter, register, ts_ms, kind, value, interval_s, revision, quality, tenant)
        found[row.key] = row
    assert found.keys() == wanted.keys()
    # A tenant is no part of the key: of equal readings for two tenants, either may be the one that is kept.
    odd = [(found[key], row) for key, row in wanted.items() if replace(found[key], tenant_id=row.tenant_id) != row]
    assert not odd, odd[:10]


def test_each_rejected_record_is_once_on_the_dead_letter_as_it_came(run: Run) -> None:
    letters = run.deployment.consume("meter.readings.rejected")
    places = Counter((letter["partition"], letter["offset"]) for letter in letters)
    assert places == dict.fromkeys(run.rejected(), 1)
    for letter in letters:
        place = (letter["partition"], letter["offset"])
        content = run.sent[place].value or b""
        assert letter["reason"] == run.wanted[place]
        assert letter["topic"] == PREFIX + "meter.readings"
        assert content in (letter["raw"].encode(), _decoded(letter["raw"])), run.of(place)


def test_what_follows_from_them_is_finite(run: Run) -> None:
    meters = sorted({meter for meter, *_ in run.readings()})
    slots = run.deployment.rows("SELECT kwh, covered_s FROM energy_slot WHERE meter_id = ANY(%s)", (meters,))
    assert slots
    assert all(math.isfinite(kwh) and 0 <= covered <= 900 for kwh, covered in slots)
    issues = run.deployment.rows("SELECT kwh FROM forecast_issue WHERE meter_id = ANY(%s)", (meters,))
    assert all(math.isfinite(value) for (kwh,) in issues for value in kwh)


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None
