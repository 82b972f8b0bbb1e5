"""Replays into a real broker: every reading once, a meter in one partition and in order, and Ctrl-C."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from infra.embedded import kafka as embedded_kafka
from infra.embedded import ports, processes, topics
from infra.embedded.options import PROJECT_ROOT, StackOptions
from jobs.replay import Progress, ReplayError, fleet, send
from jobs.replay.batch import Batch, batch, concat
from jobs.replay.messages import encode

pytestmark = pytest.mark.integration
TOPIC = "meter.readings"


class Broker:
    """A broker alone, that can be killed and started again on its data and port."""

    def __init__(self, folder: Path) -> None:
        self.options = StackOptions(folder)
        for sub in (self.options.logs, folder / "tmp"):
            sub.mkdir(parents=True)
        first = ports.choose()
        chosen = {"kafka": first, "kafka-controller": ports.choose(taken=[first])}
        self.part = embedded_kafka.part(self.options, chosen)
        self.bootstrap = f"127.0.0.1:{first}"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        log = self.options.logs / "kafka.out"
        self.process = processes.start(self.part.command(), self.options.data_dir, "kafka", log)
        end = time.monotonic() + 90
        while not self.part.healthy() and time.monotonic() < end and self.process.poll() is None:
            time.sleep(0.1)
        assert self.part.healthy(), log.read_text()[-2000:]

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.wait(30)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """The broker, with the contract's topics."""
    made = Broker(tmp_path_factory.mktemp("broker"))
    made.start()
    try:
        topics.create(made.bootstrap, partitions=4)
        yield made
    finally:
        made.process.terminate()
        made.process.wait(30)


@pytest.fixture
def broker(machine: Broker) -> str:
    """Bootstrap servers."""
    return machine.bootstrap


class Tail:
    """Reads what came on the topic since it was made."""

    def __init__(self, bootstrap: str) -> None:
        from kafka import KafkaConsumer, TopicPartition

        self.consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
        partitions = [TopicPartition(TOPIC, p) for p in sorted(self.consumer.partitions_for_topic(TOPIC))]
        self.begin = self.consumer.end_offsets(partitions)

    def records(self) -> list[Any]:
        """All that came, partition by partition."""
        end = self.consumer.end_offsets(list(self.begin))
        self.consumer.assign(list(self.begin))
        for partition, offset in self.begin.items():
            self.consumer.seek(partition, offset)
        found: list[Any] = []
        wanted = sum(end[p] - self.begin[p] for p in end)
        deadline = time.monotonic() + 60
        while len(found) < wanted and time.monotonic() < deadline:
            for records in self.consumer.poll(timeout_ms=500).values():
                found += records
        assert len(found) == wanted
        return sorted(found, key=lambda record: (record.partition, record.offset))


@pytest.fixture
def tail(broker: str) -> Iterator[Tail]:
    made = Tail(broker)
    yield made
    made.consumer.close()


def test_every_message_once_a_meter_in_one_partition_and_in_order(broker: str, tail: Tail) -> None:
    made = fleet.generate(fleet.FleetSpec(seed=1, meters=40, days=2, faults=fleet.Faults.all()))
    summary = send([made.readings], broker)
    records = tail.records()
    assert summary.readings == len(records) == len(made.readings)
    assert Counter(record.value for record in records) == Counter(encode(made.readings))
    partitions: dict[bytes, set[int]] = defaultdict(set)
    arrived: dict[bytes, list[bytes]] = defaultdict(list)
    for record in records:
        partitions[record.key].add(record.partition)
        arrived[record.key].append(record.value)
    assert all(len(found) == 1 for found in partitions.values())
    assert len({next(iter(found)) for found in partitions.values()}) == 4
    sent: dict[bytes, list[bytes]] = defaultdict(list)
    for meter, message in zip(made.readings.meter_id.tolist(), encode(made.readings), strict=True):
        sent[meter.encode()].append(message)
    assert arrived == sent


def test_partitions_are_those_of_the_java_client(broker: str, tail: Tail) -> None:
    """murmur2 of the key: the readings that another producer sends of a meter join the same partition."""
    from kafka.partitioner.default import murmur2

    names = np.array([f"meter-{i}" for i in range(50)], dtype=object)
    send([batch(names, np.arange(50), np.ones(50))], broker)
    for record in tail.records():
        assert record.partition == (murmur2(record.key) & 0x7FFFFFFF) % 4


