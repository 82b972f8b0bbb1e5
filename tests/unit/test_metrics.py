"""The command line's own metrics: the supervisor's and a replay's, as Prometheus reads them."""

from __future__ import annotations

import json
import math
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.embedded import processes
from infra.embedded.metrics import StackMetrics, resident_bytes, targets, write_targets
from jobs.replay.batch import ReplayError
from jobs.replay.metrics import ReplayMetrics, served
from jobs.replay.producer import Progress

ME = os.getpid()


def state(**parts: Any) -> Mapping[str, Any]:
    return {"phase": "up", "supervisor": {"pid": ME}, "parts": parts}


def scrape(url: str) -> dict[str, float]:
    with urlopen(url, timeout=10) as answer:
        text = answer.read().decode()
    return {
        sample.name + "".join(f"/{value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_supervisor_serves_parts_and_policies() -> None:
    started = processes.create_time(ME)
    metrics = StackMetrics(
        lambda: state(
            kafka={"state": "up", "pid": ME, "started": started, "restarts": 2},
            gone={"state": "up", "pid": ME, "started": 1.0, "restarts": 0},
            starting={"state": "starting", "pid": ME, "started": started},
            outside={"state": "external"},
        )
    )
    url = metrics.serve(0)
    assert url
    try:
        with metrics.policy_run() as count:
            count(3)
        with pytest.raises(ValueError, match="no"), metrics.policy_run():
            raise ValueError("no")
        found = scrape(url)
    finally:
        metrics.close()
    assert {name: found[f"energyai_part_up/{name}"] for name in ("kafka", "gone", "starting")} == {
        "kafka": 1,
        "gone": 0,
        "starting": 0,
    }
    assert found["energyai_part_restarts_total/kafka"] == 2
    assert found["energyai_part_resident_memory_bytes/kafka"] > 1e6
    assert found["energyai_part_resident_memory_bytes/gone"] == 0
    assert found["energyai_part_resident_memory_bytes/supervisor"] > 1e6
    assert not [name for name in found if "outside" in name]
    assert found["energyai_stack_up"] == 1
    assert found["energyai_policy_loop_runs_total"] == found["energyai_policy_loop_duration_seconds_count"] == 2
    assert found["energyai_policy_loop_failures_total"] == 1
    assert found["energyai_policies_run_total"] == 3
    assert found["energyai_policy_loop_last_success_timestamp_seconds"] > 1.7e9


def test_a_taken_port_leaves_a_stack_without_metrics() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        metrics = StackMetrics(state)
        assert metrics.serve(taken.getsockname()[1]) is None
        metrics.close()


def test_a_process_that_is_gone_has_no_memory() -> None:
    assert resident_bytes(None) == 0
    assert resident_bytes(2**22 + 1) == 0


def test_targets_are_the_processes_that_this_stack_runs(tmp_path: Path) -> None:
    write_targets(tmp_path, {"supervisor-metrics": 1, "flink": 2})
    assert json.loads((tmp_path / "prometheus-targets.json").read_text()) == [
        {"targets": ["127.0.0.1:1"], "labels": {"process": "supervisor"}}
    ]
    every = targets({"jobmanager-metrics": 3, "taskmanager-metrics": 4, "supervisor-metrics": 5})
    assert [target["targets"] for target in every] == [["127.0.0.1:3"], ["127.0.0.1:4"], ["127.0.0.1:5"]]


def test_a_replay_counts_its_readings_rate_and_lag() -> None:
    metrics = ReplayMetrics(clock=lambda: 1000.0)
    value = metrics.registry.get_sample_value
    assert math.isnan(value("energyai_replay_event_time_lag_seconds") or 0)
    metrics.update(Progress(100, 900_000, 0.5))
    assert value("energyai_replay_readings_per_second") == 200
    metrics.update(Progress(150, 940_000, 0.6))  # too soon for another rate
    assert value("energyai_replay_readings_per_second") == 200
    metrics.update(Progress(400, 990_000, 2.0))
    assert value("energyai_replay_readings_per_second") == 200
    metrics.update(Progress(800, 995_000, 4.0))
    assert value("energyai_replay_readings_per_second") == 200
    metrics.update(Progress(810, 995_000, 14.0))
    assert value("energyai_replay_readings_per_second") == 1
    assert value("energyai_replay_readings_total") == 810
    assert value("energyai_replay_event_time_seconds") == 995
    assert value("energyai_replay_event_time_lag_seconds") == 5


def test_a_replay_serves_while_it_runs_only() -> None:
    with served(0) as (update, url):
        update(Progress(7, 1000, 1.0))
        assert scrape(url)["energyai_replay_readings_total"] == 7
    with pytest.raises(OSError, match="refused"):
        scrape(url)
    with served(None) as (update, url):
        update(Progress(7, 1000, 1.0))
        assert url == ""


def test_a_taken_port_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ReplayError, match=f"port {port} cannot serve metrics .*choose another"), served(port):
            pass
