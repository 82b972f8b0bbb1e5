"""Metrics of a running stack, scraped where its targets file says."""

from __future__ import annotations

import json
import time
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from infra.embedded.stack import Stack


def scrape(address: str) -> dict[tuple[str, str], float]:
    """(name, part) → value."""
    with urlopen(f"http://{address}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    return {
        (sample.name, sample.labels.get("part", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_targets_of_a_running_stack_all_answer(stack: Stack) -> None:
    listed = json.loads((stack.options.data_dir / "prometheus-targets.json").read_text())
    addresses = {target["labels"]["process"]: target["targets"][0] for target in listed}
    status = stack.status()
    assert f"http://{addresses['supervisor']}/metrics" == status["metrics_url"]

    end = time.monotonic() + 60
    while not (found := scrape(addresses["supervisor"])).get(("energyai_policy_loop_runs_total", "")):
        assert time.monotonic() < end, "the maintenance loop never ran"
        time.sleep(0.5)
    assert set(status["parts"]) == {part for name, part in found if name == "energyai_part_up"}
    for name, part in status["parts"].items():
        assert found["energyai_part_up", name] == 1
        assert found["energyai_part_restarts_total", name] == part["restarts"]
        assert found["energyai_part_resident_memory_bytes", name] > 10e6
    assert found["energyai_policy_loop_failures_total", ""] == 0

    names = {name for process in ("jobmanager", "taskmanager") for name, _ in scrape(addresses[process])}
    assert "flink_jobmanager_numRegisteredTaskManagers" in names
    assert "flink_taskmanager_Status_JVM_Memory_Heap_Used" in names
