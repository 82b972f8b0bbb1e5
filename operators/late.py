"""Late, revised and mixed readings: derive again what they change, from the stored readings around them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from operators.energy import SLOT_MS, Derived, SeriesConfig, Slots, derive
from operators.increments import Ints
from operators.readings import Kind
from operators.settle import OPEN_END, Range, decide
from operators.tables import MIXED, Heads, Pairs, SlotRanges, Window, delete_other_slots, read_window, write_slots

MARGINS_MS = tuple(hours * 3_600_000 for hours in (2, 24, 14 * 24, 120 * 24, 36_500 * 24))
"""How far around a change to look, one after another, until its effect is known to end."""


@dataclass(frozen=True)
class Changes:
    """Pairs, and the first and last time that changed in each (of an interval also its start)."""

    pair: Ints
    low_ms: Ints
    high_ms: Ints

    def __len__(self) -> int:
        return len(self.pair)


@dataclass(frozen=True)
class _Part:
    """One (pair, kind) of a window: its rows, and which of them decide which slots."""

    pair: int
    kind: int
    rows: Ints
    range: Range


def derive_again(cursor: Cursor, pairs: Pairs, heads: Heads, changes: Changes) -> list[tuple[int, int]]:
    """Bring `energy_slot`, and the `carry` of `heads` in place, to what the stored readings say.

    `heads` must already know of the changed readings (kind, first, head and longest interval). Returns the spans of
    time [from, until) in which slots were written or deleted, epoch ms.
    """
    spans: list[tuple[int, int]] = []
    for margin in MARGINS_MS:
        if not len(changes):
            break
        begin = changes.low_ms - margin
        end = changes.high_ms + margin + heads.max_interval_ms[changes.pair]
        window = read_window(cursor, pairs, changes.pair, begin, end)
        complete = (begin <= heads.first_ms[changes.pair], end >= heads.head_ms[changes.pair])
        parts: list[_Part] = []
        wider: list[int] = []
        for i, pair in enumerate(changes.pair.tolist()):
            touched = int(changes.low_ms[i]), int(changes.high_ms[i])
            within = bool(complete[0][i]), bool(complete[1][i])
            found = _parts(window, i, pair, int(heads.kind[pair]), touched=touched, complete=within)
            if found is None:
                wider.append(i)
            else:
                parts += found
        if parts:
            spans += _settle(cursor, pairs, heads, window, parts)
        changes = Changes(changes.pair[wider], changes.low_ms[wider], changes.high_ms[wider])
    return spans


def _parts(
    window: Window, row: int, pair: int, kind: int, *, touched: tuple[int, int], complete: tuple[bool, bool]
) -> list[_Part] | None:
    low, high = np.searchsorted(window.row, row, "left"), np.searchsorted(window.row, row, "right")
    parts: list[_Part] = []
    for each in list(Kind) if kind == MIXED else [Kind(kind)]:
        rows = np.arange(low, high)[window.kind[low:high] == each]
        ts = window.ts_ms[rows]
        change = decide(each, ts, ts - window.interval_ms[rows], window.value[rows], touched=touched, complete=complete)
        if change is None:
            return None
        parts.append(_Part(pair, each, rows, change))
    return parts


def _settle(cursor: Cursor, pairs: Pairs, heads: Heads, window: Window, parts: list[_Part]) -> list[tuple[int, int]]:
    picked = [part.rows[part.range.first : part.range.stop] for part in parts]
    rows = np.concatenate(picked)
    number = np.repeat(np.arange(len(parts)), [len(each) for each in picked])
    ranges = SlotRanges(
        np.array([part.pair for part in parts], np.int64),
        np.array([part.kind for part in parts], np.int8),
        np.array([part.range.from_ms for part in parts], np.int64),
        np.array([part.range.until_ms for part in parts], np.int64),
    )
    derived = derive(
        number, window.ts_ms[rows], window.value[rows], window.interval_ms[rows], window.quality[rows],
        config=SeriesConfig(ranges.kind, heads.register_max[ranges.pair], heads.max_kw[ranges.pair]),
    )  # fmt: skip
    for i, part in enumerate(parts):
        if part.range.head and heads.kind[part.pair] != MIXED:
            _stand(heads, part.pair, derived, i)
    s = derived.slots
    inside = (s.slot_ms >= ranges.from_ms[s.series]) & (s.slot_ms < ranges.until_ms[s.series])
    owner = s.series[inside]
    gone = delete_other_slots(cursor, pairs, ranges, owner, s.slot_ms[inside])
    slots = Slots(ranges.pair[owner], s.slot_ms[inside], s.kwh[inside], s.covered_ms[inside], s.readings[inside])
    write_slots(cursor, pairs, slots, ranges.kind[owner])
    return [(int(c.min()), int(c.max()) + SLOT_MS) for c in (gone, slots.slot_ms) if len(c)]


def _stand(heads: Heads, pair: int, derived: Derived, number: int) -> None:
    mine, new = heads.carry, derived.carry
    mine.last_ms[pair], mine.mark[pair], mine.estimated[pair] = (
        new.last_ms[number], new.mark[number], new.estimated[number],
    )  # fmt: skip
    mine.kwh[pair], mine.covered_ms[pair], mine.readings[pair] = (
        new.kwh[number], new.covered_ms[number], new.readings[number],
    )  # fmt: skip


def changes_of(pair: Ints, low_ms: Ints, high_ms: Ints) -> Changes:
    """One row a pair: the span that its changes cover."""
    unique, inverse = np.unique(pair, return_inverse=True)
    low, high = np.full(len(unique), OPEN_END), np.full(len(unique), -OPEN_END)
    np.minimum.at(low, inverse, low_ms)
    np.maximum.at(high, inverse, high_ms)
    return Changes(unique, low, high)
