"""Simulated devices that obey physics whatever they are told, and a site of them: one step at a time.

site = SimulatedSite([SimulatedDevice(LeaseKeeper(spec), SimulatedBattery(spec, energy_wh=5_000))])
for load_w in …:
    result = site.step(setpoints, dt_s=60, base_w=load_w)      # result.import_w, result.acks
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from jobs.device.keeper import Command, LeaseKeeper
from jobs.device.lane import Ack
from jobs.device.options import AssetSpec
from jobs.device.setpoint import Now


class Plant(Protocol):
    """The physical part of a device. Power in W, import positive."""

    def apply(self, power_w: float, now: Now, dt_s: float) -> float:
        """Runs for `dt_s` as near `power_w` as it can; the mean power that it had."""


class SimulatedBattery:
    """A battery: no fuller than its capacity, never below empty; `efficiency` is lost half in, half out.

    `energy_wh` is what is in it.
    """

    def __init__(self, spec: AssetSpec, energy_wh: float) -> None:
        self.spec = spec
        self.energy_wh = min(max(energy_wh, 0.0), spec.capacity_wh)

    @property
    def soc(self) -> float:
        """State of charge, 0..1."""
        return self.energy_wh / self.spec.capacity_wh if self.spec.capacity_wh else 0.0

    def apply(self, power_w: float, now: Now, dt_s: float) -> float:
        if dt_s <= 0:
            return 0.0
        hours = dt_s / 3600
        one_way = math.sqrt(self.spec.efficiency)
        most = (self.spec.capacity_wh - self.energy_wh) / one_way / hours
        least = -self.energy_wh * one_way / hours
        power = min(max(self.spec.clip(power_w), least), most)
        stored = power * hours * (one_way if power > 0 else 1 / one_way)
        self.energy_wh = min(max(self.energy_wh + stored, 0.0), self.spec.capacity_wh)
        return power


class SimulatedEv:
    """A car that is there at times: `plugged(now)` says when; away, it takes nothing.

    A car that cannot discharge has `min_w` 0 or more.
    """

    def __init__(self, spec: AssetSpec, energy_wh: float, plugged: Callable[[Now], bool] = lambda now: True) -> None:
        self.battery = SimulatedBattery(spec, energy_wh)
        self.plugged = plugged

    @property
    def energy_wh(self) -> float:
        """What is in it."""
        return self.battery.energy_wh

    def apply(self, power_w: float, now: Now, dt_s: float) -> float:
        return self.battery.apply(power_w, now, dt_s) if self.plugged(now) else 0.0


class SimulatedLoad:
    """A load that takes what it wants, and no more than it is allowed. `wanted_w(now)`: W."""

    def __init__(self, spec: AssetSpec, wanted_w: Callable[[Now], float] | None = None) -> None:
        self.spec = spec
        self.wanted_w = wanted_w or (lambda now: spec.max_w)

    def apply(self, power_w: float, now: Now, dt_s: float) -> float:
        return self.spec.clip(min(power_w, self.wanted_w(now)))


@dataclass
class SimulatedDevice:
    """A keeper and what it drives; `power_w` is the mean of the last step."""

    keeper: LeaseKeeper
    plant: Plant
    power_w: float = 0.0

    def step(self, now: Now, dt_s: float, site_import_w: float | None = None, **grid: float | None) -> Command:
        """Commands and runs the plant from `now` on for `dt_s`."""
        command = self.keeper.step(now, measured_w=self.power_w, site_import_w=site_import_w, **grid)
        self.power_w = self.plant.apply(command.power_w, now, dt_s)
        return command


class SimulatedDriver:
    """A simulated device in real time, for a `DeviceClient`. The plant runs for as long as passed between two calls.

    `site_import` gives the site's net import (W), when somebody measures it.
    """

    def __init__(
        self, keeper: LeaseKeeper, plant: Plant, site_import: Callable[[], float | None] = lambda: None
    ) -> None:
        self.keeper = keeper
        self.plant = plant
        self.site_import_w = site_import
        self._power_w: float | None = None
        self._command_w = 0.0
        self._since: Now | None = None

    def apply(self, power_w: float, now: Now) -> None:
        if self._since is not None and now.mono_s > self._since.mono_s:
            self._power_w = self.plant.apply(self._command_w, self._since, now.mono_s - self._since.mono_s)
        self._command_w, self._since = power_w, now

    def measured_w(self) -> float | None:
        """Mean power of the last span, W; None before the first."""
        return self._power_w

    def status(self) -> dict[str, Any]:
        """What the plant knows of itself."""
        if isinstance(self.plant, SimulatedBattery):
            return {"content_wh": self.plant.energy_wh}
        if isinstance(self.plant, SimulatedEv) and self._since is not None:
            return {"connected": self.plant.plugged(self._since)}
        return {}


@dataclass(frozen=True)
class SiteStep:
    """One step: the site's mean net import (W), each asset's power (W) and command, and the acknowledgements."""

    import_w: float
    power_w: dict[str, float]
    commands: dict[str, Command]
    acks: list[Ack] = field(default_factory=list)


def step(
    devices: Iterable[SimulatedDevice],
    setpoints: Iterable[bytes | str | Mapping[str, Any]],
    dt_s: float,
    *,
    now: Now,
    base_w: float = 0.0,
    **grid: float | None,
) -> SiteStep:
    """Delivers setpoints (in the order given, each to its own device) and runs all devices for `dt_s`.

    Args:
        devices: of one site.
        setpoints: messages of `control.setpoints`, none, some or repeated.
        dt_s: seconds.
        now: both clocks at the start of the step.
        base_w: what the rest of the site imports in this step, W; PV counts negative.
        grid: `grid_import_max_w`, `grid_export_max_w` of `LeaseKeeper.step`.
    """
    all_devices = list(devices)
    acks: list[Ack] = []
    for setpoint in setpoints:
        for device in all_devices:
            acks += device.keeper.offer(setpoint, now)
    commands = {}
    for device in all_devices:
        # Each sees the others as they are by now: the ones before it have already moved.
        site_w = base_w + sum(d.power_w for d in all_devices)
        command = device.step(now, dt_s, site_w, **grid)
        commands[device.keeper.spec.asset_id] = command
        acks += command.acks
    powers = {d.keeper.spec.asset_id: d.power_w for d in all_devices}
    return SiteStep(base_w + sum(powers.values()), powers, commands, acks)


class SimulatedSite:
    """Devices and the two clocks; the wall clock can be made to jump."""

    def __init__(self, devices: Sequence[SimulatedDevice], start_ms: int = 0) -> None:
        self.devices = list(devices)
        self.now = Now(start_ms, 0.0)

    def jump(self, seconds: float) -> None:
        """Sets the wall clock forward (or back) without time passing."""
        self.now = Now(self.now.wall_ms + round(seconds * 1000), self.now.mono_s)

    def step(
        self,
        setpoints: Iterable[bytes | str | Mapping[str, Any]],
        dt_s: float,
        base_w: float = 0.0,
        **grid: float | None,
    ) -> SiteStep:
        """`step`, then both clocks move on by `dt_s`."""
        result = step(self.devices, setpoints, dt_s, now=self.now, base_w=base_w, **grid)
        self.now = Now(self.now.wall_ms + round(dt_s * 1000), self.now.mono_s + dt_s)
        return result
