"""Runs of workload R: the real forecast job, and the plain loop, from a week of history on."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from infra.database import connected
from jobs import submission
from jobs.settings import Addresses, Settings
from tests.bench.realistic import PARTITIONS, Size
from tests.bench.sample import EngineError, Sample
from tests.bench.surroundings import Cluster, Surroundings, alone, cluster
from tests.bench.watch import Watch

PREFIX = "bench-r."
SOURCE = PREFIX + "meter.readings"
METERS_A_SHARD = 200
PARALLELISM = 2
QUIET_S = 3.0
POLL_S = 0.5
ENGINES = {"energyai": "EnergyAI, the forecast job", "loop": "plain loop, 1 process, no recovery"}


@dataclass(frozen=True)
class Prepared:
    """The readings on Kafka, and the job's state after the week."""

    size: Size
    savepoint: str
    """Empty: no run of the job was asked for."""

    @property
    def arguments(self) -> list[str]:
        return [str(self.size.meters), str(self.size.quarters)]


@contextmanager
def prepared(around: Surroundings, size: Size, job: bool, say: Callable[[str], None]) -> Iterator[Prepared]:
    """Puts the week on Kafka, lets the job read it up to a savepoint, and puts the measured readings behind it."""
    env = {"BENCH_KAFKA": around.kafka, "BENCH_SOURCE": SOURCE}
    names = [SOURCE, PREFIX + "models", PREFIX + "meters"]
    sizes = [str(size.meters), str(size.quarters)]
    for name, partitions in zip(names, (PARTITIONS, 1, 1), strict=True):
        around.topic(name, partitions)
    try:
        say(f"R: putting the week before, {size.loaded:,} readings, on Kafka …")
        around.python("tests.bench.feed_r", "week", *sizes, env=env)
        savepoint = ""
        if job:
            say("R: the job reads the week, up to a savepoint …")
            savepoint = _load(around, size)
        say(f"R: putting {size.readings:,} readings on Kafka …")
        around.python("tests.bench.feed_r", "measured", *sizes, env=env)
        yield Prepared(size, savepoint)
    finally:
        shutil.rmtree(around.folder / "r-savepoint", ignore_errors=True)
        for name in names:
            around.drop(name)


def run(around: Surroundings, engine: str, what: Prepared, repeat: int) -> Sample:
    """One run of one engine.

    Raises:
        EngineError: it did not get to its end.
    """
    output = f"{engine}-{repeat}-"
    with _outputs(around, output) as sink:
        env = {"BENCH_KAFKA": around.kafka, "BENCH_SOURCE": SOURCE, "BENCH_SINK": sink}
        begun, ready, watch = (_job if engine == "energyai" else _loop)(around, what, output, env)
        check: dict[str, Any] = json.loads(around.python("tests.bench.check_r", *what.arguments, env=env))
        check["stored"] = _stored(around)
    check["complete"] = check["complete"] and check["stored"] == what.size.forecasts
    last = check["last_ms"] / 1000
    return Sample(
        engine=engine,
        count=what.size.readings,
        seconds=last - ready,
        startup_s=ready - begun,
        cpu_s=watch.cpu_s(ready, last),
        startup_cpu_s=watch.cpu_s(None, ready),
        peak_mb=watch.peak_bytes / 1e6,
        readings=what.size.readings,
        check=check,
    )


