"""EEBUS LPC and LPP: every transition of the controllable system, by its rule's number."""

from __future__ import annotations

import math

import pytest

from jobs.device.limitation import Limit, PowerLimitation

FAILSAFE_W = 4_200.0


def fresh() -> PowerLimitation:
    return PowerLimitation(FAILSAFE_W, 0.0)


def controlled(limit: Limit, at_s: float = 10.0) -> PowerLimitation:
    """Heartbeat and limit at `at_s`."""
    found = fresh()
    found.heartbeat(at_s)
    assert found.write_limit(limit, at_s) is None
    return found


def failed() -> PowerLimitation:
    """In failsafe since second 130."""
    found = controlled(Limit(True, 3_000))
    found.advance(130)
    assert found.state == "failsafe"
    return found


def test_lpc_901_a_start_is_limited_by_the_failsafe_value() -> None:
    assert (fresh().state, fresh().cap_w(119.9)) == ("init", FAILSAFE_W)


def test_lpc_902_904_init_ends_with_a_heartbeat_and_a_limit() -> None:
    assert controlled(Limit(True, 3_000)).state == "limited"
    assert controlled(Limit(True, 3_000)).cap_w(10) == 3_000
    lifted = controlled(Limit(False))
    assert (lifted.state, lifted.cap_w(10)) == ("unlimited/controlled", None)
    silent = fresh()
    assert silent.write_limit(Limit(True, 1), 1) == "no heartbeat within the last 60 s"
    assert silent.state == "init"


def test_lpc_906_init_ends_after_120_s_of_silence() -> None:
    silent = fresh()
    assert silent.cap_w(120) is None
    assert silent.state == "unlimited/autonomous"
    silent.advance(10_000)
    assert silent.state == "unlimited/autonomous"  # it has no way into failsafe
    own = PowerLimitation(FAILSAFE_W, 0.0, autonomous_w=9_000)
    assert own.cap_w(120) == 9_000


def test_lpc_908_909_a_limit_ends_by_its_duration_or_is_lifted() -> None:
    found = controlled(Limit(True, 3_000, 100))
    found.heartbeat(70)
    assert found.cap_w(109.9) == 3_000
    assert (found.cap_w(110), found.state) == (None, "unlimited/controlled")
    found = controlled(Limit(True, 3_000))
    assert found.write_limit(Limit(False), 20) is None
    assert found.state == "unlimited/controlled"


def test_a_limit_without_duration_does_not_expire_and_one_of_zero_is_over() -> None:
    found = controlled(Limit(True, 3_000, None))
    for s in range(60, 100_000, 60):
        found.heartbeat(s)
    assert found.cap_w(99_999) == 3_000
    assert found.write_limit(Limit(True, 1_000, 0.0), 99_999) is None
    assert found.state == "unlimited/controlled"


def test_lpc_910_a_limit_from_unlimited_controlled() -> None:
    found = controlled(Limit(False))
    assert found.write_limit(Limit(True, 2_000), 20) is None
    assert (found.state, found.cap_w(20)) == ("limited", 2_000)


@pytest.mark.parametrize("limit", [Limit(True, 3_000), Limit(False)])
def test_lpc_911_912_no_heartbeat_for_120_s_is_failsafe(limit: Limit) -> None:
    found = controlled(limit)
    found.write_limit(limit, 60)  # a limit is no heartbeat
    found.advance(129.9)
    assert found.state != "failsafe"
    assert (found.cap_w(130), found.state) == (FAILSAFE_W, "failsafe")


def test_lpc_916_failsafe_is_not_left_on_a_heartbeat_alone() -> None:
    found = failed()
    found.heartbeat(200)
    assert (found.cap_w(319.9), found.state) == (FAILSAFE_W, "failsafe")


@pytest.mark.parametrize(
    ("limit", "state", "cap"), [(Limit(True, 2_500), "limited", 2_500), (Limit(False), "unlimited/controlled", None)]
)
def test_lpc_918_920_failsafe_and_autonomous_end_with_heartbeat_and_limit(
    limit: Limit, state: str, cap: float | None
) -> None:
    silent = fresh()
    silent.advance(120)
    for found, at in ((failed(), 300.0), (silent, 300.0)):
        found.heartbeat(at)
        assert found.write_limit(limit, at + 60) is None
        assert (found.state, found.cap_w(at + 60)) == (state, cap)


def test_a_limit_later_than_60_s_after_the_heartbeat_is_refused_and_failsafe_stays() -> None:
    found = failed()
    found.heartbeat(300)
    assert found.write_limit(Limit(False), 361) == "no heartbeat within the last 60 s"
    assert found.cap_w(361) == FAILSAFE_W


def test_lpc_921_heartbeats_that_no_limit_follows_end_failsafe_after_120_s() -> None:
    found = failed()
    for s in (300, 360, 419):
        found.heartbeat(s)
    assert found.state == "failsafe"
    found.advance(420)
    assert found.state == "unlimited/autonomous"


def test_lpc_922_failsafe_lasts_its_minimum_duration() -> None:
    found = failed()
    found.advance(130 + 7_199)
    assert found.state == "failsafe"
    found.advance(130 + 7_200)
    assert found.state == "unlimited/autonomous"


def test_lpc_907_918_a_limit_that_cannot_be_followed() -> None:
    found = controlled(Limit(True, 3_000))
    assert found.write_limit(Limit(True, 0), 20, can_follow=False) == "cannot be followed"
    assert (found.state, found.cap_w(20)) == ("limited", 3_000)
    for other in (fresh(), failed()):
        other.heartbeat(140 if other.state == "failsafe" else 10)
        other.write_limit(Limit(True, 0), 150 if other.state == "failsafe" else 20, can_follow=False)
        assert other.state == "unlimited/controlled"


@pytest.mark.parametrize("limit", [Limit(True, -1), Limit(True, math.nan), Limit(True, math.inf), Limit(True, 1, -1)])
def test_a_limit_that_is_none_changes_nothing(limit: Limit) -> None:
    found = failed()
    found.heartbeat(200)
    assert found.write_limit(limit, 201) is not None
    assert found.cap_w(201) == FAILSAFE_W


def test_lpc_022_failsafe_values_can_be_written_within_their_range() -> None:
    start = fresh()
    start.heartbeat(1)
    assert start.write_failsafe(2, value_w=1) is not None  # before the first limit
    found = controlled(Limit(False))
    assert found.write_failsafe(11, duration_s=3_600) is not None
    assert found.write_failsafe(11, value_w=math.nan) is not None
    assert found.write_failsafe(11, value_w=1_000, duration_s=4 * 3_600) is None
    assert found.cap_w(130) == 1_000
    assert found.write_failsafe(140, value_w=9) is not None  # nor in failsafe
    found.advance(130 + 3 * 3_600)
    assert found.state == "failsafe"
    for bad in ({"failsafe_w": -1}, {"failsafe_w": 1, "failsafe_duration_s": 25 * 3_600}):
        with pytest.raises(ValueError, match="want"):
            PowerLimitation(now_s=0, **bad)


def test_lpp_limits_production_with_values_of_zero_or_less() -> None:
    found = PowerLimitation(0.0, 0.0, production=True)
    found.heartbeat(1)
    assert found.write_limit(Limit(True, 3_000), 2) is not None
    assert found.write_limit(Limit(True, -3_000), 2) is None
    assert found.cap_w(2) == 3_000
    assert found.cap_w(200) == 0
