"""The gate: who passes, who is stopped, and why."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.gate import CANDIDATE, EXACT_METERS, Side, decide, log_ratio, sign_flip_p

RNG = np.random.default_rng(5)
CHAMPION = RNG.uniform(0.1, 0.4, 20)


def side(factor: float, noise: float = 0.01, seed: int = 0) -> Side:
    rng = np.random.default_rng([seed, round(factor * 1000)])
    values = CHAMPION * factor * np.exp(rng.normal(0, noise, len(CHAMPION)))
    return Side(values, values * 0.4)


def groups(candidate: Side, **rivals: Side) -> dict[str, dict[str, Side]]:
    sides = {CANDIDATE: candidate, "champion": side(1.0), "previous week": side(1.6), **rivals}
    return {"seen": sides, "unseen": sides}


def test_one_that_beats_all_passes() -> None:
    verdict = decide(groups(side(0.9)))
    assert verdict.passed
    assert verdict.reasons == ()
    assert len(verdict.comparisons) == 2 * 2 * 2
    assert verdict.as_json()["comparisons"][0]["passed"] is True


def test_a_bad_one_is_stopped_with_the_reasons() -> None:
    verdict = decide(groups(side(1.3)))
    assert not verdict.passed
    assert len(verdict.reasons) == 4
    assert all("champion" in line and "NOT better" in line for line in verdict.reasons)


def test_better_by_chance_is_not_better() -> None:
    passed = [decide(groups(side(1.001, noise=0.3, seed=seed))).passed for seed in range(100)]
    assert sum(passed) <= 10, "an equal one passes by chance at most in one of twenty"


def test_one_baseline_is_enough_to_stop_it() -> None:
    verdict = decide(groups(side(0.9), **{"mean(day, week)": side(0.8)}))
    assert not verdict.passed
    assert all("mean(day, week)" in line for line in verdict.reasons)


def test_better_points_with_worse_bands_are_stopped() -> None:
    good = side(0.9)
    assert not decide(groups(Side(good.nrmse, good.wql * 1.5))).passed


def test_better_on_seen_meters_alone_is_stopped() -> None:
    good, bad = groups(side(0.9))["seen"], groups(side(1.2))["unseen"]
    verdict = decide({"seen": good, "unseen": bad})
    assert not verdict.passed
    assert all(line.startswith("unseen") for line in verdict.reasons)


def test_a_group_that_is_missing_or_small_says_nothing() -> None:
    whole = groups(side(0.9))
    assert "unseen meters with load" in decide({"seen": whole["seen"]}).reasons[0]
    small = {name: Side(each.nrmse[:4], each.wql[:4]) for name, each in whole["seen"].items()}
    assert decide({"seen": whole["seen"], "unseen": small}).reasons == (
        "4 unseen meters with load: at least 5 are needed to tell",
    )


def test_meters_without_figures_are_left_out_of_all() -> None:
    candidate = side(0.9)
    nrmse = candidate.nrmse.copy()
    nrmse[:3] = np.nan
    verdict = decide(groups(Side(nrmse, candidate.wql)))
    assert verdict.passed
    assert {each.meters for each in verdict.comparisons} == {17}


@given(st.lists(st.integers(-24, 24), min_size=1, max_size=7))
def test_p_is_the_share_of_sign_flips_as_extreme(eighths: list[int]) -> None:
    signs = itertools.product((1, -1), repeat=len(eighths))
    flips = [sum(s * v for s, v in zip(each, eighths, strict=True)) for each in signs]
    expected = np.mean([total <= sum(eighths) for total in flips])
    assert sign_flip_p(np.array(eighths) / 8) == pytest.approx(expected)


def test_p_of_many_meters_is_near_the_exact_one_and_repeats() -> None:
    difference = np.random.default_rng(2).normal(-0.3, 1.0, EXACT_METERS)
    exact = sign_flip_p(difference)
    more = np.concatenate([difference, np.zeros(20)])
    assert sign_flip_p(more, 1) == pytest.approx(exact, abs=0.02)
    assert sign_flip_p(more, 1) == sign_flip_p(more, 1)
    assert sign_flip_p(np.zeros(0)) == 1.0
    assert sign_flip_p(np.full(100, -1.0)) > 0


def test_two_without_error_are_equal() -> None:
    assert log_ratio(np.zeros(2), np.array([0.0, 1.0])).tolist() == [0.0, pytest.approx(np.log(1e-9))]
