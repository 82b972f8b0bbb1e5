"""Replay = production: the recorded offsets into an empty database give the same rows, at each parallelism."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from infra.embedded.options import PROJECT_ROOT
from infra.embedded.stack import Stack
from jobs.flink_rest import FlinkRest
from tests.pipeline import Deployment
from tests.recorded import TABLES, assert_nothing_left, produced, unequal, verified

pytestmark = pytest.mark.timeout(3_600)

PREFIX = "replayed-"
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
