"""The gate before a promotion: a model passes when it is better than all its rivals, on seen and on unseen meters.

Rivals are the present champion and the baselines. Better is: lower median NRMSE and lower weighted quantile loss over
the meters, and a paired test over meters that says it is no accident. Each comparison must pass at the level `alpha`;
the chance that a model which is worse in any of them passes all is then at most `alpha` (intersection-union test,
Berger 1982), so that no correction for their number is due.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

CANDIDATE = "candidate"
ALPHA = 0.05
MIN_METERS = 5
"""With fewer, no paired test can tell: of 4 meters the smallest p is 1/16."""
EXACT_METERS = 14
"""Up to so many, all sign flips are counted; beyond, `DRAWS` of them."""
DRAWS = 20_000
FIGURES = {"nrmse": "NRMSE", "wql": "wQL"}

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Side:
    """One forecaster's figures of m meters, in the same order as its rivals'."""

    nrmse: Floats
    wql: Floats
    """Weighted quantile loss; of a forecast without quantiles its point stands for each."""


@dataclass(frozen=True)
class Comparison:
    """Candidate and one rival, by one figure, in one group of meters."""

    group: str
    rival: str
    figure: str
    candidate: float
    """Median over meters."""
    other: float
    meters: int
    p: float
    """One-sided, of the meters' log ratios: how likely so large an advantage is by chance."""
    passed: bool

    def line(self) -> str:
        """For people."""
        sign = "<" if self.candidate < self.other else ">="
        verdict = "ok" if self.passed else "NOT better"
        return (
            f"{self.group} meters ({self.meters}), {FIGURES[self.figure]}: {self.candidate:.4f} {sign} "
            f"{self.other:.4f} ({self.rival}), p = {self.p:.4f}: {verdict}"
        )


@dataclass(frozen=True)
class Verdict:
    """What the gate says, and why."""

    passed: bool
    reasons: tuple[str, ...]
    """Why it is stopped; empty when it passed."""
    comparisons: tuple[Comparison, ...] = field(default_factory=tuple)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "passed": self.passed,
            "reasons": list(self.reasons),
            "comparisons": [asdict(each) for each in self.comparisons],
        }


def decide(
    groups: Mapping[str, Mapping[str, Side]],
    *,
    alpha: float = ALPHA,
    seed: int = 0,
    wanted: Sequence[str] = ("seen", "unseen"),
) -> Verdict:
    """Whether the candidate may be promoted.

    Args:
        groups: by group of meters, each forecaster's figures; `CANDIDATE` is judged against all others.
        alpha: level of each paired test.
        seed: of the tests' draws.
        wanted: groups that must be there.
    """
    reasons: list[str] = []
    found: list[Comparison] = []
    for name in wanted:
        sides = groups.get(name)
        meters = 0 if sides is None else int(_usable(sides).sum())
        if sides is None or meters < MIN_METERS:
            reasons.append(f"{meters} {name} meters with load: at least {MIN_METERS} are needed to tell")
            continue
        used = _usable(sides)
        for rival in sides:
            if rival != CANDIDATE:
                found += [_compared(name, rival, figure, sides, used, alpha, seed) for figure in FIGURES]
    reasons += [each.line() for each in found if not each.passed]
    return Verdict(not reasons, tuple(reasons), tuple(found))


def _usable(sides: Mapping[str, Side]) -> NDArray[np.bool_]:
    """Meters that every forecaster has figures of."""
    figures = [getattr(side, figure) for side in sides.values() for figure in FIGURES]
    return np.asarray(np.isfinite(figures).all(axis=0))


def _compared(
    group: str, rival: str, figure: str, sides: Mapping[str, Side], used: NDArray[np.bool_], alpha: float, seed: int
) -> Comparison:
    mine, other = getattr(sides[CANDIDATE], figure)[used], getattr(sides[rival], figure)[used]
    p = sign_flip_p(log_ratio(mine, other), seed)
    middle, theirs = float(np.median(mine)), float(np.median(other))
    return Comparison(group, rival, figure, middle, theirs, len(mine), p, middle < theirs and p <= alpha)


def log_ratio(mine: Floats, other: Floats) -> Floats:
    """How much better each meter's figure is, as a logarithm; a meter without error on either side counts as equal."""
    tiny = 1e-9
    return np.asarray(np.log(np.maximum(mine, tiny)) - np.log(np.maximum(other, tiny)))


def sign_flip_p(difference: Floats, seed: int = 0) -> float:
    """One-sided p of the sign-flip permutation test (Fisher 1935) that the mean difference is below zero.

    Were candidate and rival equally good, each meter's difference would as likely have the other sign.

    Args:
        difference: [m] paired, below zero where the candidate is better.
        seed: of the draws, where m is too large to count all flips.

    >>> sign_flip_p(np.array([-1.0, -2.0, -1.5, -0.5, -1.0]))
    0.03125
    """
    m = len(difference)
    if not m:
        return 1.0
    observed = difference.sum()
    tolerance = 1e-12 * max(1.0, float(np.abs(difference).sum()))
    if m <= EXACT_METERS:
        signs = 1 - 2 * ((np.arange(2**m)[:, None] >> np.arange(m)) & 1)
        return float(np.mean(signs @ difference <= observed + tolerance))
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, (DRAWS, m), np.int8) * 2 - 1
    # The observed signs are one of the draws: a p of zero would say too much (Phipson and Smyth 2010).
    return float((1 + np.count_nonzero(signs @ difference <= observed + tolerance)) / (DRAWS + 1))
