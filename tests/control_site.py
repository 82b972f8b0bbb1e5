"""A site in real time whose loop is closed through the control job, on topics of a test's own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from infra.embedded.stack import Stack
from jobs.flink_rest import FlinkRest
from jobs.simulation.live import LiveSite
from jobs.submission import submit
from operators.control_lifecycle.times import iso
from operators.control_site.feeds import QUANTILE_NAMES
from tests.pipeline import Deployment

TOPICS = (
    "control.setpoints", "control.acks", "control.states", "control.log", "alerts.control", "sites", "meters",
    "dr.events",
)  # fmt: skip
LOAD_KW = 40.0
LIMIT_KW = 45.0
SITE: dict[str, Any] = {
    "site_id": "it-hq", "tz": "UTC", "limit_kw": LIMIT_KW, "mode": "live", "meters": ["it-grid", "it-load"],
    "settings": {"grid_meters": ["it-grid"], "load_meters": ["it-load"]},
    "tariff": {"energy": 0.3, "currency": "EUR"},
    "assets": [
        {"asset_id": "it-battery", "type": "battery", "min_w": -5000, "max_w": 5000, "capacity_wh": 10000,
         "efficiency": 0.9},
        {"asset_id": "it-heat", "type": "flexible_load", "max_w": 12000},
    ],
}  # fmt: skip
"""Alone the load and the heating would draw 52 kW."""


@dataclass
class Controlled:
    """A site under control.

    Args:
        deployment: the topics and the stack.
        site: its meters and devices, which run.
        ids: of the jobs, by name.
    """

    deployment: Deployment
    site: LiveSite
    ids: dict[str, str]

    def put(self, topic: str, key: str, *messages: Mapping[str, Any]) -> None:
        """Messages onto a topic."""
        producer = KafkaProducer(bootstrap_servers=self.deployment.where.kafka, acks="all")
        for message in messages:
            producer.send(self.deployment.prefix + topic, json.dumps(message).encode(), key.encode())
        producer.flush(30)
        producer.close()

    def setpoints(self, site: str = "it-hq") -> list[dict[str, Any]]:
        """The committed ones of a site."""
        return [s for s in self.deployment.consume("control.setpoints") if s["site_id"] == site]

    def submit(self, options: list[str] | None = None) -> None:
        """Submits the job of control."""
        arguments = [*self.deployment.options, *(options or [])]
        self.ids |= submit(self.deployment.settings, self.deployment.where, ("control",), arguments)


def forecast(meter: str, start_ms: int, kw: float) -> dict[str, Any]:
    """A message of topic `forecasts`: the same power for a day."""
    kwh = {name: np.full(96, kw / 4 * (1 + 0.02 * (i - 4))).tolist() for i, name in enumerate(QUANTILE_NAMES)}
    return {"meter_id": meter, "issued_at": iso(start_ms), "target_start": iso(start_ms), "step_s": 900, "kwh": kwh,
            "model_id": "m", "model_sha256": "abc"}  # fmt: skip


@contextmanager
def controlled(stack: Stack, prefix: str, site: dict[str, Any], submitted: bool = True) -> Iterator[Controlled]:
    """The site, its forecast, and the jobs; all ended afterwards.

    Args:
        stack: that runs.
        prefix: of the topics, which are made.
        site: as the topic `sites` has it.
        submitted: whether the job is submitted here, or by the test when it has put its own messages.
    """
    deployment = Deployment.on(stack, prefix)
    admin = KafkaAdminClient(bootstrap_servers=deployment.where.kafka)
    admin.create_topics([NewTopic(prefix + name, 1, 1) for name in TOPICS])
    admin.close()
    with LiveSite(deployment.where.kafka, site, lambda _: LOAD_KW, prefix=prefix, reading_s=2.0, report_s=1.0) as live:
        made = Controlled(deployment, live, {})
        now = time.time_ns() // 1_000_000
        made.put("sites", site["site_id"], site)
        made.put("forecasts", "it-load", forecast("it-load", now - now % 900_000, LOAD_KW))
        if submitted:
            made.submit()
        try:
            yield made
        finally:
            flink = FlinkRest(deployment.where.flink_url)
            for job_id in made.ids.values():
                flink.cancel_if_running(job_id)
