"""Training on meter series: which windows, in which order, for how long; and who is kept out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice

import numpy as np
from numpy.typing import NDArray

from models.contract import Batch
from models.dataset import MeterSeries, Windows, cut, inputs_of, origins, split_unseen
from models.drawing import NO_LOAD, ROUND, Plan, batch_of, draws, joined, key_of
from operators.features import CONTEXT_HOURS, HORIZON_HOURS, Inputs
from operators.serving import drift

_HOUR_MS = 3_600_000
PROBE_ROWS = 512
REFERENCE_STRIDE = 25
CHUNK_ROWS = 4096


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
        meters = len(series.names)
        alone = unseen_share == 0 or meters == 1
        seen, unseen = (list(range(meters)), []) if alone else split_unseen(meters, seed, unseen_share)
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
        made.append(Part(series, trainable(series, until_ms)))
    kept = [part for part in made if len(part.at)]
    if not kept:
        raise ValueError("no training window before --until: choose a later one, or give more data")
    return kept


def windows(series: MeterSeries, first_ms: int, last_ms: int, stride: int = 1) -> NDArray[np.int64]:
    """Windows of hourly series that are issued from `first_ms` on and end by `last_ms`: pairs (meter, hour), [n, 2]."""
    first, last = ((at_ms - series.start_ms) // _HOUR_MS for at_ms in (first_ms, last_ms))
    return origins(series, max(int(first), 0), min(max(int(last), 0), series.kwh.shape[1]), stride)


def trainable(series: MeterSeries, until_ms: int) -> NDArray[np.int64]:
    """Windows of hourly series to train on: pairs (meter, hour), [n, 2].

    They lie within what is known of their meter, so that they do not depend on the grid that it shares with others.
    """
    at = windows(series, series.start_ms, until_ms)
    known = np.isfinite(series.kwh)
    first, last = known.argmax(axis=1), known.shape[1] - known[:, ::-1].argmax(axis=1)
    inside = (at[:, 1] - CONTEXT_HOURS >= first[at[:, 0]]) & (at[:, 1] + HORIZON_HOURS <= last[at[:, 0]])
    return np.asarray(at[inside])


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
    return replace(series, start_ms=start, kwh=kwh, utc_offset_s=offset, step_s=3600)


def batches(found: Sequence[Part], seed: int, steps: int, rows: int) -> Iterator[Batch]:
    """Random changed windows as training batches (`models/drawing.py`); the same seed gives the same batches."""
    plan = Plan(seed, rows, sum(part.meters for part in found))
    return islice(_rounds(found, plan), steps)


def _rounds(found: Sequence[Part], plan: Plan) -> Iterator[Batch]:
    """All the batches there could be, round by round."""
    owned = [
        (key_of(part.series.names[meter], part.series.zone), i, part.at[part.at[:, 0] == meter])
        for i, part in enumerate(found)
        for meter in np.unique(part.at[:, 0]).tolist()
    ]
    owned.sort(key=lambda meter: (found[meter[1]].series.zone, meter[0]))
    found_any = False
    for number in count():
        if number > 0 and not found_any:
            raise ValueError(NO_LOAD)
        drawn = [draws(plan, number, key, len(at)) for key, _, at in owned]
        pairs = np.concatenate([at[chosen] for (_, _, at), (chosen, _) in zip(owned, drawn, strict=True)])
        size = [len(chosen) for chosen, _ in drawn]
        rank, part = np.repeat(np.arange(len(owned)), size), np.repeat([i for _, i, _ in owned], size)
        batch = np.concatenate([to for _, to in drawn])
        order = np.lexsort((pairs[:, 1], rank, batch))
        ends = np.searchsorted(batch[order], np.arange(ROUND + 1))
        for i in np.flatnonzero(np.diff(ends)).tolist():
            rows = order[ends[i] : ends[i + 1]]
            windows = _by_zone(found, part[rows], pairs[rows])
            made = batch_of(plan, number, i, list(windows), list(windows.values()))
            if made is not None:
                found_any = True
                yield made


def _by_zone(found: Sequence[Part], part: NDArray[np.int64], pairs: NDArray[np.int64]) -> dict[str, Windows]:
    """Windows of several parts by the zone of their meters, each zone's in the order given."""
    cuts: dict[str, list[tuple[NDArray[np.int64], Windows]]] = {}
    for which in np.unique(part).tolist():
        rows, series = np.flatnonzero(part == which), found[which].series
        cuts.setdefault(series.zone, []).append((rows, cut(series, pairs[rows])))
    return {
        zone: joined([windows for _, windows in made], np.argsort(np.concatenate([rows for rows, _ in made])))
        for zone, made in sorted(cuts.items())
    }


def probe(part: Part, seed: int) -> Inputs:
    """Real inputs to compare an export on."""
    chosen = part.at[np.random.default_rng(seed).integers(0, len(part.at), PROBE_ROWS)]
    return inputs_of(cut(part.series, chosen), part.series.zone)[0]


def inputs_seen(found: Sequence[Part]) -> drift.Counts:
    """How the inputs of a training are distributed, for its model to carry: a window a meter and day."""
    seen: drift.Counts = drift.added({}, {})
    for part in found:
        # Every 25th hour since 1970: a day apart, through all hours of the day, and the same on any grid.
        hour = part.series.start_ms // _HOUR_MS + part.at[:, 1]
        chosen = part.at[hour % REFERENCE_STRIDE == 0]
        for first in range(0, len(chosen), CHUNK_ROWS):
            seen = drift.added(seen, drift.counts(cut(part.series, chosen[first : first + CHUNK_ROWS]).history))
    return seen
