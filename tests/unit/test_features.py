"""The feature code: finite for anything, blind to level, and split by phases as stated."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from operators.features import (
    CONTEXT_HOURS,
    DAYS,
    EXTRA,
    HORIZON_HOURS,
    fill_missing,
    from_phases,
    has_context,
    model_inputs,
    phase_issue_times,
    to_phases,
)

HOUR_MS = 3_600_000
anything = st.floats(allow_nan=True, allow_infinity=True, width=64)


def inputs(history, issued=0, offset=0):
    rows = len(history)
    return model_inputs(history, np.full(rows, issued, dtype=np.int64), np.full(rows, offset, dtype=np.int64))


@given(arrays(np.float64, (3, CONTEXT_HOURS), elements=anything))
@settings(max_examples=60, deadline=None)
def test_inputs_are_finite_for_any_history(history):
    features, scale = inputs(history)
    assert features["window"].shape == (3, CONTEXT_HOURS)
    assert features["extra"].shape == (3, EXTRA)
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in features.values())
    assert np.isfinite(scale).all()
    assert (scale >= 0).all()


@pytest.mark.parametrize(
    ("value", "level", "scale"), [(0.0, 0.0, 0.0), (5.0, 1.0, 5.0), (-5.0, -1.0, 5.0), (np.nan, 0.0, 0.0)]
)
def test_constant_meters(value, level, scale):
    features, found = inputs(np.full((1, CONTEXT_HOURS), value))
    assert (features["window"] == level).all()
    assert found[0] == scale


def test_window_does_not_depend_on_the_level():
    history = np.random.default_rng(1).random((4, CONTEXT_HOURS))
    one, scale = inputs(history)
    other, larger = inputs(history * 1024)
    assert np.array_equal(one["window"], other["window"])
    assert np.array_equal(one["extra"], other["extra"])
    assert np.array_equal(scale * 1024, larger)


def test_gap_takes_the_mean_of_the_same_hour():
    history = np.arange(CONTEXT_HOURS, dtype=np.float64)[None]
    history[0, 24] = np.nan
    same_hour = [0, 48, 72, 96, 120, 144]
    filled = fill_missing(history)
    assert filled[0, 24] == np.mean(same_hour)
    assert np.array_equal(np.delete(filled, 24), np.delete(history, 24))


def test_hour_that_is_never_known_takes_the_mean_of_all():
    history = np.full((1, CONTEXT_HOURS), 2.0)
    history[0, 3::24] = np.inf
    history[0, 4] = 2.0 + 161
    assert fill_missing(history)[0, 3] == 3.0


def test_share_missing_is_told_by_day():
    history = np.ones((1, CONTEXT_HOURS))
    history[0, 24:36] = np.nan
    missing = inputs(history)[0]["extra"][0, 6 : 6 + DAYS]
    assert missing.tolist() == [0, 0.5, 0, 0, 0, 0, 0]


def test_week_phase_is_local_and_weekly():
    history = np.ones((1, CONTEXT_HOURS))
    monday = 345_600_000  # 1970-01-05 00:00 UTC
    start = inputs(history, monday)[0]["extra"][0, :6]
    assert start == pytest.approx([0, 0, 0, 1, 1, 1], abs=1e-6)
    assert inputs(history, monday + 168 * HOUR_MS)[0]["extra"][0, :6] == pytest.approx(start, abs=1e-6)
    assert inputs(history, monday - 2 * HOUR_MS, 7200)[0]["extra"][0, :6] == pytest.approx(start, abs=1e-6)
    assert inputs(history, monday - 2 * HOUR_MS, 0)[0]["extra"][0, 0] != pytest.approx(start[0], abs=1e-3)


def test_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="168"):
        inputs(np.ones((2, 167)))


def test_history_is_not_changed():
    history = np.random.default_rng(0).random((2, CONTEXT_HOURS))
    history[0, 5] = np.nan
    before = history.copy()
    inputs(history)
    fill_missing(history)
    to_phases(np.repeat(history, 4, axis=1), 4)
    assert np.array_equal(history, before, equal_nan=True)


def test_phases_of_a_literal_history():
    slots = np.arange(CONTEXT_HOURS * 4, dtype=np.float64)[None]
    phases = to_phases(slots, 4)
    assert phases.shape == (4, CONTEXT_HOURS)
    assert phases[:, 0].tolist() == [0, 4, 8, 12]  # four first slots, times four
    assert phases[2, :3].tolist() == [8, 24, 40]  # slots 2, 6 and 10
    assert phase_issue_times(np.array([HOUR_MS]), 4).tolist() == [900_000, 1_800_000, 2_700_000, 3_600_000]


def test_from_phases_of_a_literal_forecast():
    forecast = np.zeros((8, 9, HORIZON_HOURS))
    forecast[:4, 4, 0] = [4, 8, 12, 16]  # first hour of the first meter's four phases
    forecast[6, 0, 1] = 40  # second hour of the second meter's third phase
    steps = from_phases(forecast, 4)
    assert steps.shape == (2, 9, 96)
    assert steps[0, 4, :5].tolist() == [1, 2, 3, 4, 0]
    assert steps[1, 0, 6] == 10
    assert np.count_nonzero(steps) == 5


def test_missing_slot_takes_the_mean_of_its_hour_and_an_empty_hour_stays_missing():
    slots = np.ones((1, CONTEXT_HOURS * 4))
    slots[0, :4] = [1, np.nan, 3, np.nan]
    slots[0, 4:8] = np.nan
    phases = to_phases(slots, 4)
    assert phases[:, 0].tolist() == [4, 8, 12, 8]
    assert np.isnan(phases[:, 1]).all()


@pytest.mark.parametrize(("known", "expected"), [(84, True), (83, False), (168, True)])
def test_context_wants_half_of_the_slots(known, expected):
    mask = np.zeros((1, CONTEXT_HOURS), dtype=bool)
    mask[0, CONTEXT_HOURS - known :] = True
    assert has_context(mask).tolist() == [expected]


def test_context_wants_the_newest_slot():
    mask = np.ones((2, CONTEXT_HOURS * 4), dtype=bool)
    mask[1, -1] = False
    assert has_context(mask).tolist() == [True, False]
