"""A TaskManager killed with -9 while a new champion takes over: each window once, by the model of its time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from infra.embedded.stack import Stack
from jobs.models import announce
from jobs.models.registry import Registry
from jobs.submission import submit
from operators.serving.plan import CHAMPION
from tests.faults.chaos import Chaos, until
from tests.faults.schedule import Fault
from tests.live_models import HOUR, START, STEADY, base_sha256, issued, records
from tests.pipeline import Deployment
from tests.unit.serving_support import KEY, PUBLIC, trained

PREFIX = "swapkill-"
NAME = "swapped"
METERS = [f"{PREFIX}{name}" for name in "abcdef"]
SWAPS = (200, 215, 230)
"""Hours from which the versions serve; the TaskManager is killed just before each."""
FIRST, LAST = 172, 250


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_swap_is_exact_across_kills(stack: Stack, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry", PUBLIC)
    versions = [registry.register(trained(tmp_path / f"{n}", 1.1 + n / 10), KEY, NAME) for n in range(len(SWAPS))]
    base = trained(tmp_path / "base", 1.0)
    deployment = Deployment.on(stack, PREFIX)
    deployment.produce(records(METERS, range(1, FIRST)))
    options = [*STEADY, "--model", str(base), "--model-keys", PUBLIC[0], "--model-name", NAME]
    ids = submit(deployment.settings, deployment.where, ("forecast",), [*deployment.options, *options])
    chaos = Chaos(stack, deployment, ids, options)
    try:
        until(lambda: issued(deployment), "first forecasts")
        for version, hour in zip(versions, SWAPS, strict=True):
            said = announce.of_version(version, CHAMPION, START + hour * HOUR, "a test")
            announce.announce(deployment.where, NAME, said, PREFIX)
        hour = FIRST
        for swap in SWAPS:
            deployment.produce(records(METERS, range(hour, swap - 1)))
            until(lambda swap=swap: (METERS[0], swap - 6) in issued(deployment), f"forecasts near hour {swap}")
            # What follows is on its way while the process dies: the swap is replayed from the last checkpoint.
            deployment.produce(records(METERS, range(swap - 1, swap + 3)))
            chaos.run(Fault(0.0, "taskmanager"))
            hour = swap + 3
        deployment.produce(records(METERS, range(hour, LAST + 2)))
        until(
            lambda: all((meter, LAST) in issued(deployment) for meter in METERS),
            lambda: f"the last forecasts; jobs {chaos.states()}",
        )
        messages = until(
            lambda: (found := deployment.consume("forecasts")) and len(found) >= len(issued(deployment)) and found,
            "all messages",
        )
        found = issued(deployment)
    finally:
        chaos.end()
    limits = [0, *SWAPS, LAST + 1]
    models = [base_sha256(base), *(version.sha256 for version in versions)]
    for (meter, hour), sha in found.items():
        (wanted,) = [sha for sha, low, high in zip(models, limits, limits[1:], strict=False) if low <= hour < high]
        assert sha == wanted, (meter, hour)
    assert found.keys() == {(meter, hour) for meter in METERS for hour in range(168, LAST + 1)}
    assert set(Counter((m["meter_id"], m["issued_at"]) for m in messages).values()) == {1}
    assert len(messages) == len(found)
    by_message = {(m["meter_id"], m["issued_at"]): m["model_sha256"] for m in messages}
    assert Counter(by_message.values()) == Counter(found.values())
