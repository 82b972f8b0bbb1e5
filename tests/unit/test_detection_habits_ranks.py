"""Habits and ranks: chances between 0 and 1 that fall with length and oddness, and limits that invert them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.detection import habits, ranks
from operators.detection.habits import MISSING, ZERO, Habits

KEEP = np.array([0.999])


def follow(state, zero):
    holds = np.array([[zero, False, False]])
    return habits.follow(state, holds, np.ones((1, 3), bool), KEEP, 1e-4)


def test_the_longer_the_rarer_and_a_habit_is_not_rare():
    state = Habits.empty(1)
    for _ in range(300):
        state = follow(state, zero=False)
    found = []
    for _ in range(12):
        state = follow(state, zero=True)
        found.append(float(habits.chance(state)[0, ZERO]))
    assert all(a > b for a, b in pairwise(found))
    assert found[-1] < 1e-4
    for _ in range(60):
        for hour in range(24):
            state = follow(state, zero=hour < 8)
    for _ in range(8):
        state = follow(state, zero=True)
    assert habits.chance(state)[0, ZERO] > 1e-3
    assert habits.chance(state)[0, MISSING] == 1


def test_the_prior_is_a_distribution_with_its_own_cut():
    counts = ranks.prior()[None]
    assert counts[0, :2].sum() == pytest.approx(ranks.PRIOR_STEPS)
    cut, excess = ranks.tails(counts)
    np.testing.assert_allclose(cut[0], ranks.PRIOR_CUT, rtol=0.15)
    np.testing.assert_allclose(excess[0], ranks.PRIOR_EXCESS, rtol=0.35)


def test_ranks_follow_what_came():
    rng = np.random.default_rng(2)
    counts = np.zeros((1, ranks.CHANNELS, ranks.BINS))
    scores = rng.exponential(1.0, 20_000)
    np.add.at(counts[0, ranks.DRIFT], ranks.bin_of(scores), 1)
    counts[0, :2] += 1e-9
    cut, excess = ranks.tails(counts)
    assert cut[0, ranks.DRIFT] == pytest.approx(np.quantile(scores, 0.95), rel=0.1)
    assert excess[0, ranks.DRIFT] == pytest.approx(1.0, rel=0.3)


@given(p=st.floats(1e-9, 0.01), cut=st.floats(0.3, 50), excess=st.floats(0.1, 20))
def test_the_limit_is_where_the_chance_is(p, cut, excess):
    columns = (np.array([value]) for value in (cut, excess))
    cut_, excess_ = columns
    score = ranks.limit(p, 0.05, cut_, excess_)
    assert ranks.p_value(score, 0.05, cut_, excess_)[0] == pytest.approx(p, rel=1e-6)
