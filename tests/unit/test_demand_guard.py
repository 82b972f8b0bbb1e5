"""The demand guard: warned of a coming breach while there is time, and of nothing that cannot become one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.demand_guard import SLOT_S, Guards, look

SLOT_MS = 900_000
START_MS = 1_767_225_600_000
LEVELS = np.array([-1.28, -0.84, -0.52, -0.25, 0, 0.25, 0.52, 0.84, 1.28])


def drive(power_kw, limit_kw, every_s=10, forecast_kw=None, spread_kw=5.0, slots=1):
    """Readings of a site whose power is a function of the seconds since the start; (seconds, Outlook) of each."""
    quantiles = np.full((1, 9), np.nan)
    if forecast_kw is not None:
        quantiles[0] = (forecast_kw + spread_kw * LEVELS) / 4
    guards, seen = Guards.empty(1), []
    guards, _ = look(guards, np.array([START_MS]), np.zeros(1), np.array([limit_kw]), quantiles)
    for second in range(every_s, int(slots * SLOT_S) + 1, every_s):
        kwh = np.array([power_kw(second) * every_s / 3600])
        guards, outlook = look(guards, np.array([START_MS + second * 1000]), kwh, np.array([limit_kw]), quantiles)
        seen.append((second, outlook))
    return seen


def warnings(seen):
    return [second for second, outlook in seen if outlook.began[0]]


def test_a_load_above_the_limit_is_warned_of_five_minutes_ahead():
    seen = drive(lambda second: 60.0, 50.0, forecast_kw=45.0)
    assert len(warnings(seen)) == 1
    assert warnings(seen)[0] <= 300
    assert seen[-1][1].chance[0] == 1.0


def test_a_jump_in_the_middle_is_warned_of_before_the_mean_is_over():
    power = lambda second: 30.0 if second <= 300 else 85.0  # noqa: E731
    seen = drive(power, 50.0, forecast_kw=32.0)
    mean = np.cumsum([power(s) * 10 / SLOT_S for s, _ in seen])
    broken = next(s for (s, _), m in zip(seen, mean, strict=True) if m > 50)
    assert broken - warnings(seen)[0] >= 300


@pytest.mark.parametrize("at", [10, 100, 450, 700, 800])
def test_a_burst_of_ten_seconds_raises_nothing(at):
    seen = drive(lambda second: 300.0 if second == at else 30.0, 50.0, forecast_kw=30.0)
    assert not warnings(seen)


def test_a_quiet_site_and_one_without_a_limit():
    assert not warnings(drive(lambda second: 30.0, 50.0, forecast_kw=30.0))
    seen = drive(lambda second: 30.0, np.nan)
    assert np.isnan(seen[-1][1].chance[0])
    assert not warnings(seen)


def test_a_load_at_the_edge_does_not_flutter():
    rng = np.random.default_rng(1)
    noise = {second: 50 + rng.normal(0, 3) for second in range(10, 901, 10)}
    seen = drive(lambda second: noise[second], 50.0, forecast_kw=50.0)
    assert sum(outlook.began[0] for _, outlook in seen) <= 2


def test_a_warning_ends_with_its_quarter_hour_or_with_the_load():
    seen = drive(lambda second: 80.0 if second <= 200 else 5.0, 50.0, forecast_kw=30.0)
    assert len(warnings(seen)) == 1
    assert next(second for second, outlook in seen if outlook.ended[0]) < 700
    two = drive(lambda second: 70.0 if second <= 900 else 10.0, 50.0, forecast_kw=30.0, slots=2)
    assert [second for second, outlook in two if outlook.ended[0]] == [910]


def test_a_reading_that_is_late_or_unknown_changes_nothing():
    guards = Guards.empty(1)
    nothing = np.full((1, 9), np.nan)
    limit = np.array([50.0])
    guards, _ = look(guards, np.array([START_MS + 60_000]), np.array([0.5]), limit, nothing)
    for now, kwh in ((START_MS + 30_000, 9.0), (START_MS + 90_000, np.nan)):
        after, outlook = look(guards, np.array([now]), np.array([kwh]), limit, nothing)
        assert (after.kwh[0], after.now_ms[0], outlook.began[0]) == (guards.kwh[0], guards.now_ms[0], False)


powers = st.lists(st.floats(-200, 400), min_size=90, max_size=90)


@settings(max_examples=15, deadline=None)
@given(powers, st.floats(5, 200), st.floats(0, 200))
def test_chances_are_chances_and_the_end_is_certain(kw, limit, forecast):
    seen = drive(lambda second: kw[second // 10 - 1], limit, forecast_kw=forecast)
    chances = np.array([outlook.chance[0] for _, outlook in seen])
    assert ((chances >= 0) & (chances <= 1)).all()
    if abs(np.mean(kw) - limit) > 1e-6:
        assert chances[-1] == float(np.mean(kw) > limit)


@settings(max_examples=10, deadline=None)
@given(powers, st.floats(10, 100), st.floats(1, 50))
def test_a_higher_limit_is_never_likelier_to_break(kw, limit, more):
    low = drive(lambda second: kw[second // 10 - 1], limit, forecast_kw=40.0)
    high = drive(lambda second: kw[second // 10 - 1], limit + more, forecast_kw=40.0)
    assert all(b.chance[0] <= a.chance[0] + 1e-9 for (_, a), (_, b) in zip(low, high, strict=True))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.permutations(range(4)))
def test_no_site_depends_on_another(seed, order):
    rng = np.random.default_rng(seed)
    order = np.array(order)
    one, other = Guards.empty(4), Guards.empty(4)
    limit, quantiles = rng.uniform(10, 60, 4), np.sort(rng.uniform(0, 20, (4, 9)), axis=1)
    for second in range(30, 1200, 30):
        now, kwh = np.full(4, START_MS + second * 1000), rng.uniform(-0.1, 1.0, 4)
        one, seen = look(one, now, kwh, limit, quantiles)
        other, again = look(other, now, kwh[order], limit[order], quantiles[order])
        np.testing.assert_array_equal(seen.chance[order], again.chance)
        np.testing.assert_array_equal(seen.warned[order], again.warned)
