"""The loop without faults: the limit holds, leases are renewed, decisions can be made again from what was written."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from control_loop import SITE, SLOT_MS, START_MS, Loop, load_kw

from operators.control_lifecycle.receipts import is_sealed
from operators.control_lifecycle.times import parse_ts_ms
from operators.control_site.again import furthest_kw, plan_again
from operators.control_site.memory import Memory
from operators.control_site.outputs import ALERTS, LOG


@pytest.fixture(scope="module")
def day() -> Loop:
    loop = Loop()
    loop.run(12 * 3600)
    return loop


def test_the_limit_holds_where_the_load_alone_and_its_needs_would_break_it(day: Loop) -> None:
    means = day.means()
    first = min(means)
    # Without control: the load with the cooling and the charger.
    alone = {slot: load_kw(slot + SLOT_MS // 2) + 17.0 for slot in means}
    assert max(alone.values()) > 55
    over = {slot: kw for slot, kw in means.items() if kw > 50.0 * 1.002 and slot > first + SLOT_MS}
    assert not over, over


def test_devices_stay_within_their_leases(day: Loop) -> None:
    for device in day.devices.values():
        assert device.keeper.power.state == "active"


def test_every_setpoint_is_sealed_and_supersedes_the_one_before(day: Loop) -> None:
    last: dict[str, str] = {}
    for setpoint in day.sent:
        assert is_sealed(setpoint["inputs"])
        assert setpoint["supersedes"] == last.get(setpoint["asset_id"])
        last[setpoint["asset_id"]] = setpoint["setpoint_id"]
        assert setpoint["priority"] == 10


def test_leases_are_renewed_before_half_of_them_is_over(day: Loop) -> None:
    for name in day.devices:
        times = [parse_ts_ms(s["execution_time"]) for s in day.sent if s["asset_id"] == name]
        assert max(later - earlier for earlier, later in pairwise(times)) <= 60_000


def test_plans_can_be_made_again_from_the_log(day: Loop) -> None:
    plans = [output.value for output in day.outputs if output.topic == LOG and output.value["type"] == "plan"]
    assert 12 <= len(plans) <= 60
    for record in plans[::4]:
        again = plan_again(json.loads(json.dumps(record)))
        assert again.reason == record["reason"]
        assert again.cost == pytest.approx(record["cost"], abs=1e-3)
        assert furthest_kw(record, again) < 1e-3


def test_a_restart_changes_nothing() -> None:
    straight, broken = Loop(), Loop()
    straight.run(7200)
    broken.run(3600)
    broken.save()
    broken.restart()
    # What was configured is said again, and planned with again.
    broken.controller.memory.replan = False
    broken.run(3600)
    assert [s["setpoint_id"] for s in broken.sent] == [s["setpoint_id"] for s in straight.sent]


def test_memory_is_the_same_after_it_was_written(day: Loop) -> None:
    memory = day.controller.memory
    again = Memory.restored(memory.core(), memory.plans(), memory.past.dump())
    assert (again.core(), again.plans(), again.past.dump()) == (memory.core(), memory.plans(), memory.past.dump())


def test_silent_meters_end_the_leases_and_ring() -> None:
    loop = Loop()
    loop.run(3600)
    loop.faults.readings_cut = True
    loop.run(900)
    assert {d.keeper.power.state for d in loop.devices.values()} == {"failsafe"}
    (alert,) = [o.value for o in loop.outputs if o.topic == ALERTS]
    assert (alert["labels"]["alertname"], alert["status"]) == ("SiteNotMeasured", "firing")
    loop.faults.readings_cut = False
    loop.run(1200)
    assert {d.keeper.power.state for d in loop.devices.values()} == {"active"}
    assert loop.outputs[-1].topic in (ALERTS, "control.setpoints", "control.log")
    assert [o.value["status"] for o in loop.outputs if o.topic == ALERTS][:2] == ["firing", "resolved"]


def test_a_site_in_shadow_moves_nothing_and_has_devices_on_paper() -> None:
    loop = Loop(site={**SITE, "mode": "shadow"}, now_ms=START_MS)
    loop.run(3600)
    assert loop.sent
    assert {s["mode"] for s in loop.sent} == {"shadow"}
    assert {d.keeper.power.state for d in loop.devices.values()} == {"init"}


def test_a_clock_that_was_a_day_ahead_and_is_set_right_stops_nothing_for_long() -> None:
    loop = Loop()
    loop.run(1800)
    loop.faults.controller_jump_s = 86_400.0
    loop.run(900)
    loop.faults.controller_jump_s = 0.0
    loop.run(2400)
    assert {d.keeper.power.state for d in loop.devices.values()} == {"active"}
    assert loop.controller.memory.now_ms == loop.now_ms