def test_the_command_sends_a_file_and_its_sums(broker: str, tail: Tail, tmp_path: Path) -> None:
    stamps = pd.date_range("2024-01-01", periods=200, freq="h", tz="UTC")
    values = np.random.default_rng(1).random((200, 5))
    frame = pd.DataFrame(values, index=stamps, columns=list("abcde")).mask(values < 0.1)
    frame.to_parquet(tmp_path / "x.parquet")
    done = command(broker, tmp_path / "x.parquet", "--json")
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    said = json.loads(out.splitlines()[-1])
    assert said["readings"] == frame.notna().to_numpy().sum()
    assert (said["meters"], said["first_ts"], said["last_ts"]) == (5, "2024-01-01T01:00:00Z", "2024-01-09T08:00:00Z")
    sums: dict[str, float] = defaultdict(float)
    for record in tail.records():
        reading = json.loads(record.value)
        sums[reading["meter_id"]] += reading["value"]
    for meter, total in frame.sum().items():
        assert sums[str(meter)] == pytest.approx(total, rel=1e-12)


def test_ctrl_c_flushes_and_says_how_many(broker: str, tail: Tail, tmp_path: Path) -> None:
    stamps = pd.date_range("2024-01-01", periods=5000, freq="h", tz="UTC")
    pd.DataFrame({"a": 1.0}, index=stamps).to_csv(tmp_path / "x.csv")
    running = command(broker, tmp_path / "x.csv", "--speed", "36000")
    deadline = time.monotonic() + 60
    fresh = Tail(broker)
    while fresh.consumer.end_offsets(list(fresh.begin)) == tail.begin and time.monotonic() < deadline:
        time.sleep(0.1)
    fresh.consumer.close()
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert out.startswith("interrupted; sent ")
    assert int(out.split()[2].replace(",", "")) == len(tail.records()) > 0


def test_a_topic_that_is_not_there(broker: str) -> None:
    with pytest.raises(ReplayError, match=r"no topic no\.such\.topic"):
        send([batch("m", np.array([1]), np.ones(1))], broker, "no.such.topic")


def test_a_broker_that_stops_is_told(broker: str) -> None:
    """A record over the topic's limit stands in for any refusal: the replay says so and does not count it as sent."""
    huge: Batch = concat([batch("m", np.array([1]), np.ones(1), raw=np.array([b"x" * 2_000_000], dtype=object))])
    with pytest.raises(ReplayError, match="not taken"):
        send([huge], broker)


def command(broker: str, source: Path, *words: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "jobs.cli", "replay", str(source), "--kafka", broker, *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(argv, cwd=PROJECT_ROOT, text=True, env=dict(os.environ), **pipes)  # type: ignore[call-overload, no-any-return]


def test_the_same_fleet_is_the_same_topic(broker: str) -> None:
    spec = fleet.FleetSpec(seed=9, meters=8, days=1, faults=fleet.Faults.all())
    seen = set()
    for _ in range(2):
        tail = Tail(broker)
        send(fleet.source(spec).batches(), broker)
        content = b"\n".join(bytes([record.partition]) + record.value for record in tail.records())
        tail.consumer.close()
        seen.add(hashlib.sha256(content).hexdigest())
    assert len(seen) == 1


def test_a_broker_killed_in_mid_replay_loses_and_repeats_nothing(machine: Broker, tail: Tail) -> None:
    made = fleet.generate(fleet.FleetSpec(seed=2, meters=40, days=3))
    restarts: list[threading.Thread] = []

    def on_progress(progress: Progress) -> None:
        if not restarts and progress.readings > len(made.readings) / 3:
            machine.kill()
            restarts.append(threading.Thread(target=machine.start))
            restarts[0].start()

    summary = send([made.readings], machine.bootstrap, on_progress=on_progress)
    assert restarts
    restarts[0].join(120)
    assert summary.readings == len(made.readings)
    arrived: dict[bytes, list[bytes]] = defaultdict(list)
    for record in tail.records():
        arrived[record.key].append(record.value)
    sent: dict[bytes, list[bytes]] = defaultdict(list)
    for meter, message in zip(made.readings.meter_id.tolist(), encode(made.readings), strict=True):
        sent[meter.encode()].append(message)
    assert arrived == sent
