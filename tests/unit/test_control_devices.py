"""Devices follow commands as physics lets them, and a fitted command breaks no bound, whatever is wanted."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from operators.control.checker import check_device
from operators.control.devices import advance, fit
from operators.control.plan import spec_of
from operators.control.site import BATTERY, Asset

PLAIN = Asset("b", BATTERY, -10.0, 10.0, capacity_kwh=20.0, efficiency=0.81, high_kwh=20.0)
SLOW = Asset("s", BATTERY, -10.0, 10.0, 0.01, 20.0, 0.81, high_kwh=20.0)


def test_without_a_ramp_power_is_there_at_once() -> None:
    moved = advance(PLAIN, 10.0, 0.0, 4.0, 900.0)
    assert (moved.power_kw, moved.mean_kw) == (4.0, 4.0)
    assert moved.content_kwh == pytest.approx(10.9)


def test_a_ramp_takes_time_and_losses_change_sides_at_zero() -> None:
    # 200 s from -1 to 1 kW, then 1 kW: at the terminals 0.1/3.6 kWh out, the same in, and the rest in.
    moved = advance(SLOW, 10.0, -1.0, 1.0, 560.0)
    out, back, rest = 50 / 3600, 50 / 3600, 360 / 3600
    assert moved.power_kw == 1.0
    assert moved.mean_kw == pytest.approx(rest * 3600 / 560)
    assert moved.content_kwh == pytest.approx(10.0 - out / 0.9 + (back + rest) * 0.9)


def test_a_ramp_longer_than_the_step_ends_on_its_way() -> None:
    assert advance(SLOW, 10.0, 0.0, -10.0, 100.0).power_kw == pytest.approx(-1.0)


def test_a_full_battery_is_not_charged_and_a_nearly_full_one_to_its_edge() -> None:
    assert fit(PLAIN, 20.0, 0.0, 10.0, 900.0) == pytest.approx(0.0, abs=1e-6)
    assert fit(PLAIN, 19.55, 0.0, 10.0, 900.0) == pytest.approx(2.0, abs=1e-6)
    assert fit(PLAIN, 0.5, 0.0, -10.0, 900.0) == pytest.approx(-1.8, abs=1e-6)


@pytest.mark.parametrize("command", [math.nan, math.inf, -math.inf, 1e300])
def test_what_is_no_number_is_rest(command: float) -> None:
    assert fit(PLAIN, 10.0, 3.0, command, 60.0) == 0.0


batteries = st.builds(
    lambda low, high, capacity, efficiency, ramp: Asset(
        "b", BATTERY, low, high, ramp, capacity, efficiency, low_kwh=0.1 * capacity, high_kwh=0.95 * capacity
    ),
    st.floats(-100, 0),
    st.floats(0, 100),
    st.floats(0.5, 500),
    st.floats(0.3, 1.0),
    st.none() | st.floats(1e-3, 10),
)
commands = st.lists(
    st.tuples(st.floats(-300, 300) | st.just(math.nan) | st.just(math.inf), st.sampled_from([1.0, 60.0, 840.0, 900.0])),
    min_size=1,
    max_size=40,
)


@given(batteries, st.floats(0, 1), commands)
@example(Asset("b", BATTERY, -50.0, 50.0, 0.001, 5.0, 0.9, high_kwh=5.0), 0.9, [(300.0, 900.0)] * 20)
def test_fitted_commands_break_no_bound(asset: Asset, share: float, wanted: list[tuple[float, float]]) -> None:
    start = content = asset.low_kwh + share * (asset.high_kwh - asset.low_kwh)
    power, powers, means, seconds = 0.0, [], [], []
    for command, step_s in wanted:
        moved = advance(asset, content, power, fit(asset, content, power, command, step_s), step_s)
        content, power = moved.content_kwh, moved.power_kw
        for end, mean, part_s in moved.pieces:
            powers.append(end)
            means.append(mean)
            seconds.append(part_s)
    found = check_device(spec_of(asset), powers, seconds, content_kwh=start, mean_kw=means)
    assert found == []
    assert asset.low_kwh - 1e-6 * asset.capacity_kwh <= content <= asset.high_kwh + 1e-6 * asset.capacity_kwh