@contextmanager
def _outputs(around: Surroundings, output: str) -> Iterator[str]:
    """The topics that a run writes, and no stored forecast; the topic of forecasts."""
    names = [output + PREFIX + name for name in ("forecasts", "meter.readings.rejected", "models")]
    for name in names:
        around.topic(name, PARTITIONS)
    with connected(around.owner_url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE forecast_issue")
    try:
        yield names[0]
    finally:
        for name in names:
            around.drop(name)


def _stored(around: Surroundings) -> int:
    with connected(around.owner_url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM forecast_issue")
        return int((cursor.fetchone() or (0,))[0])


def _submit(around: Surroundings, flink: Cluster, size: Size, output: str, *options: str) -> str:
    """Submits the forecast job as `energyai submit` does; its id."""
    settings = Settings.load({"ENERGYAI_HOME": str(around.home)}, flink.stack.options.data_dir)
    where = Addresses(around.kafka, around.database_url, flink.rest.url)
    shards = max(PARALLELISM, -(-size.meters // METERS_A_SHARD))
    arguments = ["--topic-prefix", PREFIX, "--output-prefix", output, "--shards", str(shards)]
    arguments += ["--parallelism", str(PARALLELISM), *options]
    return submission.submit(settings, where, ["forecast"], arguments)["forecast"]


def _load(around: Surroundings, size: Size) -> str:
    """The job's state after the week, in a savepoint; its folder."""
    output = "load-"
    kept = around.folder / "r-savepoint"
    shutil.rmtree(kept, ignore_errors=True)
    with _outputs(around, output), cluster(around) as flink:
        job_id = _submit(around, flink, size, output)
        _wait(around, flink, job_id, lambda: _committed(around, output) >= size.loaded, "the week is not read")
        made = flink.rest.savepoint(job_id, stop=True, within_s=around.deadline_s)
        shutil.copytree(urlsplit(made).path, kept)
    return kept.as_uri()


def _committed(around: Surroundings, output: str) -> int:
    """How far the job has read, as it says with each checkpoint."""
    from kafka.admin import KafkaAdminClient
    from kafka.errors import CoordinatorNotAvailableError

    admin = KafkaAdminClient(bootstrap_servers=around.kafka)
    try:
        offsets = admin.list_consumer_group_offsets(output + "energyai-forecast")
    except CoordinatorNotAvailableError:  # a broker whose first group this is
        return 0
    else:
        return sum(found.offset for topic, found in offsets.items() if topic.topic == SOURCE and found.offset > 0)
    finally:
        admin.close()


def _job(around: Surroundings, what: Prepared, output: str, env: dict[str, str]) -> tuple[float, float, Watch]:
    sink = env["BENCH_SINK"]
    with cluster(around) as flink, Watch(flink.pid) as watch:
        begun = time.time()
        job_id = _submit(around, flink, what.size, output, "--savepoint", what.savepoint)
        _wait(around, flink, job_id, _All(around, sink, what.size.forecasts), "not all forecasts came")
        flink.rest.cancel(job_id)
        return begun, flink.ready(job_id), watch


def _wait(around: Surroundings, flink: Cluster, job_id: str, done: Callable[[], bool], late: str) -> None:
    deadline = time.monotonic() + around.deadline_s
    while not done():
        flink.fail_early(job_id)
        if time.monotonic() > deadline:
            raise EngineError(f"{late} after {around.deadline_s:.0f} s")
        time.sleep(POLL_S)


class _All:
    """Whether a topic has as many messages as expected, all of them committed, and is quiet."""

    def __init__(self, around: Surroundings, topic: str, expected: int) -> None:
        self._around, self._topic, self._expected = around, topic, expected
        self._seen, self._since = -1, 0.0

    def __call__(self) -> bool:
        written, readable = (self._ends(level) for level in ("read_uncommitted", "read_committed"))
        if written != self._seen:
            self._seen, self._since = written, time.monotonic()
        quiet = time.monotonic() - self._since > QUIET_S
        return written >= self._expected and readable == written and quiet

    def _ends(self, level: str) -> int:
        from kafka import KafkaConsumer, TopicPartition

        consumer = KafkaConsumer(bootstrap_servers=self._around.kafka, isolation_level=level)
        try:
            partitions = [TopicPartition(self._topic, partition) for partition in range(PARTITIONS)]
            return sum(consumer.end_offsets(partitions).values())
        finally:
            consumer.close()


def _loop(around: Surroundings, what: Prepared, output: str, env: dict[str, str]) -> tuple[float, float, Watch]:
    log: Path = around.logs / f"r-{output}.log"
    more = {**env, "BENCH_DATABASE_URL": around.database_url}
    return alone(around, "tests.bench.engines.loop_r", what.arguments, log, more)
