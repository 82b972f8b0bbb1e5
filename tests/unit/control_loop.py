"""A site's whole loop in one process and on simulated clocks: controller, a bus that may fail, devices with leases."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from jobs.device import AssetSpec, LeaseKeeper, Now
from jobs.device.simulated import SimulatedBattery, SimulatedDevice, SimulatedEv, SimulatedLoad
from operators.control.solver import Solver
from operators.control_lifecycle.dr_book import DrBook
from operators.control_lifecycle.times import iso
from operators.control_site import feeds
from operators.control_site.controller import SiteController
from operators.control_site.memory import Memory
from operators.control_site.outputs import SETPOINTS, Output
from operators.control_site.situation import place_of
from operators.readings import Kind, Quality

START_MS = 1_767_571_200_000
"""2026-01-05 00:00 UTC, a Monday."""
SLOT_MS = 900_000
STEP_S = 10
READING_S = 60
LOAD = "hq-load"
GRID = "hq-grid"
MIDNIGHT_KW, NOON_KW = 20.0, 46.0

SITE: dict[str, Any] = {
    "site_id": "hq", "tz": "UTC", "limit_kw": 50.0, "mode": "live", "meters": [GRID, LOAD],
    "settings": {"load_meters": [LOAD], "grid_meters": [GRID]},
    "tariff": {"energy": [{"from": "07:00", "to": "20:00", "price": 0.34}], "default_price": 0.2},
    "assets": [
        {"asset_id": "battery", "type": "battery", "min_w": -15000, "max_w": 15000, "capacity_wh": 30000,
         "efficiency": 0.9, "ramp_w_per_s": 2000},
        {"asset_id": "charger", "type": "ev", "max_w": 11000, "priority": 2,
         "settings": {"energy_wh": 20000, "arrives": "08:00", "ready_by": "17:00"}},
        {"asset_id": "cooling", "type": "flexible_load", "max_w": 6000, "priority": 1},
    ],
}  # fmt: skip


def load_kw(time_ms: int) -> float:
    """The building: low at night, high at noon, somewhat different each quarter hour."""
    hour = time_ms % 86_400_000 / 3_600_000
    shape = float(np.exp(-(((hour - 12.5) / 4.0) ** 2)))
    wobble = np.sin(time_ms / SLOT_MS * 2.3) * 1.5
    return MIDNIGHT_KW + (NOON_KW - MIDNIGHT_KW) * shape + float(wobble)


def forecast_message(now_ms: int, scale: float = 1.0) -> dict[str, Any]:
    """What the forecast job would send at a quarter hour for the load's meter."""
    starts = now_ms - now_ms % SLOT_MS + np.arange(96) * SLOT_MS
    kwh = np.array([load_kw(int(t) + SLOT_MS // 2) for t in starts]) / 4 * scale
    quantiles = {name: (kwh * (1 + 0.05 * (i - 4) / 4)).tolist() for i, name in enumerate(feeds.QUANTILE_NAMES)}
    start = iso(int(starts[0]))
    return {"meter_id": LOAD, "issued_at": start, "target_start": start, "step_s": 900, "kwh": quantiles,
            "model_id": "m", "model_sha256": "abc"}  # fmt: skip


@dataclass
class Faults:
    """What is broken now; all of it may change while the loop runs."""

    controller_down: bool = False
    setpoints_cut: bool = False
    acks_cut: bool = False
    readings_cut: bool = False
    forecast_frozen: bool = False
    bad_price: bool = False
    device_jump_s: float = 0.0
    """The devices' wall clock is off by so much."""
    controller_jump_s: float = 0.0
    """So is the clock of the meters and the controller."""
    garbage: bool = False


@dataclass
class Lease:
    """The longest that a device may follow what it was sent last."""

    until_s: float
    failsafe_w: float


@dataclass
class Loop:
    """Steps of ten seconds; `bus` may drop or change what is sent."""

    site: Mapping[str, Any] = field(default_factory=lambda: SITE)
    now_ms: int = START_MS + 6 * 3_600_000
    faults: Faults = field(default_factory=Faults)
    bus: Callable[[Output], Output | None] = lambda output: output
    sent: list[dict[str, Any]] = field(default_factory=list)
    imports: list[tuple[int, float]] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    restarts: int = 0

    def __post_init__(self) -> None:
        self.mono_s = 0.0
        specs = {a["asset_id"]: AssetSpec.of(a) for a in self.site["assets"]}
        plants = {
            "battery": lambda s: SimulatedBattery(s, 15_000.0),
            "ev": lambda s: SimulatedEv(s, 0.0),
            "flexible_load": SimulatedLoad,
        }
        self.devices = {}
        for name, told in specs.items():
            spec = replace(told, capacity_wh=40_000.0) if told.type == "ev" else told
            self.devices[name] = SimulatedDevice(LeaseKeeper(spec), plants[spec.type](spec))
        self.saved: tuple[bytes | None, bytes | None, bytes | None] = (None, None, None)
        self.book = DrBook()
        self.controller = self._started()
        self.register = {GRID: 1000.0, LOAD: 1000.0}
        self.slot_kwh: dict[int, float] = {}
        self.delivered: list[dict[str, Any]] = []

    def _started(self) -> SiteController:
        made = SiteController(Memory.restored(*self.saved), Solver(warm=False))
        made.configure(place_of(self.site, {}), self.book)
        return made

    def save(self) -> None:
        """A checkpoint."""
        memory = self.controller.memory
        self.saved = (memory.core(), memory.plans(), memory.past.dump())

    def restart(self) -> None:
        """The controller comes back from its last checkpoint."""
        self.restarts += 1
        self.controller = self._started()

    def run(self, seconds: float) -> None:
        """Time passes."""
        for _ in range(int(seconds // STEP_S)):
            self.step()

    def step(self) -> None:
        """Devices act for ten seconds; meters and devices tell; the controller decides."""
        faults = self.faults
        now = Now(self.now_ms + round(1000 * faults.device_jump_s), self.mono_s)
        acks = []
        for setpoint in self.delivered:
            for device in self.devices.values():
                acks += device.keeper.offer(json.dumps(setpoint), now)
        self.delivered = []
        base = load_kw(self.now_ms)
        for device in self.devices.values():
            acks += device.step(now, STEP_S).acks
        total = base + sum(device.power_w for device in self.devices.values()) / 1000
        self.imports.append((self.now_ms, total))
        self.register[GRID] += total * STEP_S / 3600
        self.register[LOAD] += base * STEP_S / 3600
        slot = self.now_ms - self.now_ms % SLOT_MS
        self.slot_kwh[slot] = self.slot_kwh.get(slot, 0.0) + total * STEP_S / 3600
        self.now_ms += STEP_S * 1000
        self.mono_s += STEP_S
        if not faults.controller_down:
            self._control(acks)

    def _control(self, acks: list[dict[str, Any]]) -> None:
        faults, controller = self.faults, self.controller
        clock = self.now_ms + round(1000 * faults.controller_jump_s)
        if faults.garbage:
            self._garbage(clock)
        if not faults.acks_cut:
            for ack in acks:
                controller.ack(ack)
        for name, device in self.devices.items():
            content = getattr(device.plant, "energy_wh", None)
            state = {"asset_id": name, "ts": iso(clock), "power_w": device.power_w, "content_wh": content}
            controller.report(feeds.report(state))
        if self.now_ms % SLOT_MS == 0 and not faults.forecast_frozen:
            controller.forecast(feeds.forecast(forecast_message(clock)))
        if self.now_ms % (READING_S * 1000) == 0 and not faults.readings_cut:
            for meter, value in self.register.items():
                controller.reading(
                    feeds.Reading(meter, "1-0:1.8.0", Kind.REGISTER, clock, value, 0, Quality.MEASURED)
                )  # fmt: skip
        made = controller.decide(clock)
        self.outputs += made
        for output in made:
            if output.topic != SETPOINTS:
                continue
            setpoint = json.loads(json.dumps(output.value, allow_nan=False))
            self.sent.append(setpoint)
            passed = None if faults.setpoints_cut else self.bus(output)
            if passed is not None:
                self.delivered.append(json.loads(json.dumps(passed.value)))

    def _garbage(self, clock: int) -> None:
        """What nobody should send; nothing of it may count."""
        for meter in (GRID, LOAD):
            for value in (1e12, -5.0):
                reading = feeds.Reading(meter, "1-0:1.7.0", Kind.INSTANT, clock, value, 0, Quality.MEASURED)
                self.controller.reading(reading) if abs(value) > 1e6 else None
        for bad in ({}, {"asset_id": "battery", "ts": iso(clock), "power_w": float("nan")}, {"asset_id": 3, "ts": "x"}):
            try:
                self.controller.report(feeds.report(bad))
            except feeds.FeedError:
                continue
            raise AssertionError(f"{bad} was taken")

    def means(self) -> dict[int, float]:
        """Mean import of each whole quarter hour, kW."""
        return {slot: kwh * 4 for slot, kwh in self.slot_kwh.items() if slot + SLOT_MS <= self.now_ms}
