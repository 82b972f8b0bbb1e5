"""Training on meter series: which windows, in which order, for how long; and who is kept out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.augment import augmented
from models.contract import Batch
from models.dataset import MeterSeries, cut, inputs_of, origins, shuffled, split_unseen
from operators.features import Inputs
from operators.serving import drift

_HOUR_MS = 3_600_000
PROBE_ROWS = 512
REFERENCE_STRIDE = 25
CHUNK_ROWS = 4096
HIDDEN_SHARE = 0.3
"""Rows that are trained without a calendar, as a meter of unknown place."""


@dataclass(frozen=True)
class Part:
    """Meters of one set, and the windows to train on."""

    series: MeterSeries
    at: NDArray[np.int64]
    """Pairs (meter, hour of issue), [n, 2]."""

    @property
    def meters(self) -> int:
        """Meters that have a window."""
        return len(np.unique(self.at[:, 0]))


@dataclass(frozen=True)
class Split:
    """A set of meters, those that training sees and those that it does not."""

    series: MeterSeries
    seen: list[int]
    unseen: list[int]


def splits(sets: Sequence[MeterSeries], seed: int, unseen_share: float) -> list[Split]:
    """Keeps a share of each set's meters out, drawn by the seed; none of a set of one."""
    found = []
    for series in sets:
        count = len(series.names)
        alone = unseen_share == 0 or count == 1
        seen, unseen = (list(range(count)), []) if alone else split_unseen(count, seed, unseen_share)
        found.append(Split(series, seen, unseen))
    return found


def parts(found: Sequence[Split], until_ms: int) -> list[Part]:
    """The seen meters as hourly series, and their windows that end before `until_ms`.

    Raises:
        ValueError: there is no window at all.
    """
    made = []
    for split in found:
        series = hourly(split.series.take(split.seen))
        made.append(Part(series, windows(series, series.start_ms, until_ms)))
    kept = [part for part in made if len(part.at)]
    if not kept:
        raise ValueError("no training window before --until: choose a later one, or give more data")
    return kept


def windows(series: MeterSeries, first_ms: int, last_ms: int, stride: int = 1) -> NDArray[np.int64]:
    """Windows of hourly series that are issued from `first_ms` on and end by `last_ms`: pairs (meter, hour), [n, 2]."""
    first, last = ((at_ms - series.start_ms) // _HOUR_MS for at_ms in (first_ms, last_ms))
    return origins(series, max(int(first), 0), min(max(int(last), 0), series.kwh.shape[1]), stride)


def hourly(series: MeterSeries) -> MeterSeries:
    """The same meters by the hour; an hour of which less than half is known is missing."""
    per_hour = series.per_hour
    if per_hour == 1:
        return series
    begin = -(series.start_ms // (series.step_s * 1000)) % per_hour
    hours = (series.kwh.shape[1] - begin) // per_hour
    steps = series.kwh[:, begin : begin + hours * per_hour].reshape(len(series.names), hours, per_hour)
    share = np.isfinite(steps).mean(axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        kwh = np.where(share >= 0.5, np.nansum(steps, axis=2) / share, np.nan).astype(np.float32)
    offset = series.utc_offset_s[begin : begin + hours * per_hour : per_hour]
    start = series.start_ms + begin * series.step_s * 1000
    return MeterSeries(series.names, start, kwh, offset, 3600, series.zone)


def batches(found: Sequence[Part], seed: int, steps: int, rows: int) -> Iterator[Batch]:
    """Random augmented windows as training batches; the same seed gives the same batches.

    A set is drawn as often as it has meters, a meter as often as another of its set.
    """
    rng = np.random.default_rng(seed)
    if len(found) == 1:
        order = iter([(0, steps)])
    else:
        weight = np.array([part.meters for part in found], dtype=np.float64)
        drawn = rng.choice(len(found), steps, p=weight / weight.sum())
        order = ((int(i), 1) for i in drawn)
    for which, count in order:
        part = found[which]
        for pairs in shuffled(part.at, rows, count, rng):
            yield _batch(part.series, pairs, rng)


def _batch(series: MeterSeries, pairs: NDArray[np.int64], rng: np.random.Generator) -> Batch:
    plain = cut(series, pairs)
    changed = augmented(plain, rng)
    # A meter in a shifted week has no calendar; and some of the others have none, as a meter without a zone.
    shown = (changed.utc_offset_s == plain.utc_offset_s) & (rng.random(len(pairs)) >= HIDDEN_SHARE)
    inputs, scale = inputs_of(changed, series.zone, shown)
    used = scale > 0
    target = changed.target[used] / scale[used, None]
    return Batch({name: value[used] for name, value in inputs.items()}, target.astype(np.float32))


def probe(part: Part, seed: int) -> Inputs:
    """Real inputs to compare an export on."""
    chosen = part.at[np.random.default_rng(seed).integers(0, len(part.at), PROBE_ROWS)]
    return inputs_of(cut(part.series, chosen), part.series.zone)[0]


def reference(found: Sequence[Part]) -> str:
    """How the inputs of a training are distributed, as its model carries it: a window a meter and day."""
    seen: drift.Counts = {}
    for part in found:
        # Every 25th hour of issue: a day apart, and through all hours of the day.
        chosen = part.at[part.at[:, 1] % REFERENCE_STRIDE == 0]
        for first in range(0, len(chosen), CHUNK_ROWS):
            seen = drift.added(seen, drift.counts(cut(part.series, chosen[first : first + CHUNK_ROWS]).history))
    return drift.reference_of(seen) if any(map(sum, seen.values())) else ""
