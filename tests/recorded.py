"""A production to verify: readings with every fault on a topic of its own, both jobs through them, and the command."""

from __future__ import annotations

import json
from typing import Any

import psutil
import pytest
from kafka.admin import KafkaAdminClient

from infra.embedded.stack import Stack
from jobs import cli
from jobs.commands.submit import wait
from jobs.flink_rest import FlinkRest
from jobs.replay import messages
from jobs.replay.fleet_faults import Faults
from jobs.submission import submit
from tests.pipeline import Deployment, meters

FAULTS = Faults(
    resets=0.3, rollovers=0.5, missing=0.2, duplicates=0.2, out_of_order=0.05, late=0.05, revisions=0.02,
    conflicts=0.01, malformed=3.0,
)  # fmt: skip
TABLES = {"reading", "energy_15m", "energy_hourly", "energy_daily", "forecast_issue", "rejected_reading"}


def produced(stack: Stack, prefix: str, count: int = 6, days: int = 9) -> Deployment:
    """The readings of some meters are in the database, and forecasts from them."""
    deployment = Deployment.on(stack, prefix, 3)
    batch = meters(prefix, count, days, seed=11, faults=FAULTS).readings
    deployment.produce(zip(messages.keys(batch), messages.encode(batch), strict=True))
    ids = submit(
        deployment.settings, deployment.where, ("ingest", "forecast"), ["--until-complete", *deployment.options]
    )
    wait(FlinkRest(deployment.where.flink_url), ids)
    return deployment


def verified(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], parallelism: int
) -> tuple[int, dict[str, Any]]:
    """`energyai replay --verify`: its exit code and its JSON."""
    monkeypatch.setenv("ENERGYAI_TOPIC_PREFIX", deployment.prefix)
    capsys.readouterr()
    words = ["replay", "--verify", "--json", "--only", deployment.prefix, "--parallelism", str(parallelism)]
    code = cli.main([*words, "--data-dir", str(deployment.settings.data_dir)])
    out, err = capsys.readouterr()
    assert out, err
    return code, json.loads(out)


def unequal(found: dict[str, Any]) -> str:
    """The tables that differ, for a failing test to tell."""
    return json.dumps({name: table for name, table in found["tables"].items() if not table["equal"]})


def assert_nothing_left(deployment: Deployment) -> None:
    """No job, topic, folder or process of a verification."""
    folder = deployment.settings.data_dir
    assert folder is not None
    assert not [job for job in FlinkRest(deployment.where.flink_url).running() if job["name"].startswith("verify-")]
    admin = KafkaAdminClient(bootstrap_servers=deployment.where.kafka)
    assert not [name for name in admin.list_topics() if name.startswith("verify-")]
    admin.close()
    assert not list(folder.glob("verify-*"))
    assert not [p for p in psutil.process_iter(["cmdline"]) if f"{folder}/verify-" in str(p.info)]
