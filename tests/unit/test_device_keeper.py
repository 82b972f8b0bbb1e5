"""One asset and its leases, on clocks of the test's own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.device import AssetSpec, Command, KeeperOptions, LeaseKeeper, Now
from jobs.device.setpoint import iso

T0 = 1_767_225_600_000
SPEC = AssetSpec("b", "battery", -5_000, 5_000, capacity_wh=10_000)


def setpoint(name: str = "s", value_w: float = 1_000, at_s: float = 0, **more: Any) -> dict[str, Any]:
    """A live lease of 120 s with a failsafe of 0 W for 900 s."""
    return {
        "setpoint_id": name, "asset_id": "b", "site_id": "hq", "type": "POWER", "value_w": value_w,
        "execution_time": iso(T0 + round(at_s * 1000)), "duration_s": None, "ttl_s": 120,
        "failsafe": {"value_w": 0, "min_duration_s": 900}, "priority": 2, "mode": "live", "supersedes": None,
    } | more  # fmt: skip


class Bench:
    """A keeper and its clocks; `wall_off` is how far the wall clock was set."""

    def __init__(self, spec: AssetSpec = SPEC, **options: Any) -> None:
        self.keeper = LeaseKeeper(spec, KeeperOptions(**options))
        self.wall_off = 0.0

    def now(self, s: float) -> Now:
        return Now(T0 + round((s + self.wall_off) * 1000), 50.0 + s)

    def offer(self, s: float, message: dict[str, Any], **how: Any) -> list[tuple[str, str]]:
        return brief(self.keeper.offer(json.dumps(message), self.now(s), **how))

    def at(self, s: float, **how: Any) -> Command:
        return self.keeper.step(self.now(s), **how)


def brief(acks: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(a["setpoint_id"], a["status"]) for a in acks]


def test_before_the_first_setpoint_it_is_safe() -> None:
    bench = Bench(default_failsafe_w=-100.0)
    assert bench.at(0) == Command("b", -100.0, -100.0, "init", None)


def test_a_lease_runs_and_ends_in_failsafe_for_its_minimum_duration() -> None:
    bench = Bench()
    assert bench.offer(0, setpoint()) == [("s", "ACCEPTED"), ("s", "STARTED")]
    assert (bench.at(119.9).power_w, bench.at(119.9).state) == (1_000, "active")
    ended = bench.at(120)
    assert (ended.power_w, ended.state, ended.setpoint_id) == (0, "failsafe", None)
    assert brief(ended.acks) == [("s", "ABORTED")]
    assert ended.acks[0]["detail"] == "lease_expired"
    # Neither what comes within the minimum duration nor time alone ends it.
    refused = bench.keeper.offer(setpoint("t", 2_000, at_s=600), bench.now(600))
    assert (refused[0]["status"], refused[0]["detail"]) == ("REJECTED", "failsafe_hold")
    assert refused[0]["retry_at"] == iso(T0 + 1_020_000)
    assert bench.at(5_000).state == "failsafe"
    assert bench.offer(5_000, setpoint("t", 2_000, at_s=5_000)) == [("t", "REJECTED")]  # answered once and for all
    assert bench.offer(5_000, setpoint("u", 2_000, at_s=5_000)) == [("u", "ACCEPTED"), ("u", "STARTED")]
    assert bench.at(5_000).power_w == 2_000


def test_renewed_in_time_it_goes_on() -> None:
    bench = Bench()
    bench.offer(0, setpoint("s0"))
    for i in range(1, 20):
        acks = bench.offer(60 * i, setpoint(f"s{i}", 1_000 + i, at_s=60 * i, supersedes=f"s{i - 1}"))
        assert acks == [(f"s{i}", "ACCEPTED"), (f"s{i - 1}", "SUCCEEDED"), (f"s{i}", "STARTED")]
        assert (bench.at(60 * i + 59).power_w, bench.at(60 * i + 59).state) == (1_000 + i, "active")


def test_a_repeat_changes_nothing_and_is_answered_again() -> None:
    bench = Bench()
    bench.offer(0, setpoint())
    before = bench.keeper.snapshot(bench.now(1))
    assert bench.offer(1, setpoint()) == [("s", "STARTED")]
    assert bench.offer(1, setpoint(value_w=2_000)) == [("s", "STARTED")]
    assert bench.keeper.snapshot(bench.now(1)) == before
    assert bench.at(2).power_w == 1_000


def test_older_never_replaces_newer() -> None:
    bench = Bench()
    bench.offer(11, setpoint("new", 1_000, at_s=10))
    assert bench.offer(11, setpoint("old", 2_000, at_s=5)) == [("old", "REJECTED")]
    assert bench.offer(11, setpoint("older issue", 2_000, at_s=10, issued_at=iso(T0))) == [("older issue", "ACCEPTED"),
        ("new", "SUCCEEDED"), ("older issue", "STARTED")]  # fmt: skip
    late = setpoint("oldest issue", 3_000, at_s=10, issued_at=iso(T0 - 1_000))
    assert bench.offer(11, late) == [("oldest issue", "REJECTED")]
    assert bench.at(12).power_w == 2_000


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_which_of_two_for_the_same_time_holds_depends_on_no_order(order: tuple[int, int]) -> None:
    for pair in (
        (setpoint("a", 1), setpoint("b", 2, supersedes="a")),
        (setpoint("z", 1), setpoint("b", 2, supersedes="z")),
        (setpoint("a", 1), setpoint("b", 2)),
        (setpoint("z", 1, issued_at=iso(T0 - 2)), setpoint("b", 2, issued_at=iso(T0 - 1))),
        (setpoint("z", 1, at_s=50), setpoint("b", 2, at_s=50, supersedes="z")),
    ):
        bench = Bench()
        for i in order:
            bench.offer(1, pair[i])
        assert bench.at(51).power_w == 2, pair


def test_a_scheduled_one_waits_for_its_time() -> None:
    bench = Bench()
    bench.offer(0, setpoint("now", 1_000))
    assert bench.offer(0, setpoint("then", 2_000, at_s=100)) == [("then", "ACCEPTED")]
    assert bench.offer(0, setpoint("between", 1_500, at_s=50)) == [("between", "ACCEPTED")]
    assert bench.at(49).power_w == 1_000
    assert bench.at(50).power_w == 1_500
    switched = bench.at(100)
    assert (switched.power_w, brief(switched.acks)) == (2_000, [("between", "SUCCEEDED"), ("then", "STARTED")])
    assert bench.at(219).state == "active"
    assert bench.at(220).state == "failsafe"


def test_a_scheduled_one_is_withdrawn_by_one_that_supersedes_it() -> None:
    bench = Bench()
    bench.offer(0, setpoint("now", 1_000))
    bench.offer(0, setpoint("then", 2_000, at_s=50))
    assert bench.offer(1, setpoint("no", 500, at_s=1, supersedes="then"))[1] == ("then", "ABORTED")
    assert bench.at(60).power_w == 500
    assert bench.offer(60, setpoint("x", 700, at_s=60, supersedes="y"))[0] == ("x", "ACCEPTED")
    assert bench.offer(60, setpoint("y", 900, at_s=61)) == [("y", "REJECTED")]


def test_a_gap_between_two_leases_is_failsafe() -> None:
    bench = Bench()
    bench.offer(0, setpoint("a"))
    bench.offer(0, setpoint("b", 2_000, at_s=130))
    assert brief(bench.at(125).acks) == [("a", "ABORTED"), ("b", "ABORTED")]
    asleep = Bench()
    asleep.offer(0, setpoint("a"))
    asleep.offer(0, setpoint("b", 2_000, at_s=130))
    assert (asleep.at(140).state, asleep.at(140).power_w) == ("failsafe", 0)


def test_stale_is_never_acted_on() -> None:
    bench = Bench()
    assert bench.offer(120, setpoint()) == [("s", "REJECTED")]
    assert bench.offer(120, setpoint("step over", ttl_s=600, duration_s=60)) == [("step over", "REJECTED")]
    assert bench.at(120).state == "init"
    # Late, yet alive: for what is left of it.
    bench.offer(200, setpoint("late", at_s=100))
    assert bench.at(219).state == "active"
    assert bench.at(220).state == "failsafe"


def test_the_plans_step_ends_before_its_lease() -> None:
    bench = Bench()
    bench.offer(0, setpoint(duration_s=60))
    assert bench.at(59).power_w == 1_000
    over = bench.at(60)
    assert (over.power_w, over.state, brief(over.acks)) == (0, "done", [("s", "SUCCEEDED")])
    assert bench.offer(61, setpoint("t", 500, at_s=61))[0] == ("t", "ACCEPTED")  # no hold: nothing was lost
    assert bench.at(62).power_w == 500


def test_no_duration_is_never_expired() -> None:
    bench = Bench(max_ttl_s=10**6)
    bench.offer(0, setpoint(ttl_s=500_000, duration_s=None))
    assert bench.at(499_999).power_w == 1_000


def test_bounds_apply_to_value_and_failsafe() -> None:
    bench = Bench()
    for name, bad in (
        ("high", {"value_w": 5_001}),
        ("low", {"value_w": -5_001}),
        ("failsafe", {"failsafe": {"value_w": 9_999, "min_duration_s": 0}}),
        ("cap", {"type": "IMPORT_CAPACITY_LIMIT", "value_w": -1}),
        ("long", {"ttl_s": 90_000}),
        ("far", {"execution_time": iso(T0 + 90_000_000)}),
    ):
        assert bench.offer(0, setpoint(**({"name": name} | bad))) == [(name, "REJECTED")]
    assert bench.at(1).state == "init"


def test_nothing_that_is_not_for_it_has_an_effect() -> None:
    bench = Bench()
    assert bench.offer(0, setpoint(mode="shadow")) == []
    assert bench.offer(0, setpoint(asset_id="other")) == []
    assert bench.keeper.offer(b"\x00", bench.now(0)) == []
    assert bench.offer(0, setpoint(value_w=float("nan"))) == [("s", "REJECTED")]
    assert bench.keeper.ignored == 2
    assert bench.at(0).state == "init"


def test_a_lower_number_outranks_while_its_lease_runs() -> None:
    bench = Bench()
    bench.offer(0, setpoint("manager", 100, priority=0))
    assert bench.offer(1, setpoint("plan", 900, at_s=1)) == [("plan", "REJECTED")]
    assert bench.offer(2, setpoint("manager 2", 200, at_s=2, priority=0))[0] == ("manager 2", "ACCEPTED")
    assert bench.offer(3, setpoint("later", 900, at_s=100, priority=None)) == [("later", "REJECTED")]
    bench.offer(4, setpoint("plan 2", 900, at_s=122))
    assert bench.at(122).power_w == 900


def test_the_ramp_bounds_every_change() -> None:
    bench = Bench(AssetSpec("b", "battery", -5_000, 5_000, ramp_w_per_s=10))
    bench.at(0)
    bench.offer(0, setpoint(value_w=1_000))
    assert [bench.at(s).power_w for s in (0, 1, 5, 5, 110)] == [0, 10, 50, 50, 1_000]
    falling = bench.at(125)
    assert (falling.power_w, falling.target_w, falling.limited_by) == (850, 0, ("ramp",))


def test_a_cap_limits_what_the_target_may_take() -> None:
    bench = Bench()
    bench.offer(0, setpoint(value_w=4_000))
    bench.offer(
        0, setpoint("cap", 10_000, type="IMPORT_CAPACITY_LIMIT", failsafe={"value_w": 4_200, "min_duration_s": 7_200})
    )
    alone = bench.at(1)
    assert (alone.power_w, alone.cap_w) == (4_000, 10_000)
    # The others import 8 kW: 2 kW are left; at 14 kW it has to give back.
    assert bench.at(1, site_import_w=12_000, measured_w=4_000).power_w == 2_000
    assert bench.at(1, site_import_w=14_000, measured_w=0).power_w == -4_000
    least = bench.at(1, site_import_w=30_000, measured_w=0)
    assert (least.power_w, least.limited_by) == (-5_000, ("cap", "bounds"))
    assert bench.at(1, site_import_w=float("nan"), measured_w=0).power_w == 4_000
    # Its own lease and its own failsafe, which is a cap too.
    bench.offer(100, setpoint("t", 4_000, at_s=100))
    lapsed = bench.at(125, site_import_w=4_000, measured_w=1_000)
    assert (lapsed.cap_w, lapsed.power_w, lapsed.state) == (4_200, 1_200, "active")


def test_a_cap_whose_step_ends_within_its_lease_is_lifted() -> None:
    bench = Bench()
    bench.offer(0, setpoint("cap", 1_000, type="IMPORT_CAPACITY_LIMIT", duration_s=60))
    assert bench.at(59).cap_w == 1_000
    for s in (60, 119, 121, 9_999):
        assert bench.at(s).cap_w is None
    assert bench.offer(9_999, setpoint("old", 500, at_s=-5, ttl_s=20_000, type="IMPORT_CAPACITY_LIMIT")) == [
        ("old", "REJECTED")
    ]
    sleeper = Bench()
    sleeper.offer(0, setpoint("cap", 1_000, type="IMPORT_CAPACITY_LIMIT", duration_s=60))
    assert sleeper.at(500).cap_w is None


def test_what_can_be_off_is_off_below_its_least_power() -> None:
    car = {"asset_id": "b", "type": "ev", "min_w": 1_400, "max_w": 11_000}
    bench = Bench(AssetSpec.of(car))
    assert bench.offer(0, setpoint("low", 700)) == [("low", "REJECTED")]
    assert bench.offer(0, setpoint("off", 0))[0] == ("off", "ACCEPTED")
    assert bench.offer(1, setpoint("on", 7_000, at_s=1))[0] == ("on", "ACCEPTED")
    assert bench.at(1).power_w == 7_000
    assert bench.at(2, grid_import_max_w=1_500).power_w == 1_500
    assert bench.at(3, grid_import_max_w=1_300).power_w == 0
    assert bench.at(130).power_w == 0
    must_run = Bench(AssetSpec.of(car | {"type": "flexible_load"}))
    assert must_run.offer(0, setpoint("off", 0)) == [("off", "REJECTED")]
    assert must_run.at(1).power_w == 1_400
    switched = Bench(AssetSpec.of(car | {"type": "flexible_load", "settings": {"min_run_s": 600}}))
    assert switched.offer(0, setpoint("off", 0))[0] == ("off", "ACCEPTED")


def test_the_grids_caps_hold_in_both_directions() -> None:
    bench = Bench()
    bench.offer(0, setpoint(value_w=-5_000))
    assert bench.at(1, grid_export_max_w=1_000).power_w == -1_000
    assert bench.at(1, grid_export_max_w=1_000, site_import_w=-500, measured_w=-2_000).power_w == -2_500
    bench.offer(2, setpoint("t", 5_000, at_s=2))
    assert bench.at(2, grid_import_max_w=4_200).power_w == 4_200


@pytest.mark.parametrize("jump_s", [-86_400, -100, -1, 1, 100, 86_400])
def test_a_jump_of_the_wall_clock_never_lengthens_a_lease(jump_s: float) -> None:
    bench = Bench()
    bench.offer(0, setpoint("a"))
    bench.offer(0, setpoint("b", 2_000, at_s=100))
    bench.wall_off = jump_s
    assert bench.at(220).power_w == 0
    assert bench.at(220).state == "failsafe"
    # The minimum duration is not shortened either.
    assert bench.offer(230, setpoint("c", 500, at_s=230 + jump_s)) == [("c", "REJECTED")]


def test_a_jump_forward_starts_nothing_early_and_one_back_nothing_at_all() -> None:
    bench = Bench()
    bench.offer(0, setpoint("a", ttl_s=600))
    bench.offer(0, setpoint("b", 2_000, at_s=100))
    bench.wall_off = 50
    assert bench.at(60).power_w == 1_000
    assert bench.at(100).power_w == 2_000
    bench = Bench()
    bench.offer(0, setpoint("a", ttl_s=600))
    bench.offer(0, setpoint("b", 2_000, at_s=100))
    bench.wall_off = -500
    assert bench.at(150).power_w == 1_000
    assert brief(bench.at(220).acks) == [("b", "ABORTED")]


def test_a_device_whose_clock_is_behind_trusts_nothing() -> None:
    bench = Bench()
    bench.wall_off = -600
    assert bench.offer(0, setpoint("a"), sent_ms=T0) == [("a", "REJECTED")]
    assert bench.offer(0, setpoint("b", issued_at=iso(T0))) == [("b", "REJECTED")]
    assert bench.at(700).state == "init"


def test_a_device_that_fails_ends_in_failsafe() -> None:
    bench = Bench()
    bench.offer(0, setpoint("a"))
    bench.offer(0, setpoint("b", at_s=60))
    acks = bench.keeper.fault(bench.now(1), "device_error: no answer")
    assert brief(acks) == [("a", "ABORTED"), ("b", "ABORTED")]
    assert bench.at(70).state == "failsafe"


def test_a_restart_keeps_failsafe_for_the_rest_of_its_time() -> None:
    bench = Bench()
    bench.offer(0, setpoint("a", failsafe={"value_w": -200, "min_duration_s": 900}))
    bench.at(120)
    saved = json.loads(json.dumps(bench.keeper.snapshot(bench.now(200))))
    again = Bench()
    again.keeper = LeaseKeeper.restored(SPEC, saved, again.now(500))
    assert (again.at(500).power_w, again.at(500).state) == (-200, "failsafe")
    assert again.offer(1_019, setpoint("b", at_s=1_019)) == [("b", "REJECTED")]
    assert again.offer(1_020, setpoint("b old", at_s=0, ttl_s=5_000)) == [("b old", "REJECTED")]
    assert again.offer(1_020, setpoint("c", at_s=1_020))[0] == ("c", "ACCEPTED")


def test_a_restart_in_mid_lease_waits_for_a_newer_one() -> None:
    bench = Bench()
    bench.offer(0, setpoint("a", 3_000))
    saved = bench.keeper.snapshot(bench.now(10))
    again = LeaseKeeper.restored(SPEC, saved, bench.now(11))
    assert again.step(bench.now(11)).power_w == 0
    assert brief(again.offer(setpoint("a", 3_000), bench.now(12))) == [("a", "REJECTED")]
    assert brief(again.offer(setpoint("b", 2_000, at_s=12), bench.now(12)))[0] == ("b", "ACCEPTED")
    fresh = LeaseKeeper.restored(SPEC, Bench().keeper.snapshot(bench.now(0)), bench.now(0))
    assert fresh.step(bench.now(0)).state == "init"


def test_what_it_remembers_is_bounded() -> None:
    bench = Bench(remembered=10, max_pending=5)
    for i in range(50):
        bench.offer(i, setpoint(f"s{i}", at_s=i, supersedes=f"s{i - 1}"))
        bench.offer(i, setpoint(f"p{i}", at_s=1_000 + i))
    assert len(bench.keeper.power._status) == 10
    assert len(bench.keeper.power._superseded) == 10
    assert len(bench.keeper.power.pending) == 5
