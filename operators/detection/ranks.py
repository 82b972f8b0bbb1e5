"""How odd a score is for its meter: its rank among the meter's own past ones.

Split conformal prediction (Vovk, Gammerman and Shafer 2005) takes the share of past scores that were as large as a
p-value, whatever their distribution. Past scores are kept as a histogram on a log scale, from which old ones fade.
Beyond the largest ones a rank says nothing more; there the excess over a high quantile is taken as exponential (peaks
over threshold with shape zero: Siffer, Fouque, Termier and Largouet, KDD 2017).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BELOW, ABOVE, DRIFT = 0, 1, 2
"""Kinds of scores: distance from what was expected, to either side, in widths of the forecast's band; drift."""
CHANNELS = 3
PER_OCTAVE = 3
LOWEST = 0.25
BINS = 24
EDGES = LOWEST * 2.0 ** (np.arange(BINS) / PER_OCTAVE)
EDGES[0] = 0.0
"""Lower edges of the bins; the first holds all that is less, the last all that is more."""
TAIL = np.array([0.025, 0.025, 0.05])
"""By channel: share of all steps that lie beyond the cut."""
PRIOR_STEPS = 48.0
"""Steps that the belief about an unknown meter weighs: exponential, with these cuts and mean excesses."""
PRIOR_CUT = np.array([3.0, 3.0, 3.0])
PRIOR_EXCESS = np.array([1.2, 1.2, 1.0])
TAIL_PRIOR = 6.0
"""Steps beyond the cut that the prior's ratio of excess to cut weighs."""
LEAST_EXCESS = 0.2
"""Of the cut."""

_UPPER = np.append(EDGES[1:], EDGES[-1] * 2.0 ** (1 / PER_OCTAVE))
_MIDDLE = (EDGES + _UPPER) / 2
_BOTH = np.array([0.5, 0.5, 1.0])

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def prior() -> Floats:
    """The histograms of a meter that is not known: [CHANNELS, BINS] steps."""
    cut, excess, whole, tail = (column[:, None] for column in (PRIOR_CUT, PRIOR_EXCESS, _BOTH, TAIL))
    inner = whole * np.exp(-np.log(whole / tail) / cut * EDGES)
    beyond = np.where(cut >= EDGES, inner, tail * np.exp(-(EDGES - cut) / excess))
    return np.asarray((beyond - np.append(beyond[:, 1:], np.zeros((CHANNELS, 1)), axis=1)) * PRIOR_STEPS)


def bin_of(score: Floats) -> Ints:
    """The bin of each score."""
    at = np.floor(np.log2(np.maximum(score, LOWEST) / LOWEST) * PER_OCTAVE)
    return np.asarray(np.minimum(at, BINS - 1), np.int64)


def tails(counts: Floats) -> tuple[Floats, Floats]:
    """The cut beyond which TAIL of all steps lie, and the mean excess over it; both [m, CHANNELS].

    Args:
        counts: [m, CHANNELS, BINS] steps by score; those of BELOW and ABOVE are shares of the same steps.
    """
    total = counts.sum(axis=2)
    total[:, :2] = total[:, :2].sum(axis=1, keepdims=True)
    wanted = TAIL * total
    beyond = counts[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]
    # The last bin of which at least that many steps lie beyond its lower edge; within it by proportion.
    at = np.maximum((beyond >= wanted[:, :, None]).sum(axis=2) - 1, 0)
    rows, channels = np.ogrid[: len(counts), :CHANNELS]
    inside = counts[rows, channels, at]
    share = np.clip((beyond[rows, channels, at] - wanted) / np.maximum(inside, 1e-12), 0.0, 1.0)
    cut = np.maximum(EDGES[at] + share * (_UPPER[at] - EDGES[at]), LOWEST)
    outside = np.where(np.arange(BINS) > at[:, :, None], counts, 0.0)
    over = (np.maximum(_MIDDLE - cut[:, :, None], 0.0) * outside).sum(axis=2)
    usual = TAIL_PRIOR * cut * (PRIOR_EXCESS / PRIOR_CUT)
    excess = (over + usual) / (outside.sum(axis=2) + TAIL_PRIOR)
    return np.asarray(cut), np.asarray(np.maximum(excess, LEAST_EXCESS * cut))


def p_value(score: Floats, tail: Any, cut: Floats, excess: Floats) -> Floats:
    """Share of steps that are as odd: 1 at score 0, `tail` at the cut."""
    inner = 1.0 - (1.0 - tail) * np.minimum(score / cut, 1.0)
    outer = tail * np.exp(-np.maximum(score - cut, 0.0) / excess)
    return np.asarray(np.where(score <= cut, inner, outer))


def limit(p: float, tail: Any, cut: Floats, excess: Floats) -> Floats:
    """The score whose p-value is `p`, which is below `tail`: the inverse of `p_value`."""
    return np.asarray(cut + excess * np.log(tail / p))
