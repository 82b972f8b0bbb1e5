"""A device on real Kafka: setpoints followed and answered, a broker that is killed, a backlog that is stale."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from test_replay import Broker

from infra.embedded.stack import Stack
from jobs.device import AssetSpec, DeviceClient, LeaseKeeper
from jobs.device.kafka_link import KafkaLink
from jobs.device.setpoint import iso
from jobs.device.simulated import SimulatedBattery, SimulatedDriver
from jobs.settings import Settings, addresses
from operators.control_lifecycle.ack_loop import AckLoop

SPEC = AssetSpec("battery-1", "battery", -5_000, 5_000, ramp_w_per_s=100_000, capacity_wh=10_000)
WITHIN_S = 90


def until(condition: Callable[[], Any], what: str) -> Any:
    """The condition's value, once it is true."""
    deadline = time.monotonic() + WITHIN_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {WITHIN_S} s"
        threading.Event().wait(0.05)
    return found


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def setpoint(name: str, value_w: float = 1_000.0, at_ms: int | None = None, **more: Any) -> dict[str, Any]:
    """A live lease of a minute, from now."""
    return {
        "setpoint_id": name, "asset_id": SPEC.asset_id, "site_id": "hq", "type": "POWER", "value_w": value_w,
        "execution_time": iso(wall_ms() if at_ms is None else at_ms), "duration_s": None, "ttl_s": 60,
        "failsafe": {"value_w": 0, "min_duration_s": 1}, "priority": 2, "mode": "live", "supersedes": None,
    } | more  # fmt: skip


class Site:
    """One running device, and the controller's side of both topics."""

    def __init__(self, bootstrap: str, prefix: str = "") -> None:
        self.names = (prefix + "control.setpoints", prefix + "control.acks")
        self.bootstrap = bootstrap
        self.link = KafkaLink(bootstrap, *self.names)
        self.driver = SimulatedDriver(LeaseKeeper(SPEC), SimulatedBattery(SPEC, 5_000))
        self.client = DeviceClient([self.driver], self.link)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.client.run, args=(self._stop, 0.02))
        self._thread.start()

    @property
    def state(self) -> str:
        return self.driver.keeper.power.state

    @property
    def value_w(self) -> float | None:
        return self.driver.keeper.power.value_w

    def put(self, *messages: dict[str, Any] | bytes) -> None:
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, acks="all")
        for message in messages:
            value = message if isinstance(message, bytes) else json.dumps(message).encode()
            producer.send(self.names[0], value, SPEC.asset_id.encode())
        producer.flush(30)
        producer.close()

    def acks(self) -> list[dict[str, Any]]:
        consumer = KafkaConsumer(
            self.names[1], bootstrap_servers=self.bootstrap, auto_offset_reset="earliest", consumer_timeout_ms=1_500
        )
        try:
            return [json.loads(record.value) for record in consumer]
        finally:
            consumer.close()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(30)
        self.link.close()


def created(bootstrap: str, prefix: str) -> str:
    """Topics of one test's own; the prefix."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic(prefix + name, 4, 1) for name in ("control.setpoints", "control.acks")])
    admin.close()
    return prefix


@pytest.fixture
def on_stack(stack: Stack) -> Iterator[Site]:
    settings = Settings.load({"ENERGYAI_HOME": str(stack.options.home)}, stack.options.data_dir)
    kafka = addresses(settings).kafka
    site = Site(kafka, created(kafka, "device-"))
    yield site
    site.close()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker of these tests' own, to be killed."""
    made = Broker(tmp_path_factory.mktemp("device-broker"))
    made.start()
    try:
        yield made
    finally:
        made.process.terminate()
        made.process.wait(30)


