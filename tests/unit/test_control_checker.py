"""The checker finds every planted violation, and none where there is none."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.control.checker import Spec, check_device, check_limit

BATTERY = Spec("b", -10.0, 10.0, ramp_kw_per_s=0.1, low_kwh=2.0, high_kwh=18.0, efficiency=0.81)
PUMP = Spec("p", 0.0, 5.0, min_run_s=1800, min_rest_s=900)


def kinds(*args: object, **more: object) -> list[tuple[str, int]]:
    return [(v.kind, v.step) for v in check_device(*args, **more)]  # type: ignore[arg-type]


def test_a_day_within_all_bounds_has_no_violation() -> None:
    assert kinds(BATTERY, [5.0, 0.0, -5.0], [900.0] * 3, 0.0, 10.0) == []


@pytest.mark.parametrize(
    ("powers", "before", "content", "found"),
    [
        ([11.0], 0.0, 5.0, [("power", 0)]),
        ([-10.5], 0.0, 17.0, [("power", 0)]),
        ([float("nan"), 1.0], 0.0, 10.0, [("not_finite", 0)]),
        ([math.inf], 0.0, 10.0, [("not_finite", 0)]),
        ([10.0, 10.0], 0.0, 14.5, [("content", 1)]),
        ([-10.0], 0.0, 3.0, [("content", 0)]),
    ],
)
def test_it_finds_power_numbers_and_content(
    powers: list[float], before: float, content: float, found: list[tuple[str, int]]
) -> None:
    assert kinds(BATTERY, powers, [900.0] * len(powers), before, content) == found


def test_it_finds_a_ramp_from_the_power_before() -> None:
    assert kinds(BATTERY, [8.0], [60.0], 0.0, 10.0) == [("ramp", 0)]
    assert kinds(BATTERY, [8.0], [80.0], 0.0, 10.0) == []


def test_losses_count_on_both_ways() -> None:
    # 1 kWh in gives 0.9; 0.9 kWh out at the terminals takes 1.
    assert kinds(BATTERY, [4.0], [900.0], 4.0, 17.1) == []
    assert kinds(BATTERY, [4.0], [900.0], 4.0, 17.11) == [("content", 0)]
    assert kinds(BATTERY, [-3.6], [900.0], -3.6, 3.0) == []
    assert kinds(BATTERY, [-3.6], [900.0], -3.6, 2.99) == [("content", 0)]


def test_what_was_outside_may_come_back_and_not_go_further() -> None:
    assert kinds(BATTERY, [4.0], [900.0], 4.0, 1.0) == []
    assert kinds(BATTERY, [-0.4], [900.0], 0.0, 1.0) == [("content", 0)]


def test_it_finds_a_run_and_a_rest_that_are_too_short() -> None:
    assert kinds(PUMP, [5.0, 5.0, 0.0, 5.0], [900.0] * 4) == []
    assert kinds(PUMP, [5.0, 0.0], [900.0] * 2) == [("run", 1)]
    assert kinds(PUMP, [5.0, 5.0, 0.0, 5.0], [900.0, 900.0, 600.0, 900.0]) == [("rest", 3)]
    assert kinds(PUMP, [5.0], [900.0], same_for_s=100.0) == [("rest", 0)]


def test_the_limit() -> None:
    found = check_limit([50.0, 50.1, float("nan")], [50.0] * 3, "hq")
    assert [(v.kind, v.step) for v in found] == [("limit", 1), ("not_finite", 2)]


@given(
    st.lists(st.floats(-10, 10), min_size=1, max_size=20),
    st.integers(0, 19),
    st.floats(1e-3, 100),
    st.sampled_from(["high", "low"]),
)
def test_a_planted_power_is_found_wherever_it_is(powers: list[float], where: int, beyond: float, side: str) -> None:
    spec = Spec("x", -10.0, 10.0)
    assert kinds(spec, powers, [900.0] * len(powers)) == []
    planted = where % len(powers)
    powers[planted] = 10.0 + beyond if side == "high" else -10.0 - beyond
    assert kinds(spec, powers, [900.0] * len(powers)) == [("power", planted)]
