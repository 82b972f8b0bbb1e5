"""The client on a link of the test's own."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import Any

from jobs.device import AssetSpec, DeviceClient, DeviceError, LeaseKeeper, Now
from jobs.device.client import Received
from tests.unit.test_device_keeper import T0, setpoint


class Memory:
    """A link: what the test puts in, and what came out."""

    def __init__(self) -> None:
        self.inbox: list[Received] = []
        self.acks: list[dict[str, Any]] = []

    def receive(self) -> list[Received]:
        found, self.inbox = self.inbox, []
        return found

    def send(self, acks: Sequence[dict[str, Any]]) -> None:
        self.acks += acks

    def put(self, message: dict[str, Any], sent_ms: int | None = None) -> None:
        self.inbox.append(Received(json.dumps(message).encode(), message["asset_id"], sent_ms))

    def take(self) -> list[tuple[str, str]]:
        found, self.acks = [(a["setpoint_id"], a["status"]) for a in self.acks], []
        return found


class Dial:
    """A device that shows its power; `broken` makes it refuse."""

    def __init__(self, name: str) -> None:
        self.keeper = LeaseKeeper(AssetSpec(name, "battery", -5_000, 5_000))
        self.power_w = 0.0
        self.broken = False

    def apply(self, power_w: float, now: Now) -> None:
        if self.broken:
            raise DeviceError("no answer")
        self.power_w = power_w

    def measured_w(self) -> float | None:
        return self.power_w

    def site_import_w(self) -> float | None:
        return None


def bench(*names: str) -> tuple[DeviceClient, Memory, list[Dial], list[float]]:
    link, dials, clock = Memory(), [Dial(n) for n in names], [0.0]
    client = DeviceClient(dials, link, lambda: Now(T0 + round(clock[0] * 1000), clock[0]))
    return client, link, dials, clock


def test_each_device_follows_its_own_setpoints() -> None:
    client, link, (one, two), clock = bench("b", "c")
    link.put(setpoint("s", 1_000))
    link.put(setpoint("t", 2_000, asset_id="c"))
    link.put(setpoint("u", 2_000, asset_id="elsewhere"))
    link.inbox.append(Received(b"\xff", "b"))
    client.tick()
    assert (one.power_w, two.power_w) == (1_000, 2_000)
    assert link.take() == [("s", "ACCEPTED"), ("s", "STARTED"), ("t", "ACCEPTED"), ("t", "STARTED")]
    clock[0] = 120
    client.tick()
    assert (one.power_w, two.power_w) == (0, 0)
    assert all(a["measured_w"] in (1_000, 2_000) for a in link.acks)


def test_a_backlog_after_an_outage_is_never_acted_on_where_it_is_stale() -> None:
    client, link, (one,), clock = bench("b")
    link.put(setpoint("s0", 100))
    client.tick()
    clock[0] = 2_000
    for i in range(1, 33):
        link.put(setpoint(f"s{i}", 100 + i, at_s=60 * i))
    client.tick()
    # In failsafe since the outage was seen: the lease ended in it, whatever the backlog says.
    assert (one.power_w, one.keeper.power.state) == (0, "failsafe")
    assert {status for _, status in link.take()[2:]} == {"REJECTED", "ABORTED"}
    fresh, link, (one,), clock = bench("b")
    clock[0] = 2_000
    for i in range(1, 34):
        link.put(setpoint(f"s{i}", 100 + i, at_s=60 * i))
    fresh.tick()
    assert one.power_w == 133


def test_a_message_from_the_future_is_not_trusted_unless_times_are_a_replays() -> None:
    client, link, (one,), _ = bench("b")
    link.put(setpoint("s", 100), sent_ms=T0 + 60_000)
    client.tick()
    assert link.take() == [("s", "REJECTED")]
    client.trust_sent_ms = False
    link.put(setpoint("t", 100), sent_ms=T0 + 60_000)
    client.tick()
    assert one.power_w == 100


def test_a_broken_device_says_so_and_does_not_stop_the_others() -> None:
    client, link, (one, two), _ = bench("b", "c")
    one.broken = True
    link.put(setpoint("s", 1_000))
    link.put(setpoint("t", 2_000, asset_id="c"))
    client.tick()
    assert two.power_w == 2_000
    assert ("s", "ABORTED") in link.take()
    assert one.keeper.power.state == "failsafe"


def test_it_runs_until_it_is_stopped() -> None:
    client, link, (one,), _ = bench("b")
    stop = threading.Event()
    link.put(setpoint("s", 1_000))
    ticks = client.tick

    def tick() -> list[Any]:
        if one.power_w:
            stop.set()
        return ticks()

    client.tick = tick  # type: ignore[method-assign]
    client.run(stop, period_s=0.001)
    assert one.power_w == 1_000
