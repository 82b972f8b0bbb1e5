"""The supervisor's metrics for Prometheus: what runs, restarts, memory, and the policies' runs."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from infra.embedded import processes
from infra.embedded.options import write_atomic
from infra.embedded.ports import HOST

log = logging.getLogger(__name__)

TARGETS = "prometheus-targets.json"
SCRAPED = ("jobmanager", "taskmanager", "supervisor")
BUCKETS_S = (0.1, 0.3, 1, 3, 10, 30, 100, 300)


class StackMetrics:
    """One supervisor's metrics, in a registry of their own.

    Args:
        state: gives the content of stack.json; asked at each scrape.
    """

    def __init__(self, state: Callable[[], Mapping[str, Any]]) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Parts(state))
        self._runs = Counter(
            "energyai_policy_loop_runs", "Rounds of the maintenance loop, failed ones too", registry=self.registry
        )
        self._failures = Counter(
            "energyai_policy_loop_failures", "Rounds of the maintenance loop that failed", registry=self.registry
        )
        self._policies = Counter(
            "energyai_policies_run", "Policies (refresh, compression, retention) run", registry=self.registry
        )
        self._seconds = Histogram(
            "energyai_policy_loop_duration_seconds",
            "Length of a round of the maintenance loop",
            buckets=BUCKETS_S,
            registry=self.registry,
        )
        self._success = Gauge(
            "energyai_policy_loop_last_success_timestamp_seconds",
            "End of the last round that did not fail, epoch seconds; 0: none yet",
            registry=self.registry,
        )
        self._server: Any = None

    @contextmanager
    def policy_run(self) -> Iterator[Callable[[float], None]]:
        """Counts and times one round; call what it gives with the number of policies that ran."""
        self._runs.inc()
        try:
            with self._seconds.time():
                yield self._policies.inc
        except Exception:
            self._failures.inc()
            raise
        self._success.set(time.time())

    def serve(self, port: int) -> str | None:
        """Serves /metrics on loopback and returns its address; None when the port cannot be had.

        A stack without metrics is worth more than none.
        """
        try:
            self._server, _ = start_http_server(port, HOST, self.registry)
        except OSError as error:
            log.warning("no metrics on port %d: %s", port, error)
            return None
        return f"http://{HOST}:{self._server.server_port}/metrics"

    def close(self) -> None:
        """Gives the port back."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Parts(Collector):
    """Read at each scrape, so that it is never behind stack.json."""

    def __init__(self, state: Callable[[], Mapping[str, Any]]) -> None:
        self._state = state

    def describe(self) -> list[Metric]:
        return []  # registering must not walk the processes

    def collect(self) -> Iterator[Metric]:
        state = self._state()
        up = GaugeMetricFamily("energyai_part_up", "1: the part runs and answers", labels=["part"])
        restarts = CounterMetricFamily(
            "energyai_part_restarts", "Restarts of the part in this supervisor's life", labels=["part"]
        )
        memory = GaugeMetricFamily(
            "energyai_part_resident_memory_bytes",
            "Resident memory of the part and its descendants (pages that they share count more than once)",
            labels=["part"],
        )
        for name, part in sorted(state["parts"].items()):
            if part.get("state") == "external":
                continue
            alive = processes.is_same(part.get("pid"), part.get("started"))
            up.add_metric([name], float(alive and part.get("state") == "up"))
            restarts.add_metric([name], part.get("restarts", 0))
            memory.add_metric([name], resident_bytes(part.get("pid")) if alive else 0)
        memory.add_metric(["supervisor"], resident_bytes(state["supervisor"]["pid"], descendants=False))
        stack = GaugeMetricFamily("energyai_stack_up", "1: the start is complete, and nobody has asked to stop")
        stack.add_metric([], float(state.get("phase") == "up"))
        yield from (up, restarts, memory, stack)


def resident_bytes(pid: int | None, descendants: bool = True) -> int:
    """Resident memory of a process and, if wanted, its descendants; 0 when it is gone."""
    total = 0
    with suppress(psutil.Error):
        root = psutil.Process(pid) if pid else None
        for process in [root, *(root.children(recursive=True) if descendants else [])] if root else []:
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return total


def targets(ports: Mapping[str, int]) -> list[dict[str, Any]]:
    """What Prometheus's `file_sd_configs` reads: an address a process that this stack runs."""
    return [
        {"targets": [f"{HOST}:{ports[f'{name}-metrics']}"], "labels": {"process": name}}
        for name in SCRAPED
        if f"{name}-metrics" in ports
    ]


def write_targets(data_dir: Path, ports: Mapping[str, int]) -> None:
    """Writes `targets` to the data folder, whole or not at all: Prometheus reads it again on each change."""
    write_atomic(data_dir / TARGETS, json.dumps(targets(ports), indent=1))
