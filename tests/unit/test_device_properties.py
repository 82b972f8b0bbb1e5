"""What must hold for any order, loss, repeat and delay of messages, and any jump of the wall clock."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.device import AssetSpec, KeeperOptions, LeaseKeeper, Now
from jobs.device.setpoint import iso
from jobs.device.simulated import SimulatedBattery, SimulatedDevice, SimulatedSite

T0 = 1_767_225_600_000
SPEC = AssetSpec("b", "battery", -3_000, 5_000, ramp_w_per_s=40, capacity_wh=4_000, efficiency=0.9)
HORIZON_S = 2_000
NAMES = st.sampled_from([f"s{i}" for i in range(25)])
VALUES = st.one_of(
    st.floats(-3_000, 5_000), st.sampled_from([math.nan, math.inf, -math.inf, 9_000.0, -9_000.0, None, "1"])
)


@st.composite
def deliveries(draw: st.DrawFn) -> list[tuple[float, dict[str, Any]]]:
    """Messages and when each arrives: late, repeated, out of order, lost, malformed."""
    messages = []
    for i in range(draw(st.integers(1, 25))):
        at_s = draw(st.floats(0, HORIZON_S))
        message = {
            "setpoint_id": f"s{i}",
            "asset_id": "b",
            "type": draw(st.sampled_from(["POWER", "POWER", "POWER", "IMPORT_CAPACITY_LIMIT", "?"])),
            "value_w": draw(VALUES),
            "execution_time": iso(T0 + round(at_s * 1000)),
            "duration_s": draw(st.sampled_from([None, None, 30, 900, math.nan])),
            "ttl_s": draw(st.sampled_from([20, 60, 120, 300])),
            "failsafe": {"value_w": draw(VALUES), "min_duration_s": draw(st.sampled_from([0, 50, 400]))},
            "priority": draw(st.sampled_from([None, 0, 1, 2])),
            "mode": draw(st.sampled_from(["live", "live", "live", "live", "shadow"])),
            "supersedes": draw(st.one_of(st.none(), NAMES)),
        }
        delays = draw(st.lists(st.floats(-200, 400), max_size=3))
        messages += [(max(0.0, at_s + delay), message) for delay in delays]
    return sorted(messages, key=lambda m: m[0])


JUMPS = st.lists(
    st.tuples(st.floats(0, HORIZON_S), st.sampled_from([-500.0, -50.0, -2.0, 2.0, 50.0, 500.0])), max_size=3
)


@settings(max_examples=60, deadline=None)
@given(deliveries(), JUMPS, st.floats(3, 40))
def test_what_is_promised_of_every_command(
    messages: list[tuple[float, dict[str, Any]]], jumps: list[tuple[float, float]], every_s: float
) -> None:
    keeper = LeaseKeeper(SPEC, KeeperOptions(max_skew_s=math.inf))
    by_id = {m["setpoint_id"]: m for _, m in messages}
    accepted: dict[str, Now] = {}
    last_w, s, hold_until = 0.0, 0.0, -math.inf
    before = "init"
    queue = list(messages)
    while s < HORIZON_S + 2_000:  # a clock 1,500 s behind starts the last one that late
        now = Now(T0 + round((s + sum(j for at, j in jumps if at <= s)) * 1000), 7.0 + s)
        acks: list[dict[str, Any]] = []
        while queue and queue[0][0] <= s:
            acks += keeper.offer(queue.pop(0)[1], now)
        command = keeper.step(now)
        acks += command.acks
        for ack in acks:
            if ack["status"] == "ACCEPTED":
                accepted.setdefault(ack["setpoint_id"], now)
        # Finite, inside the bounds, inside the ramp.
        assert math.isfinite(command.power_w)
        assert SPEC.min_w <= command.power_w <= SPEC.max_w
        assert abs(command.power_w - last_w) <= SPEC.ramp_w_per_s * every_s + 1e-6
        # No setpoint outlives its lease, on either clock.
        if command.setpoint_id is not None:
            running = by_id[command.setpoint_id]
            taken = accepted[command.setpoint_id]
            end_ms = keeper.power.current.setpoint.lease_end_ms  # type: ignore[union-attr]
            assert now.wall_ms < end_ms
            assert now.mono_s < taken.mono_s + (end_ms - taken.wall_ms) / 1000
            assert command.state == "active"
            assert running["mode"] == "live"
            assert running["type"] == "POWER"
        # Failsafe: at its value, for no less than its minimum, and out of it only by what was accepted in it.
        if command.state == "failsafe" and before != "failsafe":
            lapsed = keeper.power.last
            assert lapsed is not None
            assert keeper.power.value_w == lapsed.failsafe_w
            hold_until = s + lapsed.failsafe_ms / 1000
        if before == "failsafe" and command.state == "active":
            assert s >= hold_until - 1e-6
            assert accepted[command.setpoint_id or ""].mono_s >= 7.0 + hold_until - 1e-6
        before = command.state
        last_w = command.power_w
        s += every_s
    assert keeper.power.state in ("init", "failsafe")


@settings(max_examples=20, deadline=None)
@given(deliveries(), st.randoms())
def test_a_repeat_of_anything_never_changes_the_commands(
    messages: list[tuple[float, dict[str, Any]]], chance: Any
) -> None:
    once, twice = LeaseKeeper(SPEC), LeaseKeeper(SPEC)
    seen: list[dict[str, Any]] = []
    queue = list(messages)
    for tick in range(0, HORIZON_S, 10):
        now = Now(T0 + tick * 1000, float(tick))
        while queue and queue[0][0] <= tick:
            message = queue.pop(0)[1]
            once.offer(message, now)
            twice.offer(message, now)
            seen.append(message)
        for message in chance.sample(seen, min(3, len(seen))):
            twice.offer(message, now)
        assert once.step(now).power_w == twice.step(now).power_w
    assert once.snapshot(now) == twice.snapshot(now)


@settings(max_examples=20, deadline=None)
@given(deliveries(), st.floats(0, 4_000), st.lists(st.floats(-3_000, 30_000), min_size=20, max_size=20))
def test_a_battery_stays_within_its_capacity_and_loses_what_it_must(
    messages: list[tuple[float, dict[str, Any]]], energy_wh: float, base: list[float]
) -> None:
    battery = SimulatedBattery(SPEC, energy_wh)
    site = SimulatedSite([SimulatedDevice(LeaseKeeper(SPEC), battery)], T0)
    queue = list(messages)
    charged = discharged = 0.0
    for tick in range(0, HORIZON_S, 20):
        due = [m for at, m in queue if tick <= at < tick + 20]
        result = site.step(due, 20.0, base_w=base[tick // 20 % 20])
        assert 0 <= battery.energy_wh <= SPEC.capacity_wh
        assert SPEC.min_w <= result.power_w["b"] <= SPEC.max_w
        assert math.isclose(result.import_w, base[tick // 20 % 20] + result.power_w["b"], abs_tol=1e-6)
        charged += max(0.0, result.power_w["b"]) / 180
        discharged += max(0.0, -result.power_w["b"]) / 180
    stored = charged * math.sqrt(0.9) - discharged / math.sqrt(0.9)
    assert math.isclose(battery.energy_wh, min(energy_wh, 4_000) + stored, abs_tol=1e-3)
