"""Savings against a baseline: found where they are, with an interval that covers them as often as it says."""

from __future__ import annotations

import numpy as np
import pytest

from operators.verification import VerificationError, savings

BEFORE, AFTER = np.arange(18_000, 18_365), np.arange(18_365, 18_485)


def building(day: np.ndarray, rng: np.random.Generator, noise: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """kWh and temperature: weekends, a heated winter, errors that last some days."""
    celsius = 10 - 9 * np.cos(2 * np.pi * (day - 18_000) / 365) + rng.normal(0, 2, len(day))
    base = np.where((day + 3) % 7 >= 5, 60.0, 100.0) + 4.0 * np.maximum(15 - celsius, 0)
    error = np.zeros(len(day))
    for k in range(1, len(day)):
        error[k] = 0.4 * error[k - 1] + rng.normal(0, noise)
    return base * (1 + error), celsius


@pytest.mark.parametrize("cut", [0.0, 0.1, 0.25])
def test_the_interval_covers_the_truth(cut: float) -> None:
    hits = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        before, cold = building(BEFORE, rng)
        after, colder = building(AFTER, rng)
        found = savings(BEFORE, before, AFTER, after * (1 - cut), cold, colder)
        truth = float((after * cut).sum())
        hits += found.low_kwh <= truth <= found.high_kwh
        assert found.cv_rmse < 0.12
        assert abs(found.nmbe) < 0.01
    assert hits >= 33  # of 40 at 90%


def test_without_temperature_the_season_stands_for_it() -> None:
    rng = np.random.default_rng(1)
    before, _ = building(BEFORE, rng)
    after, _ = building(AFTER, rng)
    found = savings(BEFORE, before, AFTER, after * 0.8)
    assert found.share == pytest.approx(0.2, abs=0.04)
    assert found.balance_c is None
    assert found.acceptable


def test_days_that_were_not_measured_count_for_nothing() -> None:
    rng = np.random.default_rng(2)
    before, _ = building(BEFORE, rng)
    before[10:40] = np.nan
    after, _ = building(AFTER, rng)
    after[5] = np.nan
    assert savings(BEFORE, before, AFTER, after).days == len(AFTER) - 1


def test_too_little_is_said() -> None:
    with pytest.raises(VerificationError, match="56 before"):
        savings(BEFORE[:20], np.ones(20), AFTER[:5], np.ones(5))
