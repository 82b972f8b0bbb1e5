"""Operators keep their uids from plan to plan, so that a savepoint of one version finds them in the next."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from infra.embedded.options import PROJECT_ROOT
from infra.embedded.stack import Stack
from jobs.uids import distinct, uid_of

PROGRAM = "tests.faults.programs.plan_uids"
STATEFUL = {
    "ingest": {"KafkaSource-default_catalog.default_database.meter_readings", "Sink:dead_letters"},
    "forecast": {
        "KafkaSource-default_catalog.default_database.meter_readings",
        "OverAggregate:partition",
        "GlobalWindowAggregate:shard,moment",
        "GlobalWindowAggregate:shard",
        "forecast-shard",
        "model-watch",
        "Sink:forecasts",
    },
    "detect": {
        "KafkaSource-default_catalog.default_database.meter_readings",
        "OverAggregate:partition",
        "GlobalWindowAggregate:shard,moment",
        "GlobalWindowAggregate:shard",
        "WindowAggregate:shard",
        "detect-shard",
        "raw-shard",
        "Sink:anomalies",
    },
    "alerts": {
        "KafkaSource-default_catalog.default_database.evidence",
        "alert-book",
        "Sink:alerts",
    },
    "control": {
        "KafkaSource-default_catalog.default_database.meter_readings",
        "KafkaSource-default_catalog.default_database.forecast_feed",
        "KafkaSource-default_catalog.default_database.ack_feed",
        "KafkaSource-default_catalog.default_database.state_feed",
        "control-site",
        "Sink:setpoints",
        "Sink:control_alerts",
        "Sink:control_log",
    },
}
"""Operators that have state. Once they are in a release, changing one of these names loses its state."""


@pytest.mark.parametrize(
    ("description", "uid"),
    [
        ("[3]:Calc(select=[payload, 'groupBy' AS x])", "Calc"),
        ("[22]:OverAggregate(partitionBy=[partition], orderBy=[arrival ASC], select=[a])", "OverAggregate:partition"),
        ("GroupAggregate(groupBy=[meter_id, register], select=[meter_id])", "GroupAggregate:meter_id,register"),
        ("[17]:Sink(table=[default_catalog.default_database.dead_letters], fields=[a, b])", "Sink:dead_letters"),
        ("[1]:TableSourceScan(table=[[c, d, meters, watermark=[x]]], fields=[a])", "TableSourceScan:meters"),
        ("forecast shard", "forecast-shard"),
    ],
)
def test_an_operator_is_called_after_what_its_state_belongs_to(description: str, uid: str) -> None:
    assert uid_of(description) == uid


def test_equal_names_are_numbered_in_their_order() -> None:
    assert distinct(["Calc", "Sink:a", "Calc", "Calc"], taken=["Sink:a"]) == ["Calc", "Sink:a#2", "Calc#2", "Calc#3"]


@pytest.mark.timeout(900)
def test_a_second_plan_and_a_changed_one_have_the_uids_of_the_first(stack: Stack) -> None:
    done = subprocess.run(
        [sys.executable, "-m", PROGRAM],
        env={**os.environ, **stack.flink_env()},
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    plans = json.loads(done.stdout.splitlines()[-1])
    for job, (first, again, changed) in plans.items():
        assert again == first
        assert len(set(first)) == len(first)
        assert None not in first
        assert STATEFUL[job] <= set(first)
        added = set(changed) - set(first)
        assert {"GroupAggregate:reason", "Sink:counted"} <= added, "the plan has changed"
        assert STATEFUL[job] <= set(changed)
