"""Jobs as users run them: `flink run`, the Web UI, savepoints; and one clear line for each thing that is wrong."""

from __future__ import annotations

import hashlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import orjson
import pytest
from kafka import KafkaProducer

from infra.embedded.options import PROJECT_ROOT
from infra.embedded.stack import Stack
from jobs import cli
from jobs.flink_rest import ENDED, FlinkRest
from jobs.replay import messages
from jobs.replay.batch import Batch
from operators.forecaster import SHIPPED_MODEL
from tests.pipeline import Deployment, Key, apart, meters, plain_python

FORECAST = str(PROJECT_ROOT / "jobs" / "forecast.py")
PARTITIONS = 4
DAYS = 8
WITHIN_S = 180


def until(condition: Callable[[], Any], what: Callable[[], str]) -> Any:
    """The condition's value, once it is true."""
    deadline = time.monotonic() + WITHIN_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what()}: not within {WITHIN_S} s"
        time.sleep(0.5)
    return found


def energyai(stack: Stack, *words: str) -> int:
    """The command line, on this stack."""
    return cli.main([*words, "--data-dir", str(stack.options.data_dir)])


def produce(deployment: Deployment, batch: Batch) -> None:
    """Puts a batch on the topic of readings."""
    deployment.produce(zip(messages.keys(batch), messages.encode(batch), strict=True))


def close_windows(deployment: Deployment, ts_ms: int) -> None:
    """A last reading in each partition, so that event time passes what came before."""
    producer = KafkaProducer(bootstrap_servers=deployment.where.kafka, acks="all")
    for partition in range(PARTITIONS):
        body = {"meter_id": f"close-{partition}", "kind": "instant", "unit": "kW", "value": 1, "ts": ts_ms}
        producer.send(deployment.prefix + "meter.readings", orjson.dumps(body), partition=partition)
    producer.flush()
    producer.close()


def assert_forecasts(deployment: Deployment, wanted: dict[Key, Any]) -> None:
    """The table and the topic have just these, the topic each once."""
    stored = deployment.issues(deployment.prefix)
    sent = deployment.consume("forecasts")
    assert stored.keys() == wanted.keys()
    for key, kwh in wanted.items():
        assert apart(stored[key], kwh) <= 1e-6, key
    issues = [(m["meter_id"], int(np.datetime64(m["issued_at"][:-1], "ms").astype(np.int64))) for m in sent]
    assert sorted(issues) == sorted(wanted)


def finish(stack: Stack, job_id: str) -> None:
    """Waits for the job's good end."""
    flink = FlinkRest(stack.status()["flink_url"])
    assert flink.wait(job_id, WITHIN_S) == "FINISHED", flink.cause(job_id)


@pytest.fixture(autouse=True)
def no_job_left(stack: Stack) -> Iterator[None]:
    """A test that failed leaves no job to the next one."""
    yield
    flink = FlinkRest(stack.status()["flink_url"])
    for job in flink.jobs():
        if job["name"].startswith("energyai-") and job["state"] not in ENDED:
            flink.cancel(job["jid"])


def test_flink_run(stack: Stack) -> None:
    deployment = Deployment.on(stack, "flinkrun-", PARTITIONS)
    batch = meters(deployment.prefix, 4, DAYS).readings
    produce(deployment, batch)
    where = deployment.where
    done = subprocess.run(
        [
            *(str(stack.flink_command), "run", "-py", FORECAST, "--until-complete"),
            *("--kafka", where.kafka, "--database-url", where.database_url, *deployment.options),
        ],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith('{"job": ')]
    finish(stack, json.loads(line)["job_id"])
    assert_forecasts(deployment, plain_python(batch, until_ms=2**62))


def test_the_web_ui(stack: Stack) -> None:
    deployment = Deployment.on(stack, "webui-", PARTITIONS)
    batch = meters(deployment.prefix, 4, DAYS).readings
    produce(deployment, batch)
    where = deployment.where
    flink = FlinkRest(where.flink_url)
    (jar,) = [jar["id"] for jar in flink.call("/jars")["files"] if jar["name"].startswith("flink-python")]
    addresses = ["--kafka", where.kafka, "--database-url", where.database_url]
    body = {
        "entryClass": "org.apache.flink.client.python.PythonDriver",
        "programArgsList": ["-py", FORECAST, "--until-complete", *addresses, *deployment.options],
    }
    finish(stack, flink.call(f"/jars/{quote(jar)}/run", "POST", body)["jobid"])
    assert_forecasts(deployment, plain_python(batch, until_ms=2**62))


