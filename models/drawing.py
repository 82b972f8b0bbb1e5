"""Which windows of which meters make which batch: pure functions of the seed, the same wherever they run.

A meter draws its windows by its own name, and a batch changes them by its own number. So it does not matter on how many
machines, in what order or in which partition the meters lie: the batches are the same, row by row.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.augment import augmented
from models.contract import Batch
from models.dataset import Windows, inputs_of

ROUND = 250
"""Batches that are drawn together; what bounds the memory of a training on a cluster."""

HIDDEN_SHARE = 0.3
"""Rows that are trained without a calendar, as a meter of unknown place; and so many of all without weather."""

NO_LOAD = "no window before --until has any load: give meters that measure something"

_CHANGED = 1  # so that a batch's changes and a meter's draws never share their numbers


@dataclass(frozen=True)
class Plan:
    """What all draws of a training depend on."""

    seed: int
    rows: int
    """Of a batch, on average: each meter draws by itself."""
    meters: int
    """That are drawn from."""


def key_of(name: str, zone: str) -> str:
    """A meter's name among those of several sets."""
    return f"{zone}|{name}"


def draws(plan: Plan, number: int, key: str, windows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """What one meter gives to one round, each meter as much as another: a long series must not outvote a short one.

    Args:
        plan: of the training.
        number: of the round.
        key: the meter's, as `key_of` says.
        windows: that the meter has, at least one.

    Returns:
        Position of each window drawn, and its batch in the round: [n], [n].
    """
    rng = np.random.default_rng((plan.seed, number, zlib.crc32(key.encode())))
    share = ROUND * plan.rows / plan.meters
    count = int(share) + int(rng.random() < share % 1)
    return rng.integers(0, windows, count), rng.integers(0, ROUND, count)


def batch_of(plan: Plan, number: int, batch: int, zones: Sequence[str], windows: Sequence[Windows]) -> Batch | None:
    """A batch of changed windows as a model's inputs and targets.

    Args:
        plan: of the training.
        number: of the round.
        batch: in the round.
        zones: IANA names, ascending, each with its windows.
        windows: hourly, of each zone, ordered by meter (its key) and time of issue.

    Returns:
        None when no window has any load.
    """
    rng = np.random.default_rng((plan.seed, number, batch, _CHANGED))
    made = [_changed(part, zone, rng) for zone, part in zip(zones, windows, strict=True)]
    inputs = {name: np.concatenate([one.inputs[name] for one in made]) for name in made[0].inputs}
    target = np.concatenate([one.target for one in made])
    return Batch(inputs, target) if len(target) else None


def joined(parts: Sequence[Windows], order: NDArray[np.int64]) -> Windows:
    """Windows one after the other, then in the given order of all of them."""

    def column(name: str) -> NDArray[Any] | None:
        found = [getattr(part, name) for part in parts]
        return None if found[0] is None else np.concatenate(found)[order]

    return Windows(**{each.name: column(each.name) for each in fields(Windows)})  # type: ignore[arg-type]


def _changed(plain: Windows, zone: str, rng: np.random.Generator) -> Batch:
    changed = augmented(plain, rng)
    # A meter in a shifted week has no calendar; and some of the others have none, as a meter without a zone.
    shown = (changed.utc_offset_s == plain.utc_offset_s) & (rng.random(len(plain.meter)) >= HIDDEN_SHARE)
    if changed.weather is not None:
        seen = shown & (rng.random(len(plain.meter)) >= HIDDEN_SHARE)
        changed = replace(changed, weather=np.where(seen[:, None, None], changed.weather, np.float32(np.nan)))
    inputs, scale = inputs_of(changed, zone, shown)
    # A meter that measured nothing is no plant either, whatever sun was put on its roof.
    used = (scale > 0) & (np.nan_to_num(plain.history) != 0).any(axis=1)
    target = changed.target[used] / scale[used, None]
    return Batch({name: value[used] for name, value in inputs.items()}, target.astype(np.float32))
