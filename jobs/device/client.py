"""A device on Kafka: setpoints in, the device driven, acknowledgements out."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jobs.device.keeper import Command, LeaseKeeper
from jobs.device.lane import Ack
from jobs.device.setpoint import Now, iso


class DeviceError(Exception):
    """The device did not take a command."""


class Device(Protocol):
    """What a client drives. Powers in W, import positive; None when not known."""

    keeper: LeaseKeeper

    def apply(self, power_w: float, now: Now) -> None:
        """Sets the power.

        Raises:
            DeviceError: it cannot; its lease ends in failsafe.
        """

    def measured_w(self) -> float | None:
        """The device's own power."""

    def site_import_w(self) -> float | None:
        """The site's net import, this device included."""


@runtime_checkable
class Reporting(Protocol):
    """A device that knows more of itself than its power."""

    def status(self) -> Mapping[str, Any]:
        """Fields of topic `control.states`: `content_wh`, `connected`, `needs_wh`, `ready_by`; what is not known is
        left out."""


@dataclass(frozen=True)
class Received:
    """One message; `sent_ms` is the broker's time of it, ms UTC, and `asset_id` its key."""

    value: bytes
    asset_id: str | None = None
    sent_ms: int | None = None


class Link(Protocol):
    """Where messages come from and go to. Neither call may wait: a device must not stand still with its network."""

    def receive(self) -> list[Received]:
        """What came since the last call, in order; nothing while more of a backlog is still coming."""

    def send(self, acks: Sequence[Ack]) -> None:
        """Takes acknowledgements to be sent when that is possible."""

    def report(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Takes messages of topic `control.states` likewise."""


class DeviceClient:
    """Drives devices by the setpoints of a link, and answers them.

    Args:
        devices: of this client; messages for other assets are passed over.
        link: a `KafkaLink`, or a test's.
        clock: both clocks of the device.
        trust_sent_ms: whether the broker's times and `clock` are the same time; False when `clock` is a replay's.
        report_s: how often devices report their power and status, s; None: never.
    """

    def __init__(
        self,
        devices: Sequence[Device],
        link: Link,
        clock: Callable[[], Now] = Now.read,
        *,
        trust_sent_ms: bool = True,
        report_s: float | None = None,
    ) -> None:
        self.devices = {device.keeper.spec.asset_id: device for device in devices}
        self.link = link
        self.clock = clock
        self.trust_sent_ms = trust_sent_ms
        self.report_s = report_s
        self._reported_s = float("-inf")

    def tick(self) -> list[Command]:
        """Takes what came, then commands each device once. A whole backlog is seen before any of it is acted on."""
        acks: list[Ack] = []
        now = self.clock()
        for message in self.link.receive():
            device = self._device_of(message)
            if device is not None:
                sent_ms = message.sent_ms if self.trust_sent_ms else None
                acks += device.keeper.offer(message.value, now, sent_ms=sent_ms)
        commands = []
        for device in self.devices.values():
            command = device.keeper.step(now, measured_w=device.measured_w(), site_import_w=device.site_import_w())
            acks += command.acks
            commands.append(command)
            try:
                device.apply(command.power_w, now)
            except DeviceError as error:
                acks += device.keeper.fault(now, f"device_error: {error}")
        if acks:
            self.link.send(acks)
        if self.report_s is not None and now.mono_s - self._reported_s >= self.report_s:
            self._reported_s = now.mono_s
            self.link.report([_state(device, now) for device in self.devices.values()])
        return commands

    def run(self, stop: threading.Event, period_s: float = 1.0) -> None:
        """Ticks each `period_s` until `stop`."""
        while not stop.is_set():
            self.tick()
            stop.wait(period_s)

    def _device_of(self, message: Received) -> Device | None:
        """By the message's own word; its key is only a hint."""
        try:
            found = json.loads(message.value)
            name = found["asset_id"]
        except (ValueError, KeyError, TypeError, RecursionError):
            name = message.asset_id
        return self.devices.get(name) if isinstance(name, str) else None


def _state(device: Device, now: Now) -> dict[str, Any]:
    """A message of topic `control.states`."""
    more = device.status() if isinstance(device, Reporting) else {}
    return {
        "asset_id": device.keeper.spec.asset_id,
        "ts": iso(now.wall_ms),
        "power_w": device.measured_w(),
        **more,
    }
