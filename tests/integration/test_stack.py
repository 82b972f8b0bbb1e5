"""The embedded stack as users meet it: topics, roles, three ways to submit, kill -9 of every part, and going down."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import psutil
import psycopg2
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewTopic

from infra.embedded import flink, processes, topics, web_ui
from infra.embedded.errors import StackError
from infra.embedded.options import StackOptions
from infra.embedded.stack import Stack
from jobs import cli

PROGRAM = Path(__file__).parent / "programs" / "echo_job.py"


def until(condition: Callable[[], Any], within_s: float, what: str) -> Any:
    """Waits for a condition; its value."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.2)
    raise AssertionError(f"{what}: not within {within_s} s")


def rest(stack: Stack, method: str, path: str, body: Any = None) -> Any:
    """A call of Flink's REST API; None while it does not answer."""
    request = Request(
        stack.status()["flink_url"] + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except OSError:
        return None


def running_job(stack: Stack, name: str) -> str | None:
    """Id of the job of that name when all of its tasks run."""
    for job in (rest(stack, "GET", "/jobs/overview") or {"jobs": []})["jobs"]:
        if job["name"] == name and job["state"] == "RUNNING" and job["tasks"]["running"] == job["tasks"]["total"]:
            return str(job["jid"])
    return None


class Echo:
    """Two topics of one test, and what is written to and read from them."""

    def __init__(self, stack: Stack, name: str) -> None:
        self.stack, self.name = stack, name
        self.kafka = stack.status()["kafka"]
        self.source, self.sink = f"{name}.in", f"{name}.out"
        admin = KafkaAdminClient(bootstrap_servers=self.kafka)
        admin.create_topics([NewTopic(self.source, 1, 1), NewTopic(self.sink, 1, 1)])
        admin.close()
        self.arguments = [
            *("--kafka", self.kafka, "--source", self.source),
            *("--sink", self.sink, "--name", name),
        ]

    def send(self, values: range) -> None:
        producer = KafkaProducer(bootstrap_servers=self.kafka, acks="all", retries=1000, delivery_timeout_ms=120_000)
        for value in values:
            producer.send(self.source, str(value).encode())
        producer.flush()
        producer.close()

    def received(self, wanted: int, within_s: float) -> list[str]:
        """What was committed to the sink, once `wanted` values and a moment for a repeat have come."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.kafka, isolation_level="read_committed", enable_auto_commit=False
        )
        partition = TopicPartition(self.sink, 0)
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        got: list[str] = []

        def enough() -> bool:
            for records in consumer.poll(500).values():
                got.extend(record.value.decode() for record in records)
            return len(got) >= wanted

        until(enough, within_s, f"{wanted} values on {self.sink} (got {len(got)})")
        consumer.poll(3000)
        got.extend(record.value.decode() for records in consumer.poll(1000).values() for record in records)
        consumer.close()
        return got


@pytest.fixture
def echo(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Echo]:
    name = request.node.name.replace("test_", "").replace("_", "-")[:40]
    yield Echo(stack, name)
    for job in (rest(stack, "GET", "/jobs/overview") or {"jobs": []})["jobs"]:
        if job["name"] == name and job["state"] not in ("CANCELED", "FINISHED", "FAILED"):
            rest(stack, "PATCH", f"/jobs/{job['jid']}?mode=cancel")


def run_with_flink(stack: Stack, echo: Echo) -> str:
    command = [str(stack.flink_command), "run", "-py", str(PROGRAM), *echo.arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return str(until(lambda: running_job(stack, echo.name), 120, f"job {echo.name} runs"))


def test_everything_is_up_and_status_says_where(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--json", "--data-dir", str(stack.options.data_dir)]) == 0
    status = json.loads(capsys.readouterr().out)
    assert set(status["parts"]) == {"kafka", "timescaledb", "zookeeper", "jobmanager", "taskmanager"}
    for part in status["parts"].values():
        assert part["state"] == "up"
        assert psutil.pid_exists(part["pid"])
        assert {"port", "restarts"} <= set(part)
    assert cli.main(["status", "--data-dir", str(stack.options.data_dir)]) == 0
    assert "\x1b[" not in capsys.readouterr().out, "no colour in a pipe"
    assert cli.main(["doctor", "--data-dir", str(stack.options.data_dir)]) == 0


def test_a_second_up_says_that_it_is_up(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    before = stack.status()
    assert cli.main(["up", "--data-dir", str(stack.options.data_dir)]) == 0
    assert "already up" in capsys.readouterr().err
    assert stack.status()["parts"] == before["parts"]


def test_the_topics_are_the_contracts(stack: Stack) -> None:
    admin = KafkaAdminClient(bootstrap_servers=stack.status()["kafka"])
    partitions = {t["topic"]: len(t["partitions"]) for t in admin.describe_topics([t.name for t in topics.TOPICS])}
    assert partitions["meter.readings"] == stack.options.partitions
    assert partitions["models"] == partitions["sites"] == 1
    wanted = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in topics.TOPICS]
    found: dict[str, dict[str, str]] = {}
    for answer in admin.describe_configs(wanted):
        for resource in answer.resources:
            name, entries = resource[3], resource[4]  # positions of the protocol: kafka-python gives plain tuples
            found[name] = {entry[0]: entry[1] for entry in entries}
    for topic in topics.TOPICS:
        assert found[topic.name].items() >= topic.config.items()
    admin.close()
    assert topics.create(stack.status()["kafka"]) == [], "nothing is created twice"


def test_the_writer_writes_and_does_not_change_the_schema(stack: Stack) -> None:
    link = psycopg2.connect(stack.status()["database_url"])
    with link, link.cursor() as cursor:
        cursor.execute("SELECT current_user, to_regclass('reading') IS NOT NULL")
        assert cursor.fetchone() == ("energyai_writer", True)
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("DROP TABLE reading")
    link.close()


@pytest.mark.long
def test_policies_are_run_by_the_supervisor(stack: Stack) -> None:
    log = stack.options.logs / "supervisor.log"
    until(lambda: "policies run" in log.read_text(), 90, "policies run")


def test_both_flink_processes_serve_metrics(stack: Stack) -> None:
    ports = stack.status()["ports"]
    for name in ("jobmanager", "taskmanager"):
        with urlopen(f"http://127.0.0.1:{ports[f'{name}-metrics']}/metrics", timeout=10) as answer:
            assert f"flink_{name}_Status_JVM_CPU_Load".encode() in answer.read()


def test_a_job_submitted_with_flink_run(stack: Stack, echo: Echo) -> None:
    echo.send(range(100))
    run_with_flink(stack, echo)
    assert sorted(echo.received(100, 90)) == sorted(f"py-{n}" for n in range(100))


def test_a_job_submitted_from_the_web_ui(stack: Stack, echo: Echo) -> None:
    jars = rest(stack, "GET", "/jars")["files"]
    (jar,) = [jar["id"] for jar in jars if jar["name"].startswith("flink-python")]
    body = {
        "entryClass": "org.apache.flink.client.python.PythonDriver",
        "programArgsList": ["-py", str(PROGRAM), *echo.arguments],
    }
    assert rest(stack, "POST", f"/jars/{quote(jar)}/run", body)["jobid"]
    echo.send(range(50))
    assert sorted(echo.received(50, 120)) == sorted(f"py-{n}" for n in range(50))


def test_the_web_ui_sends_its_program_arguments_in_the_field_that_is_read(stack: Stack) -> None:
    (dist,) = (stack.options.data_dir / "flink" / "lib").glob("flink-dist-*.jar")
    with zipfile.ZipFile(dist) as jar:
        names = [name for name in jar.namelist() if name.startswith("web/") and name.endswith(".js")]
        (script,) = [name for name in names if web_ui.correct(jar.read(name)) != jar.read(name)]
        corrected = web_ui.correct(jar.read(script))
    with urlopen(f"{stack.status()['flink_url']}/{script.removeprefix('web/')}", timeout=30) as answer:
        assert answer.read() == corrected
    with urlopen(stack.status()["flink_url"], timeout=30) as answer:
        assert b"<flink-root>" in answer.read(), "the rest of the page is served as well"


def test_a_submission_without_arguments_is_an_error_and_no_more(stack: Stack) -> None:
    before = stack.status()["parts"]["jobmanager"]
    (jar,) = [jar["id"] for jar in rest(stack, "GET", "/jars")["files"] if jar["name"].startswith("flink-python")]
    request = Request(
        f"{stack.status()['flink_url']}/jars/{quote(jar)}/run",
        data=json.dumps({"entryClass": "org.apache.flink.client.python.PythonDriver"}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with pytest.raises(HTTPError) as refused:
        urlopen(request, timeout=60)
    assert 400 <= refused.value.code < 600
    refused.value.close()
    after = stack.status()["parts"]["jobmanager"]
    assert (after["pid"], after["restarts"], after["state"]) == (before["pid"], before["restarts"], "up")
    assert rest(stack, "GET", "/overview"), "it goes on answering"


@pytest.mark.long
def test_every_part_killed_at_once_comes_back_and_loses_nothing(stack: Stack, echo: Echo) -> None:
    with psycopg2.connect(stack.status()["database_url"]) as link, link.cursor() as cursor:
        cursor.execute("INSERT INTO meter (meter_id) VALUES ('killed-at-once')")
    job = run_with_flink(stack, echo)
    echo.send(range(200))
    until(lambda: checkpoints(stack, job) > 0, 60, "a checkpoint")
    before = stack.status()["parts"]
    for part in before.values():
        os.kill(part["pid"], signal.SIGKILL)

    def all_back() -> bool:
        now = stack.status()["parts"]
        return all(now[n]["state"] == "up" and now[n]["restarts"] > before[n]["restarts"] for n in before)

    begun = time.monotonic()
    until(all_back, 120, "all parts up again")
    print(f"\nall parts back after {time.monotonic() - begun:.1f} s")
    echo.send(range(200, 400))
    assert sorted(echo.received(400, 120)) == sorted(f"py-{n}" for n in range(400)), "each value exactly once"
    print(f"job back after {time.monotonic() - begun:.1f} s")
    with psycopg2.connect(stack.status()["database_url"]) as link, link.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM meter WHERE meter_id = 'killed-at-once'")
        assert cursor.fetchone() == (1,)


def checkpoints(stack: Stack, job: str) -> int:
    return int((rest(stack, "GET", f"/jobs/{job}/checkpoints") or {"counts": {"completed": 0}})["counts"]["completed"])


@pytest.mark.long
def test_a_killed_supervisor_is_seen_and_the_next_up_recovers(stack: Stack, echo: Echo) -> None:
    echo.send(range(10))
    run_with_flink(stack, echo)
    before = stack.status()
    supervisor = before["supervisor"]
    os.kill(supervisor["pid"], signal.SIGKILL)
    until(lambda: not processes.is_same(supervisor["pid"], supervisor["started"]), 10, "supervisor gone")
    assert cli.main(["status", "--data-dir", str(stack.options.data_dir)]) == 3
    assert {part["state"] for part in stack.status()["parts"].values()} == {"orphaned"}
    begun = time.monotonic()
    after = stack.up()
    print(f"\nsecond start: {time.monotonic() - begun:.1f} s")
    assert after["ports"] == before["ports"]
    assert not any(processes.is_same(part["pid"], part["started"]) for part in before["parts"].values())
    until(lambda: running_job(stack, echo.name), 120, "the job resumed")
    echo.send(range(10, 20))
    assert sorted(echo.received(20, 90)) == sorted(f"py-{n}" for n in range(20))


def test_external_parts_are_used_and_not_started(stack: Stack, tmp_path: Path) -> None:
    external = {name: stack.status()[name] for name in ("kafka", "flink_url")}
    owner = stack.status()["database_url"].replace("energyai_writer", "postgres")
    other = Stack(
        StackOptions(tmp_path / "folder with a space", home=stack.options.home, database_url=owner, **external)
    )
    with other.running() as status:
        assert {part["state"] for part in status["parts"].values()} == {"external"}
        assert status["kafka"] == external["kafka"]
        done = subprocess.run(
            [sys.executable, "-m", "infra.embedded.supervisor", str(other.options.data_dir / "options.json")],
            cwd=flink.PROJECT_ROOT,
            check=False,
        )
        assert done.returncode == 4, "a second supervisor of one folder is refused"
    assert other.status()["phase"] == "down"
    assert processes.owned(other.options.data_dir) == []
    assert stack.status()["phase"] == "up", "one stack's end is nothing to another"


def test_a_port_that_is_taken_is_one_clear_error(stack: Stack, tmp_path: Path) -> None:
    taken = stack.status()["ports"]["flink"]
    other = Stack(StackOptions(tmp_path, home=stack.options.home, ports={"flink": taken}))
    with pytest.raises(StackError, match=rf"port {taken} \(for flink\) is in use"):
        other.up()
    assert other.status()["phase"] == "failed"
    assert processes.owned(tmp_path) == []


def test_an_interrupted_up_leaves_nothing(stack: Stack, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobs.cli", "up", "--data-dir", str(tmp_path)]
    env = {**os.environ, "ENERGYAI_HOME": str(stack.options.home)}
    up = subprocess.Popen(command, cwd=flink.PROJECT_ROOT, env=env, stderr=subprocess.PIPE, text=True)
    until(lambda: len(processes.owned(tmp_path)) > 3, 60, "parts are starting")
    up.send_signal(signal.SIGINT)
    _, errors = up.communicate(timeout=90)
    assert up.returncode == 130
    assert "interrupted" in errors
    assert "Traceback" not in errors
    assert processes.owned(tmp_path) == []
