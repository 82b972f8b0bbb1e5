"""Replay = production: the recorded offsets into an empty database give the same rows, at each parallelism."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from infra.embedded.options import PROJECT_ROOT
from infra.embedded.stack import Stack
from jobs.flink_rest import FlinkRest
from jobs.replay import messages
from jobs.submission import submit
from tests.pipeline import Deployment, meters
from tests.recorded import FAULTS, TABLES, assert_nothing_left, produced, unequal, verified

pytestmark = pytest.mark.timeout(3_600)

PREFIX, RUNNING = "replayed-", "running-"
WITHIN_S = 300


@pytest.fixture(scope="module")
def production(stack: Stack) -> Deployment:
    return produced(stack, PREFIX, count=16, days=14)


@pytest.mark.parametrize("parallelism", [1, 2])
def test_a_replay_gives_what_production_has(
    production: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], parallelism: int
) -> None:
    code, found = verified(production, monkeypatch, capsys, parallelism)
    assert code == 0, unequal(found)
    assert found["equal"]
    assert found["tables"].keys() == TABLES
    for name, table in found["tables"].items():
        assert table["production"] == table["replay"] > 0, name
        assert table["left_out"] == 0
        assert table["largest_relative_difference"] <= 1e-9, name
    assert_nothing_left(production)


def test_a_production_that_goes_on_is_verified_as_it_was_at_one_moment(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment = Deployment.on(stack, RUNNING, 3)
    batch = meters(RUNNING, 12, 24, seed=12, faults=FAULTS).readings
    records = list(zip(messages.keys(batch), messages.encode(batch), strict=True))
    half = len(records) // 2
    flink = FlinkRest(deployment.where.flink_url)
    ids = submit(deployment.settings, deployment.where, ("ingest", "forecast"), deployment.options)
    try:
        deployment.produce(records[:half])
        until(lambda: _stored(deployment) > half // 4)
        stop = threading.Event()
        sender = threading.Thread(target=_trickle, args=(deployment, records[half:], stop))
        sender.start()
        try:
            code, found = verified(deployment, monkeypatch, capsys, 2)
        finally:
            stop.set()
            sender.join(WITHIN_S)
        assert code == 0, unequal(found)
        assert found["equal"]
        reading = found["tables"]["reading"]
        assert reading["production"] > reading["replay"] > 0, "production did not go on meanwhile"
        assert reading["left_out"] > 0
        assert found["tables"]["forecast_issue"]["replay"] > 0
        assert all(table["largest_relative_difference"] <= 1e-9 for table in found["tables"].values())
    finally:
        for job in ids.values():
            flink.cancel(job)
    assert_nothing_left(deployment)


def _stored(deployment: Deployment) -> int:
    return int(deployment.rows("SELECT count(*) FROM reading WHERE starts_with(meter_id, %s)", (RUNNING,))[0][0])


def _trickle(deployment: Deployment, records: list[tuple[bytes, bytes]], stop: threading.Event) -> None:
    """Sends the rest in small portions for as long as the verification lasts."""
    portion = 40
    for at in range(0, len(records), portion):
        if stop.wait(0.5):
            return
        deployment.produce(records[at : at + portion])


def test_an_interrupted_verification_leaves_nothing(production: Deployment) -> None:
    home, folder = production.settings.home, production.settings.data_dir
    environment = {**os.environ, "ENERGYAI_TOPIC_PREFIX": PREFIX, "ENERGYAI_HOME": str(home)}
    words = ["replay", "--verify", "--only", PREFIX, "--data-dir", str(folder)]
    running = subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", *words], cwd=PROJECT_ROOT, env=environment, stderr=subprocess.PIPE, text=True
    )
    flink = FlinkRest(production.where.flink_url)
    try:
        until(lambda: running.poll() is not None or any(job["name"].startswith("verify-") for job in flink.running()))
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=WITHIN_S)
    finally:
        running.kill()
    assert running.returncode == 130, told
    assert_nothing_left(production)


def until(condition: Callable[[], Any]) -> None:
    """Waits for it."""
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {WITHIN_S} s"
        time.sleep(0.5)
