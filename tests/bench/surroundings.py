"""Where the engines run: one Kafka and database for all of them, and a new Flink cluster for each of Flink's runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from infra.embedded import processes, timescaledb
from infra.embedded.options import PROJECT_ROOT, StackOptions
from infra.embedded.stack import Stack
from jobs.flink_rest import ENDED, POLL_S, FlinkRest
from tests.bench.peers import Peers
from tests.bench.sample import EngineError
from tests.bench.watch import Watch

NO_FLINK = "http://127.0.0.1:9"
"""An address of nothing: the common stack starts no Flink."""


@dataclass(frozen=True)
class Surroundings:
    """What is up for as long as the benchmark runs."""

    folder: Path
    home: Path
    memory: str
    kafka: str
    database_url: str
    owner_url: str
    deadline_s: float
    """After so many seconds a run has failed."""

    @property
    def peers(self) -> Peers:
        return Peers.of(self.home)

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def python(self, module: str, *arguments: str, env: Mapping[str, str]) -> str:
        """What a module of the peers' environment prints.

        Raises:
            EngineError: it failed.
        """
        command = [str(self.peers.python), "-m", module, *arguments]
        done = subprocess.run(
            command, env=environment(env), cwd=PROJECT_ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise EngineError(f"{module} failed: " + " | ".join(done.stderr.strip().splitlines()[-3:]))
        return done.stdout

    def topic(self, name: str, partitions: int) -> None:
        """Makes a topic whose messages carry the time at which the broker appended them."""
        from kafka.admin import KafkaAdminClient, NewTopic

        admin = KafkaAdminClient(bootstrap_servers=self.kafka)
        try:
            config = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "2000000"}
            admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
        finally:
            admin.close()

    def drop(self, name: str) -> None:
        """Deletes a topic: results of one run are of no use to the next."""
        from kafka.admin import KafkaAdminClient

        admin = KafkaAdminClient(bootstrap_servers=self.kafka)
        try:
            admin.delete_topics([name])
        finally:
            admin.close()


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's environment and more, with the checkout on Python's path."""
    return {**os.environ, "PYTHONPATH": str(PROJECT_ROOT), "PYTHONUNBUFFERED": "1", **more}


def interrupt_on_termination() -> None:
    """Lets SIGTERM, as `timeout` sends it, end this process as Ctrl-C does: what was started is stopped."""

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


