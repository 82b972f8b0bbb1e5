"""Judging a candidate: the same windows for all, seen and unseen apart, and the end of a card's training."""

from __future__ import annotations

import numpy as np
import pytest

from jobs.errors import UserError
from jobs.models.judge import judge, trained_until_ms
from models.backtest import Span
from models.dataset import MeterSeries
from operators.forecaster import Forecaster
from tests.unit.serving_support import forecaster

START = 1_704_067_200_000
HOURS = 24 * 24


def series(meters: int = 12) -> MeterSeries:
    """Days and weekends with noise."""
    rng = np.random.default_rng(1)
    hour = np.arange(HOURS)
    shape = 2 + np.sin((hour % 24 - 8) / 24 * 2 * np.pi) - 0.8 * (hour // 24 % 7 >= 5)
    kwh = np.array([(i + 1) * (shape + rng.normal(0, 0.2, HOURS)) for i in range(meters)])
    names = tuple(f"m{i}" for i in range(meters))
    return MeterSeries(names, START, kwh.astype(np.float32), np.zeros(HOURS, np.int64))


UNSEEN = frozenset(f"m{i}" for i in range(6))


def test_the_shipped_model_passes_against_yesterday_again_and_not_the_other_way_round() -> None:
    good, bad = Forecaster.load(), forecaster(1.0)
    told: list[float] = []
    verdict = judge(good, bad, [series()], UNSEEN, Span(None, None, 25), told.append)
    assert verdict.passed, verdict.reasons
    assert told == sorted(told)
    assert told[-1] == 1.0
    rivals = {each.rival for each in verdict.comparisons}
    assert rivals == {"champion", "previous week", "persistence ensemble", "mean(day, week)"}
    assert {(each.group, each.meters) for each in verdict.comparisons} == {("seen", 6), ("unseen", 6)}
    back = judge(bad, good, [series()], UNSEEN, Span(None, None, 25))
    assert not back.passed
    assert any("champion" in line for line in back.reasons)


def test_without_a_group_or_a_window_nobody_passes() -> None:
    good, bad = Forecaster.load(), forecaster(1.0)
    verdict = judge(good, bad, [series()], frozenset(), Span(None, None, 25))
    assert verdict.reasons == ("0 unseen meters with load: at least 5 are needed to tell",)
    with pytest.raises(UserError, match="later readings"):
        judge(good, bad, [series()], UNSEEN, Span(START + HOURS * 3_600_000, None, 25))


def test_the_end_of_training_is_what_the_card_says() -> None:
    assert trained_until_ms({"data": {"train_until": "2020-01-01"}}) == 1_577_836_800_000
    assert trained_until_ms({"data": {}}) is None
    assert trained_until_ms({}) is None
