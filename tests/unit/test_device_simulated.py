"""Simulated devices and a site of them, step by step."""

from __future__ import annotations

import math

import pytest

from jobs.device import AssetSpec, LeaseKeeper, Now
from jobs.device.simulated import SimulatedBattery, SimulatedDevice, SimulatedEv, SimulatedLoad, SimulatedSite
from tests.unit.test_device_keeper import T0, setpoint

NOW = Now(T0, 0.0)
BATTERY = AssetSpec("b", "battery", -5_000, 5_000, capacity_wh=2_000, efficiency=0.81)


def test_a_battery_fills_empties_and_loses() -> None:
    battery = SimulatedBattery(BATTERY, 0)
    assert battery.apply(1_000, NOW, 3_600) == 1_000
    assert battery.energy_wh == pytest.approx(900)
    assert battery.apply(5_000, NOW, 3_600) == pytest.approx(1_100 / 0.9)
    assert battery.soc == pytest.approx(1)
    assert battery.apply(-9_000, NOW, 3_600) == pytest.approx(-1_800)
    assert battery.energy_wh == pytest.approx(0)
    assert battery.apply(-1_000, NOW, 3_600) == 0
    assert battery.apply(1_000, NOW, 0) == 0


def test_a_car_takes_nothing_while_it_is_away() -> None:
    spec = AssetSpec("e", "ev", 0, 11_000, capacity_wh=50_000)
    car = SimulatedEv(spec, 10_000, plugged=lambda now: now.mono_s >= 60)
    assert car.apply(11_000, Now(T0, 0), 60) == 0
    assert car.apply(11_000, Now(T0, 60), 3_600) == 11_000
    assert car.energy_wh == 21_000
    assert car.apply(-5_000, Now(T0, 60), 60) == 0


def test_a_load_takes_what_it_wants_and_no_more_than_it_may() -> None:
    load = SimulatedLoad(AssetSpec("l", "flexible_load", 200, 3_000), lambda now: 2_000)
    assert [load.apply(w, NOW, 1) for w in (5_000, 1_000, 0)] == [2_000, 1_000, 200]


def test_a_site_follows_its_setpoints_and_fails_safe_without_them() -> None:
    load = AssetSpec("l", "flexible_load", 0, 3_000)
    site = SimulatedSite(
        [
            SimulatedDevice(LeaseKeeper(BATTERY), SimulatedBattery(BATTERY, 1_000)),
            SimulatedDevice(LeaseKeeper(load), SimulatedLoad(load)),
        ],
        T0,
    )
    first = site.step([setpoint(value_w=-1_000), setpoint("m", 500, asset_id="l")], 60, base_w=4_000)
    assert first.import_w == 3_500
    assert first.power_w == {"b": -1_000, "l": 500}
    assert [a["status"] for a in first.acks] == ["ACCEPTED", "STARTED"] * 2
    assert site.step([], 60, base_w=4_000).import_w == 3_500
    failed = site.step([], 60, base_w=4_000)
    assert (failed.import_w, failed.commands["b"].state) == (4_000, "failsafe")
    assert site.now == Now(T0 + 180_000, 180.0)


def test_a_cap_on_the_site_is_kept_by_its_assets() -> None:
    specs = [AssetSpec(n, "flexible_load", 0, 3_000) for n in ("b", "c")]
    site = SimulatedSite([SimulatedDevice(LeaseKeeper(s), SimulatedLoad(s)) for s in specs], T0)
    for s in specs:
        site.step([setpoint("p" + s.asset_id, 3_000, asset_id=s.asset_id)], 1, base_w=2_000)
    caps = [
        setpoint("cap" + s.asset_id, 5_000, asset_id=s.asset_id, type="IMPORT_CAPACITY_LIMIT", ttl_s=100, at_s=1)
        for s in specs
    ]
    assert site.step([], 1, base_w=2_000).import_w == 8_000
    assert site.step(caps, 1, base_w=2_000).import_w <= 5_000
    for _ in range(90):
        assert site.step([], 1, base_w=2_000).import_w <= 5_000


def test_a_jump_of_the_clock_only_costs_time() -> None:
    site = SimulatedSite([SimulatedDevice(LeaseKeeper(BATTERY), SimulatedBattery(BATTERY, 1_000))], T0)
    site.step([setpoint()], 1)
    site.jump(3_600)
    assert site.step([], 1).commands["b"].state == "failsafe"
    assert math.isfinite(site.step([], 1).import_w)
