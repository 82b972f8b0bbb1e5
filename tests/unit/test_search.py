"""The search for settings: seeded, in order of time, and never worse than where it began."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from models import architectures
from models.contract import Fit, Range
from models.dataset import from_frame
from models.estate import InMemory
from models.search import HELD_BACK, search

DAY_MS = 86_400_000
DAYS = 60


@pytest.fixture(scope="module")
def series():
    rng = np.random.default_rng(1)
    index = pd.date_range("2021-01-01", periods=24 * DAYS, freq="h", tz="UTC")
    day = 2 + np.sin(np.arange(len(index)) * (2 * np.pi / 24))
    return from_frame(pd.DataFrame({f"m{i}": day * rng.uniform(0.9, 1.1, len(index)) for i in range(4)}, index), "UTC")


@pytest.fixture
def estate(series):
    return InMemory.of([series], series.start_ms + 50 * DAY_MS, seed=0, unseen_share=0.25)


def found(series, estate, trials=3, seed=0):
    told = []
    period = (series.start_ms, series.start_ms + 50 * DAY_MS)
    result = search("nhits", estate, period, Fit(seed, 40), 32, trials, lambda number, loss: told.append(number))
    assert told == list(range(1, trials + 1))
    return result


def test_first_trial_is_the_architectures_own_and_the_best_is_kept(series, estate):
    result = found(series, estate)
    own = architectures.load("nhits")
    assert {name: getattr(own, name) for name in result.settings} == {
        name: value for name, value in result.trials[0].items() if name != "loss"
    }
    best = min(result.trials, key=lambda trial: trial["loss"])
    assert result.settings == {name: value for name, value in best.items() if name != "loss"}
    for name, of in architectures.search_space("nhits").items():
        assert all(of.low <= trial[name] <= of.high for trial in result.trials)
    assert found(series, estate) == result


def test_trials_see_nothing_of_the_time_that_they_are_judged_on(series, estate, monkeypatch):
    seen, judged = [], []
    earlier, windows = InMemory.earlier, InMemory.judged
    monkeypatch.setattr(InMemory, "earlier", lambda self, ms: seen.append(ms) or earlier(self, ms))
    monkeypatch.setattr(InMemory, "judged", lambda self, *ms: judged.append(ms) or windows(self, *ms))
    found(series, estate, trials=1)
    end = series.start_ms + 50 * DAY_MS
    cut = round(end - HELD_BACK * 50 * DAY_MS)
    assert (seen, judged) == ([cut], [(cut, end)])


def test_what_cannot_be_searched_is_told(series, estate):
    period = (series.start_ms, series.start_ms + 50 * DAY_MS)
    with pytest.raises(ValueError, match="leave --search out"):
        search("mean_day_week", estate, period, Fit(0, 4), 32, 2, lambda number, loss: None)
    with pytest.raises(ValueError, match="give more data"):
        search("nhits", estate, (period[0], period[0] + DAY_MS), Fit(0, 4), 32, 2, lambda number, loss: None)


def test_settings_are_those_that_an_architecture_offers():
    assert architectures.load("mlp", width=128).width == 128
    assert architectures.search_space("mlp")["blocks"] == Range(2, 3, 1)
    with pytest.raises(ValueError, match="no setting colour"):
        architectures.load("mlp", colour=3)