@contextmanager
def surroundings(folder: Path, home: Path, memory: str, deadline_s: float) -> Iterator[Surroundings]:
    """Kafka and the database, stopped at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "logs").mkdir(exist_ok=True)
    with fresh(StackOptions(folder / "common", home=home, flink_url=NO_FLINK)) as (_, status):
        owner = timescaledb.url(status["ports"]["database"], "postgres")
        yield Surroundings(folder, home, memory, status["kafka"], status["database_url"], owner, deadline_s)


@contextmanager
def fresh(options: StackOptions) -> Iterator[tuple[Stack, dict[str, Any]]]:
    """A stack on an empty folder, which is removed at the end unless something fails."""
    shutil.rmtree(options.data_dir, ignore_errors=True)
    stack = Stack(options)
    try:
        yield stack, stack.up()
    finally:
        stack.down()
    shutil.rmtree(options.data_dir, ignore_errors=True)


@dataclass(frozen=True)
class Cluster:
    """One Flink cluster, as `energyai up` starts it: ZooKeeper, JobManager, TaskManager, and who watches them."""

    stack: Stack
    rest: FlinkRest
    pid: int
    """The supervisor, of which all the others descend."""

    def submit(self, module: str, *arguments: str, env: Mapping[str, str]) -> str:
        """Runs a client that prints `job ID`; the id.

        Raises:
            EngineError: no job was submitted.
        """
        done = subprocess.run(
            [sys.executable, "-m", module, self.rest.url, *arguments],
            env=environment({**env, **self.stack.flink_env()}),
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        ids = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("job ")]
        if not ids:
            lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
            raise EngineError(f"{module} was not submitted: " + " | ".join(lines[-3:])[-600:])
        return ids[0]

    def finish(self, job_id: str, within_s: float) -> float:
        """Waits for a job's end; when all of its subtasks had been ready (epoch seconds).

        Raises:
            EngineError: it failed, even if it would be started again, or took too long.
        """
        deadline = time.monotonic() + within_s
        while (state := self.rest.state(job_id)) not in ENDED:
            self.fail_early(job_id)
            if time.monotonic() > deadline:
                raise EngineError(f"the job is still {state.lower()} after {within_s:.0f} s")
            time.sleep(POLL_S)
        if state != "FINISHED":
            raise EngineError(f"the job {state.lower()}: {self.rest.cause(job_id)}")
        return self.ready(job_id)

    def fail_early(self, job_id: str) -> None:
        """Looks whether a job has failed.

        Raises:
            EngineError: it has, even if it would be started again: the run measures nothing then.
        """
        if self.rest.call(f"/jobs/{job_id}/exceptions").get("exceptionHistory", {}).get("entries"):
            raise EngineError(f"the job failed: {self.rest.cause(job_id)}")

    def ready(self, job_id: str) -> float:
        """When all subtasks of a job that has ended had been ready, epoch seconds."""
        vertices = self.rest.call(f"/jobs/{job_id}")["vertices"]
        calls = [self.rest.call(f"/jobs/{job_id}/vertices/{vertex['id']}") for vertex in vertices]
        tasks = [task for vertex in calls for task in vertex["subtasks"]]
        return float(max(task["end-time"] - task["status-duration"]["RUNNING"] for task in tasks)) / 1000

    def ended(self, job_id: str) -> float:
        """When a job had ended, epoch seconds."""
        return float(self.rest.call(f"/jobs/{job_id}")["end-time"]) / 1000

    def records_into(self, job_id: str, sink: str) -> int:
        """How many records the task took in that ends in the table `sink`."""
        vertices = self.rest.call(f"/jobs/{job_id}")["vertices"]
        return sum(int(vertex["metrics"]["read-records"]) for vertex in vertices if sink in vertex["name"])


@contextmanager
def cluster(around: Surroundings) -> Iterator[Cluster]:
    """A new cluster on the common Kafka and database, gone at the end."""
    options = StackOptions(
        around.folder / "flink",
        home=around.home,
        kafka=around.kafka,
        database_url=around.owner_url,
        memory=around.memory,
    )
    with fresh(options) as (stack, status):
        try:
            yield Cluster(stack, FlinkRest(status["flink_url"]), status["supervisor"]["pid"])
        except EngineError as error:
            kept = around.logs / "flink-failed"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(options.logs, kept)
            raise EngineError(f"{error} (logs: {kept})") from error


def alone(
    around: Surroundings, module: str, arguments: Sequence[str], log: Path, env: Mapping[str, str]
) -> tuple[float, float, Watch]:
    """Runs a module of the peers' environment to its end: when it began and was ready (epoch seconds), what it used.

    Raises:
        EngineError: it failed, or took too long.
    """
    with log.open("wb") as output:
        begun = time.time()
        process = subprocess.Popen(
            [str(around.peers.python), "-m", module, *arguments],
            env=environment(env),
            cwd=PROJECT_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with Watch(process.pid) as watch:
            return begun, finish_process(process, log, around.deadline_s), watch
    finally:
        stop_tree(process)


def finish_process(process: subprocess.Popen[bytes], log: Path, within_s: float) -> float:
    """Waits for an engine's process; when the last of its processes said that it was ready (epoch seconds).

    Raises:
        EngineError: it failed, or took too long.
    """
    try:
        code = process.wait(within_s)
    except subprocess.TimeoutExpired:
        raise EngineError(f"not at its end after {within_s:.0f} s: {processes.tail(log)}") from None
    if code:
        raise EngineError(f"exit code {code}: {processes.tail(log, 5)}")
    ready = [
        float(line.split()[1]) for line in log.read_text(errors="replace").splitlines() if line.startswith("ready ")
    ]
    if not ready:
        raise EngineError(f"it never was ready: {processes.tail(log)}")
    return max(ready)


def stop_tree(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that was started here, and what it had started."""
    try:
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    except psutil.Error:
        tree = []
    processes.stop(tree, grace_s=5)
    processes.stop_popen(process, grace_s=1)
