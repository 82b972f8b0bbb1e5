"""Late and revised readings: what they change in a shard's week, derived again from the readings that it has kept."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from operators.energy import SLOT_MS, Carry, Derived, SeriesConfig, derive, end_slot, implausible
from operators.history import History
from operators.increments import Events, Ints
from operators.readings import Kind, Quality
from operators.settle import OPEN_END, Range, decide
from operators.slot_readings import SlotReadings

MARGINS = (8, 104)
"""Quarter hours around a change to look at, one after another, until its effect is known to end; then all."""

Load = Callable[[int], SlotReadings]
Found = Callable[[int, int, int, Events], None]
"""Told, of a counter, that its events from one time to another, both included, are now these."""
Begin = Callable[[Ints, Ints], None]
"""Told of series and the quarter hours in which they have energy, also of those that the history no longer holds."""


@dataclass(frozen=True)
class Touched:
    """Series, and the first and last time that changed in each (of an interval also its start), epoch ms."""

    series: Ints
    low_ms: Ints
    high_ms: Ints

    @classmethod
    def of(cls, series: Ints, low_ms: Ints, high_ms: Ints) -> Touched:
        """One row a series."""
        unique, inverse = np.unique(series, return_inverse=True)
        low, high = np.full(len(unique), OPEN_END), np.full(len(unique), -OPEN_END)
        np.minimum.at(low, inverse, low_ms)
        np.maximum.at(high, inverse, high_ms)
        return cls(unique, low, high)

    def take(self, index: Ints) -> Touched:
        """The rows at these positions."""
        return Touched(self.series[index], self.low_ms[index], self.high_ms[index])


@dataclass(frozen=True)
class _Part:
    series: int
    rows: SlotReadings
    range: Range
    found_ms: int
    """What was found at earlier readings has not changed."""


def known_quality(quality: NDArray[np.int8]) -> NDArray[np.int8]:
    """For features an estimated energy is as good as a measured one: better than a hole."""
    return np.where(quality == Quality.ESTIMATED, Quality.MEASURED, quality).astype(np.int8)


def derive_again(
    touched: Touched,
    longest_ms: Ints,
    config: SeriesConfig,
    kept: Collection[int],
    load: Load,
    history: History,
    carry: Carry,
    begin_at: Begin,
    found: Found | None,
) -> set[int]:
    """Brings `history` and `carry` (both in place) to what the kept readings say, where `touched` says they changed.

    Args:
        touched: series and times.
        longest_ms: the longest interval of each series, by number.
        config: by series number.
        kept: numbers of the quarter hours of which readings are kept.
        load: the readings of one of them.
        history, carry: of all series.
        begin_at: is told where energy was found.
        found: is told what is out of the ordinary; None: nobody is.

    Returns:
        Numbers of the quarter hours that changed.
    """
    numbers = np.array(sorted(kept), np.int64)
    changed: set[int] = set()
    for margin in (*MARGINS, None):
        if not len(touched.series) or not len(numbers):
            break
        if margin is None:
            begin, end = np.full(len(touched.series), numbers[0]), np.full(len(touched.series), numbers[-1])
        else:
            begin = touched.low_ms // SLOT_MS - margin
            end = (touched.high_ms + longest_ms[touched.series]) // SLOT_MS + margin
        rows, number = _rows(numbers, begin, end, touched, load)
        parts: list[_Part] = []
        wider: list[int] = []
        for i, series in enumerate(touched.series.tolist()):
            own = np.flatnonzero((rows.series == series) & (number >= begin[i]) & (number <= end[i]))
            mine = rows.take(own)
            kind = int(config.kind[series])
            # What is not believed decides nothing: as a neighbour it would end the search too early.
            mine = mine.take(~implausible(kind, mine.value, mine.interval_ms, float(config.max_kw[series])))
            complete = bool(begin[i] <= numbers[0]), bool(end[i] >= numbers[-1])
            times = int(touched.low_ms[i]), int(touched.high_ms[i])
            start = mine.ts_ms - mine.interval_ms
            span = decide(kind, mine.ts_ms, start, mine.value, touched=times, complete=complete)
            if span is None:
                wider.append(i)
                continue
            picked = mine.take(np.arange(span.first, span.stop))
            # A counter that comes back changes what was found when it fell.
            since = min(times[0], int(picked.ts_ms[0]) + 1) if len(picked) else times[0]
            parts.append(_Part(series, picked, span, since))
        changed |= _settle(parts, config, history, carry, begin_at, found)
        touched = touched.take(np.array(wider, np.int64))
    return changed


def _rows(numbers: Ints, begin: Ints, end: Ints, touched: Touched, load: Load) -> tuple[SlotReadings, Ints]:
    """Readings that enter sums, of the touched series and their spans, sorted by (series, time); and their slots."""
    wanted = np.zeros(len(numbers), np.bool_)
    for low, high in zip(begin.tolist(), end.tolist(), strict=True):
        wanted |= (numbers >= low) & (numbers <= high)
    found = [SlotReadings.none()]
    at = [np.zeros(0, np.int64)]
    for number in numbers[wanted].tolist():
        rows = load(number)
        rows = rows.take(np.isin(rows.series, touched.series) & (rows.quality != Quality.INVALID))
        found.append(rows)
        at.append(np.full(len(rows), number))
    joined, number = found[0].joined(*found[1:]), np.concatenate(at)
    order = np.lexsort((joined.ts_ms, joined.series))
    return joined.take(order), number[order]


def _settle(
    parts: list[_Part], config: SeriesConfig, history: History, carry: Carry, begin_at: Begin, found: Found | None
) -> set[int]:
    if not parts:
        return set()
    rows = SlotReadings.none().joined(*(part.rows for part in parts))
    owner = np.repeat(np.arange(len(parts)), [len(part.rows) for part in parts])
    series = np.array([part.series for part in parts], np.int64)
    own = SeriesConfig(config.kind[series], config.register_max[series], config.max_kw[series])
    derived = derive(owner, rows.ts_ms, rows.value, rows.interval_ms, known_quality(rows.quality), config=own)
    changed: set[int] = set()
    for i, part in enumerate(parts):
        changed.update(
            history.clear(part.series, part.range.from_ms // SLOT_MS, end_slot(part.range.until_ms)).tolist()
        )
        if part.range.head:
            _stand(carry, part.series, derived, i)
        if found is not None and config.kind[part.series] == Kind.REGISTER:
            e = derived.events
            mine = (e.series == i) & (e.ts_ms >= part.found_ms) & (e.ts_ms <= part.range.until_ms)
            found(part.series, part.found_ms, part.range.until_ms, e.take(mine))
    s = derived.slots
    low = np.array([part.range.from_ms for part in parts], np.int64)
    high = np.array([part.range.until_ms for part in parts], np.int64)
    inside = (s.slot_ms >= low[s.series]) & (s.slot_ms < high[s.series])
    number = s.slot_ms[inside] // SLOT_MS
    begin_at(series[s.series[inside]], number)
    kept = history.set(series[s.series[inside]], number, s.kwh[inside], s.covered_ms[inside], s.readings[inside])
    changed.update(number[kept].tolist())
    return changed


def _stand(carry: Carry, series: int, derived: Derived, i: int) -> None:
    for field in fields(Carry):
        getattr(carry, field.name)[series] = getattr(derived.carry, field.name)[i]
