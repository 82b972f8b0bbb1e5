"""Rolling calibration: the band's promise is kept on any meter, order is kept, and state survives a checkpoint."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.rolling import Rolling
from operators import calibration
from operators.calibration import LARGEST_OFFSET, Calibration
from operators.features import QUANTILES

HOURS = 24
MEDIAN = len(QUANTILES) // 2
LEVELS = np.array(QUANTILES)
finite = st.floats(-1e6, 1e6, width=32)


def normal_levels():
    # The quantiles of a standard normal distribution (Abramowitz and Stegun, table 26.1).
    upper = [0.2533, 0.5244, 0.8416, 1.2816]
    return np.array([-1.2816, -0.8416, -0.5244, -0.2533, 0.0, *upper])


def issued(meters, width, level=10.0):
    return np.broadcast_to(level + width * normal_levels()[None, :, None], (meters, 9, HOURS)).astype(np.float32)


def run(actual, forecast):
    """Corrects and learns day by day; [days, m, h] and [m, 9, h] to the share within the band of each meter."""
    state = Calibration.empty(forecast.shape[0])
    inside = []
    for day in actual:
        corrected = calibration.apply(forecast, state)
        inside.append(((day >= corrected[:, 0]) & (day <= corrected[:, -1])).mean(axis=1))
        state = calibration.update(state, forecast, day)
    return np.array(inside), state


@pytest.mark.parametrize("width", [0.4, 1.0, 3.0])
def test_band_of_any_width_comes_to_hold_four_fifths(width):
    actual = 10 + np.random.default_rng(0).standard_normal((200, 20, HOURS))
    inside, _ = run(actual, issued(20, width))
    assert inside[80:].mean(axis=0) == pytest.approx(0.8, abs=0.03)  # each meter
    assert inside[80:].mean() == pytest.approx(0.8, abs=0.01)


def test_change_of_use_is_followed():
    rng = np.random.default_rng(1)
    actual = 10 + rng.standard_normal((300, 10, HOURS))
    actual[100:] = 10 + 2 * rng.standard_normal((200, 10, HOURS))
    inside, _ = run(actual, issued(10, 1.0))
    assert inside[100:105].mean() < 0.6
    assert inside[200:].mean() == pytest.approx(0.8, abs=0.02)


def test_empty_state_changes_nothing():
    forecast = issued(3, 1.0)
    assert np.array_equal(calibration.apply(forecast, Calibration.empty(3)), forecast)


def test_literal_first_day():
    forecast = issued(1, 1.0)
    state = calibration.update(Calibration.empty(1), forecast, np.full((1, HOURS), 100.0))
    # All of the day was above each quantile: each level but the median goes up by its own share of the first step.
    expected = calibration.FIRST_STEP * LEVELS * [2.27, 1.42, 1.15, 1.03, 0, 1.03, 1.15, 1.42, 2.27]
    assert state.offset[0] == pytest.approx(expected, abs=1e-6)
    half = np.full((1, HOURS), 100.0)
    half[:, ::2] = np.nan
    assert calibration.update(Calibration.empty(1), forecast, half).offset[0] == pytest.approx(expected / 2, abs=1e-6)


def test_day_without_measurement_and_meter_at_rest_move_nothing():
    state = calibration.update(Calibration.empty(2), issued(2, 1.0), np.full((2, HOURS), np.nan))
    assert not state.offset.any()
    assert not state.days.any()
    nothing = np.zeros((1, 9, HOURS), dtype=np.float32)
    for _ in range(50):
        rest = calibration.update(Calibration.empty(1), nothing, np.zeros((1, HOURS)))
    assert not rest.offset.any()


@given(
    quantiles=arrays(np.float32, (2, 9, 3), elements=finite),
    offset=arrays(np.float32, (2, 9), elements=st.floats(-LARGEST_OFFSET, LARGEST_OFFSET, width=32)),
    actual=arrays(np.float32, (2, 3), elements=st.one_of(finite, st.just(np.nan))),
    days=arrays(np.int32, 2, elements=st.integers(0, 10_000)),
)
@settings(max_examples=100, deadline=None)
def test_any_forecast_stays_ordered_about_its_median(quantiles, offset, actual, days):
    quantiles.sort(axis=1)
    state = Calibration(offset, days)
    corrected = calibration.apply(quantiles, state)
    assert np.isfinite(corrected).all()
    assert (np.diff(corrected, axis=1) >= 0).all()
    assert np.array_equal(corrected[:, MEDIAN], quantiles[:, MEDIAN])
    after = calibration.update(state, quantiles, actual)
    assert (np.abs(after.offset) <= LARGEST_OFFSET).all()
    assert after.offset.dtype == np.float32
    assert np.array_equal(after.days, days + np.isfinite(actual).any(axis=1))
    assert np.array_equal(state.offset, offset)  # not in place
    again = Calibration.from_bytes(after.to_bytes())
    assert np.array_equal(again.offset, after.offset)
    assert np.array_equal(again.days, after.days)


@given(st.permutations(range(5)))
@settings(max_examples=20, deadline=None)
def test_meters_do_not_touch_each_other(order):
    rng = np.random.default_rng(2)
    forecast = np.sort(rng.random((5, 9, HOURS), dtype=np.float32), axis=1)
    actual = rng.random((5, HOURS))
    whole = calibration.update(Calibration.empty(5), forecast, actual)
    other = calibration.update(Calibration.empty(5), forecast[order], actual[order])
    assert np.array_equal(other.offset, whole.offset[order])
    alone = calibration.update(Calibration.empty(1), forecast[2:3], actual[2:3])
    assert np.array_equal(alone.offset[0], whole.offset[2])


def test_new_meters_begin_empty_and_parts_go_back():
    state = Calibration(np.ones((2, 9), np.float32), np.array([3, 4], np.int32)).grown(4)
    assert state.days.tolist() == [3, 4, 0, 0]
    changed = state.put(np.array([1, 3]), Calibration(np.full((2, 9), 2, np.float32), np.array([5, 6], np.int32)))
    assert changed.days.tolist() == [3, 5, 0, 6]
    assert state.days.tolist() == [3, 4, 0, 0]
    assert changed.take(np.array([3])).offset[0, 0] == 2
    with pytest.raises(ValueError, match="shrink"):
        state.grown(1)


@pytest.mark.parametrize("content", [b"", b"CAL2\0\0\0\0", Calibration.empty(3).to_bytes()[:-1]])
def test_other_or_damaged_state_is_refused(content):
    with pytest.raises(ValueError, match="calibration"):
        Calibration.from_bytes(content)


def test_rolling_learns_only_from_days_that_are_over():
    forecast, far = issued(1, 1.0), np.full((1, HOURS), 100.0)
    rolling = Rolling(1, HOURS)
    now = rolling.corrected(np.array([0]), np.array([0]), forecast, far)
    assert np.array_equal(now, forecast)
    assert np.array_equal(rolling.corrected(np.array([23]), np.array([0]), forecast, far), forecast)
    later = rolling.corrected(np.array([24]), np.array([0]), forecast, far)
    expected = calibration.apply(forecast, calibration.update(Calibration.empty(1), forecast, far))
    assert np.array_equal(later, expected)
    # The issue at 23 overlaps that at 0: it is not learnt from.
    assert np.array_equal(rolling.corrected(np.array([47]), np.array([0]), forecast, far), expected)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
@settings(max_examples=20, deadline=None)
def test_rolling_does_not_depend_on_how_it_is_cut(sizes):
    rng = np.random.default_rng(3)
    issue = np.repeat(np.arange(0, sum(sizes) * 10, 10), 2)
    meter = np.tile([0, 1], sum(sizes))
    forecast = np.sort(rng.random((len(issue), 9, HOURS), dtype=np.float32), axis=1)
    target = rng.random((len(issue), HOURS))
    whole = Rolling(2, HOURS).corrected(issue, meter, forecast, target)
    rolling, start = Rolling(2, HOURS), 0
    for size in sizes:
        rows = slice(start, start + 2 * size)
        assert np.array_equal(rolling.corrected(issue[rows], meter[rows], forecast[rows], target[rows]), whole[rows])
        start = rows.stop
