"""One register's whole history, derived again from the stored readings: after a change of its meter's configuration.

The readings stream through in pieces of bounded size. Counters and powers go on from a carry, bit-equal to one
derivation of all. Intervals may overlap: a piece is derived as far as no later reading can reach back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from operators.energy import NEVER, SLOT_MS, Carry, Derived, SeriesConfig, Slots, derive
from operators.finding_tables import FindingRanges, replace_findings
from operators.findings import find
from operators.increments import Ints, is_anchor
from operators.readings import Kind
from operators.settle import OPEN_END
from operators.tables import (
    FIRST_MS,
    MIXED,
    Heads,
    Pairs,
    SlotRanges,
    Window,
    delete_other_slots,
    lock_heads,
    read_on,
    write_heads,
    write_slots,
)

PIECE = 50_000
"""Readings that are held at a time (of intervals: and those as long as the longest one before the end)."""


@dataclass(frozen=True)
class _Piece:
    """Derived energy that is settled in slots [from_ms, until_ms), and findings of readings (after_ms, to_ms]."""

    derived: Derived
    from_ms: int
    until_ms: int
    after_ms: int
    to_ms: int


def rederive(cursor: Cursor, meter_id: str, register: str, piece: int = PIECE) -> tuple[int, int] | None:
    """Bring a register's slots, findings and state to what its readings and its meter's configuration say.

    Args:
        cursor: of the transaction; writers of the register wait until it ends.
        meter_id: whose register.
        register: as in the readings.
        piece: how many readings to hold at a time.

    Returns:
        The span [from, until) in which slots were written or deleted, epoch ms; None where there were none.
    """
    pairs = Pairs(np.array([meter_id], object), np.array([register], object))
    heads = lock_heads(cursor, pairs)
    if heads is None or not heads.known[0]:
        return None
    kind = int(heads.kind[0])
    changed: list[Ints] = []
    carry = Carry.empty(1)
    for each in list(Kind) if kind == MIXED else [Kind(kind)]:
        pieces = _intervals if each == Kind.INTERVAL else _in_order
        for part in pieces(cursor, pairs, heads, each, piece):
            changed += _replace(cursor, pairs, heads, each, part)
            if part.derived.carry.last_ms[0] != NEVER:
                carry = part.derived.carry
    if kind != MIXED:
        write_heads(cursor, pairs, replace(heads, carry=carry), np.zeros(1, np.int64))
    starts = np.concatenate(changed) if changed else np.zeros(0, np.int64)
    return (int(starts.min()), int(starts.max()) + SLOT_MS) if len(starts) else None


def _in_order(cursor: Cursor, pairs: Pairs, heads: Heads, kind: Kind, piece: int) -> Iterator[_Piece]:
    """Counters and powers, from carry to carry."""
    carry, after_ms, from_ms, size = Carry.empty(1), FIRST_MS, FIRST_MS, piece
    while True:
        rows = read_on(cursor, pairs, kind, after_ms, size)
        derived = _derive(rows, heads, kind, carry)
        if len(rows) < size:
            yield _Piece(derived, from_ms, OPEN_END, after_ms, OPEN_END)
            return
        if derived.carry.fallen[0]:
            # The next piece may say that it had not: it begins before the fall.
            firm = np.flatnonzero(is_anchor(rows.value))
            if not len(firm):
                size *= 2
                continue
            rows = rows.take(np.arange(firm[-1] + 1))
            derived = _derive(rows, heads, kind, carry)
        size = piece
        to_ms = int(rows.ts_ms[-1])
        until_ms = to_ms // SLOT_MS * SLOT_MS + SLOT_MS
        yield _Piece(derived, from_ms, until_ms, after_ms, to_ms)
        carry, after_ms, from_ms = derived.carry, to_ms, until_ms


def _intervals(cursor: Cursor, pairs: Pairs, heads: Heads, kind: Kind, piece: int) -> Iterator[_Piece]:
    """Intervals, up to the slot that the longest one ending later cannot touch."""
    reach = int(heads.max_interval_ms[0])
    held = read_on(cursor, pairs, kind, FIRST_MS, piece)
    more, from_ms = len(held) == piece, FIRST_MS
    while more:
        until_ms = (int(held.ts_ms[-1]) - reach) // SLOT_MS * SLOT_MS
        if until_ms > from_ms:
            use = held.take(held.ts_ms - held.interval_ms < until_ms)
            yield _Piece(_derive(use, heads, kind), from_ms, until_ms, from_ms, until_ms)
            held, from_ms = held.take(held.ts_ms > until_ms), until_ms
        following = read_on(cursor, pairs, kind, int(held.ts_ms[-1]), piece)
        more = len(following) == piece
        held = Window(*(np.concatenate([getattr(held, f.name), getattr(following, f.name)]) for f in fields(Window)))
    yield _Piece(_derive(held, heads, kind), from_ms, OPEN_END, from_ms, OPEN_END)


def _derive(rows: Window, heads: Heads, kind: Kind, carry: Carry | None = None) -> Derived:
    config = SeriesConfig(np.array([kind], np.int8), heads.register_max, heads.max_kw)
    series = np.zeros(len(rows), np.int64)
    return derive(series, rows.ts_ms, rows.value, rows.interval_ms, rows.quality, config=config, carry=carry)


def _replace(cursor: Cursor, pairs: Pairs, heads: Heads, kind: Kind, piece: _Piece) -> list[Ints]:
    """Starts of the slots that were deleted, and of those that were written."""
    s, kinds, zero = piece.derived.slots, np.array([kind], np.int8), np.zeros(1, np.int64)
    # A counter's open slot belongs to the piece before and is written again in full.
    s = Slots(*(getattr(s, f.name)[s.slot_ms < piece.until_ms] for f in fields(Slots)))
    if kind == Kind.INTERVAL:
        s = Slots(*(getattr(s, f.name)[s.slot_ms >= piece.from_ms] for f in fields(Slots)))
    fresh = s.slot_ms[s.slot_ms >= piece.from_ms]
    ranges = SlotRanges(zero, kinds, zero + piece.from_ms, zero + piece.until_ms)
    write_slots(cursor, pairs, s, np.full(len(s), kind, np.int8))
    gone = delete_other_slots(cursor, pairs, ranges, np.zeros(len(fresh), np.int64), fresh)
    found = FindingRanges(zero, kinds, zero + piece.after_ms + 1, zero + piece.to_ms, zero + FIRST_MS)
    replace_findings(cursor, pairs, found, find(piece.derived.events, kinds, heads.max_kw))
    return [gone, s.slot_ms]
