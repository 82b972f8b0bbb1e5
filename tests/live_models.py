"""Readings and answers of tests that swap models in the running job: hourly meters from one start, by hour."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import orjson
from prometheus_client.parser import text_string_to_metric_families

from infra.embedded.stack import Stack
from tests.pipeline import Deployment

HOUR = 3_600_000
START = 1_704_067_200_000
STEADY = ("--parallelism", "2", "--idle-timeout-s", "3600")
"""Options: no pause of the test lets event time pass a partition by (docs/decisions/010). Each must have a meter."""
KIND = {"kind": "interval", "interval_s": 3600, "unit": "kWh"}


def usage(hour: int, meter: int) -> float:
    """kWh of the hour that ends then: a daily curve, another level for each meter, some noise."""
    noise = float(np.random.default_rng([hour, meter]).normal(0, 0.3))
    return round(float((meter + 1) * (3 + np.sin(hour / 24 * 2 * np.pi)) + noise), 3)


def records(meters: Sequence[str], hours: range) -> list[tuple[bytes, bytes]]:
    """The readings of some hours, in order: keys and values for `meter.readings`."""
    return [
        (name.encode(), orjson.dumps({"meter_id": name, "value": usage(hour, i), "ts": START + hour * HOUR, **KIND}))
        for hour in hours
        for i, name in enumerate(meters)
    ]


def issued(deployment: Deployment) -> dict[tuple[str, int], str]:
    """The model's checksum of each stored forecast of a deployment's meters, by meter and hour of issue."""
    rows = deployment.rows(
        "SELECT meter_id, (extract(epoch FROM issued_at) * 1000)::bigint, model_sha256 FROM forecast_issue"
        " WHERE starts_with(meter_id, %s)",
        (deployment.prefix,),
    )
    return {(meter, (at - START) // HOUR): sha for meter, at, sha in rows}


def base_sha256(path: Path) -> str:
    """The checksum in the card beside a model."""
    return str(orjson.loads(path.with_name("card.json").read_bytes())["sha256"])


def metrics(stack: Stack, job: str) -> dict[str, float]:
    """A job's metrics of the TaskManager, the subtasks added up, by the last part of their names."""
    listed = json.loads((stack.options.data_dir / "prometheus-targets.json").read_text())
    (address,) = [t["targets"][0] for t in listed if t["labels"]["process"] == "taskmanager"]
    with urlopen(f"http://{address}/metrics", timeout=30) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    found: dict[str, float] = {}
    for sample in (sample for family in families for sample in family.samples):
        if sample.labels.get("job_id") == job:
            name = sample.name.rpartition("operator_")[2] + sample.labels.get("role", "")
            found[name] = found.get(name, 0.0) + sample.value
    return found