@pytest.mark.long
def test_a_savepoint_keeps_the_history(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment = Deployment.on(stack, "save-", PARTITIONS)
    monkeypatch.setenv("ENERGYAI_TOPIC_PREFIX", deployment.prefix)
    monkeypatch.setenv("ENERGYAI_IDLE_TIMEOUT_S", "5")  # four meters leave a partition empty
    batch = meters(deployment.prefix, 4, DAYS).readings
    wanted = plain_python(batch, until_ms=2**62)
    middle = int(batch.ts_ms[0]) + 7 * 86_400_000 + 43_200_000
    before = batch.deliver_ms <= middle
    early = {key for key in wanted if key[1] < middle - 3_600_000}
    assert early

    def stored() -> set[Key]:
        return set(deployment.issues(deployment.prefix))

    assert energyai(stack, "submit", "forecast") == 0
    produce(deployment, batch.take(before))
    until(lambda: early <= stored(), lambda: f"{len(early)} forecasts, {len(stored())} are there")
    capsys.readouterr()
    assert energyai(stack, "submit", "forecast") == 1
    assert "forecast already runs" in capsys.readouterr().err
    assert energyai(stack, "savepoint", "forecast", "--stop", "--json") == 0
    saved = json.loads(capsys.readouterr().out)
    assert saved["stopped"]
    produce(deployment, batch.take(~before))
    close_windows(deployment, int(batch.ts_ms.max()) + 3_600_000)
    assert energyai(stack, "submit", "forecast", "--savepoint", saved["savepoint"]) == 0
    until(lambda: wanted.keys() <= stored(), lambda: f"{len(wanted)} forecasts, {len(stored())} are there")
    capsys.readouterr()
    assert energyai(stack, "jobs", "--json") == 0
    assert "energyai-forecast" in [job["name"] for job in json.loads(capsys.readouterr().out)]
    assert energyai(stack, "savepoint", "forecast", "--stop") == 0  # commits the last transaction
    assert "go on from it: energyai submit forecast --savepoint" in capsys.readouterr().out
    assert_forecasts(deployment, wanted)


def test_cancel(stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("ENERGYAI_TOPIC_PREFIX", Deployment.on(stack, "cancel-", 1).prefix)
    assert energyai(stack, "submit", "ingest") == 0
    assert energyai(stack, "cancel", "ingest") == 0
    capsys.readouterr()
    assert energyai(stack, "cancel", "ingest") == 1
    assert "no job ingest runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("ENERGYAI_KAFKA", "127.0.0.1:1", "no Kafka at 127.0.0.1:1"),
        ("ENERGYAI_DATABASE_URL", "postgresql://energyai_writer@127.0.0.1:1/energyai", "no database after"),
        ("ENERGYAI_FLINK_URL", "http://127.0.0.1:1", "no Flink at http://127.0.0.1:1"),
        ("ENERGYAI_TOPIC_PREFIX", "nowhere.", "lacks the topics nowhere.meter.readings"),
    ],
)
def test_a_service_that_is_not_there_is_one_clear_line(
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variable: str,
    value: str,
    says: str,
) -> None:
    monkeypatch.setenv(variable, value)
    code = energyai(stack, "submit", "forecast")
    out, err = capsys.readouterr()
    assert says in err
    assert code == 3, err
    assert err.count("\n") == 1
    assert "Traceback" not in out + err


@pytest.mark.parametrize(
    ("damage", "says"), [("gone", "name an ONNX file that exists"), ("flipped", "the file was changed or damaged")]
)
def test_a_bad_model_is_one_clear_line(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str, says: str
) -> None:
    content = bytearray(SHIPPED_MODEL.read_bytes())
    checksum = hashlib.sha256(content).hexdigest()
    path = tmp_path / "model.onnx"
    if damage == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert energyai(stack, "submit", "forecast", "--model", str(path), "--model-sha256", checksum) != 0
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
