"""How often a meter rests, and for how long: what is a habit is no fault.

Three conditions of a step are followed: its energy is zero, it equals the step before, it is missing. Each is taken as
a chain with two states, whose two rates (to enter the condition, to stay in it) are counted for each meter. The
probability that a run gets as long as it is by habit is `enter * stay ** (length - 1)`: a shop that is shut each
night may read zero all night, a hospital may not for an hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

ZERO, STUCK, MISSING = 0, 1, 2
"""Columns: the conditions."""
CONDITIONS = 3

# What is believed of a meter before it is known, in steps: (in favour, in all).
_ENTER_PRIOR = np.array([0.25, 0.25, 0.1]), np.array([100.0, 100.0, 100.0])
_STAY_PRIOR = np.array([1.0, 0.75, 1.0]), np.array([2.0, 3.0, 2.0])

RARE_WEIGHT = 0.25

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Habits:
    """Counts of m meters, [m, CONDITIONS] each; old steps fade."""

    entered: Floats
    """Runs that began."""
    out: Floats
    """Steps out of which one could have begun."""
    stayed: Floats
    """Steps that went on with a run."""
    inside: Floats
    """Steps out of which a run could have gone on."""
    run: Floats
    """Length of the present run, steps; 0: none."""

    @classmethod
    def empty(cls, meters: int) -> Self:
        """Nothing is known."""
        return cls(*(np.zeros((meters, CONDITIONS)) for _ in range(5)))


def chance(habits: Habits) -> Floats:
    """The probability, by each meter's habit, of a run as long as the present one: [m, CONDITIONS]; 1 without a run."""
    enter, stay = _rates(habits)
    return np.asarray(np.where(habits.run > 0, enter * stay ** np.maximum(habits.run - 1, 0), 1.0))


def follow(habits: Habits, holds: Bools, told: Bools, keep: Floats, rare: float) -> Habits:
    """The habits after one more step. A run counts once it is over: until then it is judged by those before it.

    Args:
        habits: of m meters.
        holds: [m, CONDITIONS] whether the condition holds in this step.
        told: [m, CONDITIONS] whether the step tells of the condition at all; else nothing changes.
        keep: [m] share of the old counts that is kept a step.
        rare: a run of less chance was an alarm, and counts for little: as RARE_WEIGHT of one that had just become one.
    """
    before = habits.run > 0
    over = told & before & ~holds
    was_rare = chance(habits) <= rare
    weight = np.where(was_rare, RARE_WEIGHT, 1.0) * over
    length = np.where(was_rare, np.minimum(habits.run, _length_of(habits, rare)), habits.run)
    fade = np.where(told, keep[:, None], 1.0)
    return Habits(
        habits.entered * fade + weight,
        habits.out * fade + (told & ~before),
        habits.stayed * fade + weight * (length - 1),
        habits.inside * fade + weight * length,
        np.where(told, np.where(holds, habits.run + 1, 0.0), habits.run),
    )


def _rates(habits: Habits) -> tuple[Floats, Floats]:
    enter = (habits.entered + _ENTER_PRIOR[0]) / (habits.out + _ENTER_PRIOR[1])
    stay = (habits.stayed + _STAY_PRIOR[0]) / (habits.inside + _STAY_PRIOR[1])
    return np.minimum(enter, 1.0), stay


def _length_of(habits: Habits, rare: float) -> Floats:
    """How long a run has to be to be rare, steps."""
    enter, stay = _rates(habits)
    return np.asarray(1 + np.maximum(np.log(enter / rare), 0.0) / -np.log(stay))
