"""Late, revised and mixed readings: derive again what they change, from the stored readings around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from operators.energy import SLOT_MS, Derived, SeriesConfig, Slots, derive, implausible
from operators.finding_tables import FindingRanges, replace_findings
from operators.findings import find
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
    first_ms: Ints
    """Time of the first reading that changed: `low_ms`, or the end of the interval that began there."""

    def take(self, index: list[int]) -> Self:
        """Those at `index`."""
        return type(self)(self.pair[index], self.low_ms[index], self.high_ms[index], self.first_ms[index])

    def __len__(self) -> int:
        return len(self.pair)


@dataclass(frozen=True)
class _Part:
    """One (pair, kind) of a window: the rows that decide its slots and findings, and of which time these are."""

    pair: int
    kind: int
    rows: Ints
    range: Range
    since_ms: int
    """No finding of the range begins earlier …"""
    found_ms: int
    """… and none of an earlier reading changed."""


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
        for i in range(len(changes)):
            found = _parts(window, i, changes, heads, complete=(bool(complete[0][i]), bool(complete[1][i])))
            if found is None:
                wider.append(i)
            else:
                parts += found
        if parts:
            spans += _settle(cursor, pairs, heads, window, parts)
        changes = changes.take(wider)
    return spans


def _parts(
    window: Window, i: int, changes: Changes, heads: Heads, *, complete: tuple[bool, bool]
) -> list[_Part] | None:
    """What the change `i` asks for, kind by kind; None where the window does not show enough."""
    pair, touched = int(changes.pair[i]), (int(changes.low_ms[i]), int(changes.high_ms[i]))
    first_ms, kind = int(changes.first_ms[i]), int(heads.kind[pair])
    mine = np.arange(np.searchsorted(window.row, i, "left"), np.searchsorted(window.row, i, "right"))
    parts: list[_Part] = []
    for each in list(Kind) if kind == MIXED else [Kind(kind)]:
        rows = mine[window.kind[mine] == each]
        # What is not believed decides no slot: to look at it as a neighbour would end the search too early.
        absurd = implausible(each, window.value[rows], window.interval_ms[rows], float(heads.max_kw[pair]))
        rows, unbelieved = rows[~absurd], rows[absurd]
        ts = window.ts_ms[rows]
        change = decide(each, ts, ts - window.interval_ms[rows], window.value[rows], touched=touched, complete=complete)
        if change is None:
            return None
        picked = rows[change.first : change.stop]
        since_ms = min(touched[0], int(window.ts_ms[picked[0]])) if len(picked) else touched[0]
        odd = window.ts_ms[unbelieved]
        unbelieved = unbelieved[(odd >= first_ms) & (odd <= change.until_ms)]
        found_ms = first_ms
        if each == Kind.REGISTER and len(picked):
            # A counter that comes back changes what was found when it fell.
            found_ms = min(first_ms, int(window.ts_ms[picked[0]]) + 1)
        parts.append(_Part(pair, each, np.concatenate([picked, unbelieved]), change, since_ms, found_ms))
    return parts


def _settle(cursor: Cursor, pairs: Pairs, heads: Heads, window: Window, parts: list[_Part]) -> list[tuple[int, int]]:
    rows = np.concatenate([part.rows for part in parts])
    number = np.repeat(np.arange(len(parts)), [len(part.rows) for part in parts])
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
    slots = Slots(ranges.pair[owner], s.slot_ms[inside], s.kwh[inside], s.covered_ms[inside], s.readings[inside])
    write_slots(cursor, pairs, slots, ranges.kind[owner])
    gone = delete_other_slots(cursor, pairs, ranges, owner, slots.slot_ms)
    found = FindingRanges(
        ranges.pair, ranges.kind,
        np.array([part.found_ms for part in parts], np.int64), ranges.until_ms,
        np.array([part.since_ms for part in parts], np.int64),
    )  # fmt: skip
    replace_findings(cursor, pairs, found, find(derived.events, ranges.kind, heads.max_kw[ranges.pair]))
    return [(int(c.min()), int(c.max()) + SLOT_MS) for c in (gone, slots.slot_ms) if len(c)]


def _stand(heads: Heads, pair: int, derived: Derived, number: int) -> None:
    mine, new = heads.carry, derived.carry
    mine.last_ms[pair], mine.mark[pair], mine.estimated[pair] = (
        new.last_ms[number], new.mark[number], new.estimated[number],
    )  # fmt: skip
    mine.kwh[pair], mine.covered_ms[pair], mine.readings[pair] = (
        new.kwh[number], new.covered_ms[number], new.readings[number],
    )  # fmt: skip
    mine.fallen[pair] = new.fallen[number]


def changes_of(pair: Ints, low_ms: Ints, high_ms: Ints) -> Changes:
    """One row a pair: the span that its changes cover; `high_ms` is each reading's time."""
    unique, inverse = np.unique(pair, return_inverse=True)
    low, high, first = (np.full(len(unique), fill) for fill in (OPEN_END, -OPEN_END, OPEN_END))
    np.minimum.at(low, inverse, low_ms)
    np.maximum.at(high, inverse, high_ms)
    np.minimum.at(first, inverse, high_ms)
    return Changes(unique, low, high, first)