def test_setpoints_are_followed_answered_and_end_in_failsafe(on_stack: Site) -> None:
    site = on_stack
    first = setpoint("s1")
    site.put(
        first, first, b"\x00no json", setpoint("nan", float("nan")), setpoint("shadow", 4_000, mode="shadow"),
        setpoint("far out", 50_000), setpoint("stale", 3_000, at_ms=wall_ms() - 100_000),
    )  # fmt: skip
    until(lambda: site.value_w == 1_000, "s1 holds")
    until(lambda: (site.driver.measured_w() or 0) > 900, "the battery charges")
    site.put(setpoint("s2", -2_000, ttl_s=2, supersedes="s1"))
    until(lambda: site.value_w == -2_000, "s2 holds")
    until(lambda: site.state == "failsafe", "its lease ends")
    assert site.value_w == 0
    until(lambda: time.monotonic() > site.driver.keeper.power.hold_until_s, "the minimum duration is over")
    site.put(setpoint("s3", 500))
    until(lambda: site.value_w == 500, "a fresh one ends failsafe")

    def found() -> list[tuple[str, str]]:
        return [(a["setpoint_id"], a["status"]) for a in site.acks()]

    wanted = [
        ("s1", "ACCEPTED"), ("s1", "STARTED"), ("nan", "REJECTED"), ("far out", "REJECTED"), ("stale", "REJECTED"),
        ("s1", "SUCCEEDED"), ("s2", "ACCEPTED"), ("s2", "STARTED"), ("s2", "ABORTED"),
        ("s3", "ACCEPTED"), ("s3", "STARTED"),
    ]  # fmt: skip
    got = until(lambda: (acks := found())[-1:] == wanted[-1:] and acks, "all are answered")
    assert set(got) == set(wanted)
    # The controller's side reads the same messages.
    loop = AckLoop()
    loop.setpoint(first)
    assert all(loop.ack(ack) for ack in site.acks())
    assert not any(action["action"] == "reissue" for action in loop.advance(wall_ms() + 10_000))


def test_a_device_that_starts_late_finds_its_running_lease(broker: Broker) -> None:
    prefix = created(broker.bootstrap, "late-")
    first = Site(broker.bootstrap, prefix)
    first.put(setpoint("s1", 1_500), setpoint("s2", 1_600))
    until(lambda: first.value_w == 1_600, "s2 holds")
    first.close()
    again = Site(broker.bootstrap, prefix)
    try:
        until(lambda: again.value_w == 1_600, "s2 holds again")
    finally:
        again.close()


def test_a_killed_broker_is_waited_for_and_nothing_stale_is_acted_on(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    site = Site(broker.bootstrap, created(broker.bootstrap, "kill-"))
    newcomer = None
    try:
        site.put(setpoint("s1", ttl_s=4))
        until(lambda: site.value_w == 1_000, "s1 holds")
        broker.kill()
        # Nothing more can come: the device fails safe by itself, on time. One that starts now waits for a broker.
        until(lambda: site.state == "failsafe", "its lease ends without a broker")
        newcomer = Site(broker.bootstrap, "kill-")
        until(lambda: "again in" in caplog.text, "it says that there is no broker")
        assert (newcomer.state, newcomer.link.connected.is_set()) == ("init", False)
        seen = watched(site)
        broker.start()
        # What waited on the topic is old by now, each but the last.
        now = wall_ms()
        stale = [setpoint(f"old{i}", 2_000 + i, at_ms=now - 61_000 - i) for i in range(200)]
        site.put(*stale, setpoint("fresh", 777))
        for one in (site, newcomer):
            until(lambda one=one: one.value_w == 777, "the fresh one holds after the reconnection")
        assert set(seen) <= {0.0, 777.0}
        until(lambda: len([a for a in site.acks() if a["status"] == "REJECTED"]) >= 400, "the stale ones are answered")
        assert site.link.dropped_acks == 0
    finally:
        for one in (site, newcomer):
            if one is not None:
                one.close()


def watched(site: Site) -> list[float | None]:
    """What holds after each tick from now on."""
    seen: list[float | None] = []
    tick = site.client.tick

    def noted() -> Any:
        made = tick()
        seen.append(site.value_w)
        return made

    site.client.tick = noted  # type: ignore[method-assign]
    return seen
