"""Baselines: literal histories, literal forecasts."""

from __future__ import annotations

import numpy as np
import pytest

from models import baselines


def by_day(values, per_hour=1):
    return np.repeat(np.asarray(values, dtype=np.float64), 24 * per_hour)[None]


@pytest.mark.parametrize("per_hour", [1, 4])
@pytest.mark.parametrize(
    ("baseline", "expected"),
    [
        (baselines.previous_week, 1.0),
        (baselines.previous_day, 21.0),
        (baselines.mean_day_week, 11.0),
        (baselines.persistence_ensemble, 6.0),
    ],
)
def test_each_day_its_own_level(baseline, expected, per_hour):
    forecast = baseline(by_day([1, 2, 3, 4, 5, 6, 21], per_hour))
    assert forecast.shape == (1, 24 * per_hour)
    assert forecast == pytest.approx(expected)


@pytest.mark.parametrize("per_hour", [1, 4])
def test_hours_keep_their_place(per_hour):
    history = np.arange(168 * per_hour, dtype=np.float64)[None]
    assert np.array_equal(baselines.previous_week(history)[0], np.arange(24 * per_hour))
    assert np.array_equal(baselines.previous_day(history)[0], np.arange(144 * per_hour, 168 * per_hour))


def test_quantiles_of_seven_days():
    quantiles = baselines.persistence_quantiles(by_day([7, 1, 2, 3, 4, 5, 6]))
    assert quantiles.shape == (1, 9, 24)
    assert quantiles[0, :, 0] == pytest.approx(1 + 6 * np.arange(0.1, 0.95, 0.1))


def test_gap_is_filled_as_for_models():
    history = by_day([1, 2, 3, 4, 5, 6, 21])
    history[0, :24] = np.nan
    assert baselines.previous_week(history) == pytest.approx(np.mean([2, 3, 4, 5, 6, 21]))


def test_uneven_history_is_refused():
    with pytest.raises(ValueError, match="168"):
        baselines.previous_week(np.ones((1, 170)))
