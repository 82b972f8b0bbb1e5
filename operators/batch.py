"""One batch of readings on its way into the database: which are new, which count, and the energy they change."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from operators import tables
from operators.energy import SLOT_MS, SeriesConfig, derive, resolve
from operators.finding_tables import write_findings
from operators.findings import find
from operators.increments import Bools, Floats, Ints
from operators.late import changes_of, derive_again
from operators.pg import storable
from operators.readings import Readings
from operators.tables import MIXED, Heads, Pairs, Rank


@dataclass(frozen=True)
class WriteCounts:
    """What became of n readings; the four add up to n."""

    new: int = 0
    repeated: int = 0
    """The same revision and value was there."""
    superseded: int = 0
    """Replaced a lower revision, or came after a higher one."""
    conflicts: int = 0
    """The same revision with another value was there: the greater stays."""


@dataclass(frozen=True)
class Written:
    """Counts, and the span [from, until) of slots that changed, epoch ms."""

    counts: WriteCounts
    changed: tuple[int, int] | None


@dataclass(frozen=True)
class Batch:
    """Readings of one call, each key once, sorted by (pair, time)."""

    readings: Readings
    pair: Ints
    """Pair number of each row."""
    pairs: Pairs
    counts: WriteCounts
    """Of the rows that lost against others of the same call."""
    lost: Readings
    """Those that lost against another value of the same revision."""
    received_ms: Ints
    """When each row's key arrived first."""

    @classmethod
    def of(cls, readings: Readings, received_ms: Ints) -> Batch:
        """Number the pairs by name, so that all writers lock in one order, and keep one reading of each key."""
        keys: dict[tuple[str, str], int] = {}
        readings = replace(readings, meter_id=storable(readings.meter_id), register=storable(readings.register))
        found = zip(readings.meter_id.tolist(), readings.register.tolist(), strict=True)
        pair = np.fromiter((keys.setdefault(key, len(keys)) for key in found), np.int64, len(readings))
        names = sorted(keys)
        number = np.empty(len(keys), np.int64)
        number[[keys[name] for name in names]] = np.arange(len(names))
        pair = number[pair]
        resolved = resolve(pair, readings)
        meters, registers = np.array([m for m, _ in names], object), np.array([r for _, r in names], object)
        return cls(
            readings.take(resolved.keep),
            pair[resolved.keep],
            Pairs(meters, registers),
            WriteCounts(0, resolved.repeated, resolved.superseded, len(resolved.conflicts)),
            readings.take(resolved.conflicts),
            _first_arrivals(pair, readings.ts_ms, received_ms),
        )

    def introduce(self, cursor: Cursor) -> None:
        """Make the batch's meters and pairs known."""
        tenant = dict(zip(self.readings.meter_id.tolist(), self.readings.tenant_id.tolist(), strict=True))
        tables.introduce(cursor, self.pairs, tenant)

    def write(self, cursor: Cursor) -> Written | None:
        """Everything in the cursor's transaction; None (and nothing done) where a pair must be introduced first."""
        r, pair = self.readings, self.pair
        heads = tables.lock_heads(cursor, self.pairs)
        if heads is None:
            return None
        late = self._late(heads)[pair]
        stored = tables.stored_ranks(cursor, r, np.flatnonzero(late))
        counts, wins, clash, dropped = self._compare(stored)
        tables.record_conflicts(cursor, _both(self.lost, r.take(clash)), np.concatenate([self.lost.value, dropped]))
        if not wins.any():
            return Written(counts, None)
        tables.insert_readings(cursor, r.take(wins), self.received_ms[wins])
        heads, spans = self._append(cursor, self._moved(heads, wins), np.flatnonzero(~late))
        changed = np.flatnonzero(late & wins)
        if len(changed):
            old_length = np.array([stored[i][3] if i in stored else 0 for i in changed.tolist()], np.int64)
            low = r.ts_ms[changed] - np.maximum(r.interval_ms[changed], old_length)
            spans += derive_again(cursor, self.pairs, heads, changes_of(pair[changed], low, r.ts_ms[changed]))
        tables.write_heads(cursor, self.pairs, heads, np.unique(pair[wins]))
        span = (min(low for low, _ in spans), max(high for _, high in spans)) if spans else None
        return Written(counts, span)

    def _kind(self, heads: Heads) -> NDArray[np.int8]:
        """The kind of each pair with this batch, `MIXED` where it has several."""
        kind = heads.kind.copy()
        fresh = ~heads.known[self.pair]
        kind[self.pair[fresh]] = self.readings.kind[fresh]
        kind[self.pair[self.readings.kind != kind[self.pair]]] = MIXED
        return kind

    def _late(self, heads: Heads) -> Bools:
        """Pairs [p] that cannot be appended to: something reaches before their last reading, or they mix kinds, or
        their counter fell and may come back.
        """
        r, pair = self.readings, self.pair
        late = np.asarray((self._kind(heads) == MIXED) | heads.carry.fallen, np.bool_)
        late[pair[(r.ts_ms <= heads.head_ms[pair]) | (r.ts_ms - r.interval_ms < heads.head_ms[pair])]] = True
        return late

    def _compare(self, stored: dict[int, Rank]) -> tuple[WriteCounts, Bools, Ints, Floats]:
        """Counts, which rows are to be written, and of conflicts the row and the value that is dropped."""
        r = self.readings
        wins = np.ones(len(r), np.bool_)
        repeated = superseded = 0
        clash: list[int] = []
        dropped: list[float] = []
        for i, old in stored.items():
            mine = (int(r.revision[i]), float(r.value[i]), int(r.kind[i]), int(r.interval_ms[i]), int(r.quality[i]))
            wins[i] = mine > old
            if mine[0] != old[0]:
                superseded += 1
            elif mine[1] == old[1]:
                repeated += 1
            else:
                clash.append(i)
                dropped.append(min(mine[1], old[1]))
        c = self.counts
        counts = WriteCounts(
            len(r) - len(stored), c.repeated + repeated, c.superseded + superseded, c.conflicts + len(clash)
        )
        return counts, wins, np.array(clash, np.int64), np.array(dropped, np.float64)

    def _moved(self, heads: Heads, wins: Bools) -> Heads:
        """The heads with the written readings in them; their energy is still to be derived."""
        pair, ts = self.pair[wins], self.readings.ts_ms[wins]
        first, head, longest = heads.first_ms.copy(), heads.head_ms.copy(), heads.max_interval_ms.copy()
        np.minimum.at(first, pair, ts)
        np.maximum.at(head, pair, ts)
        np.maximum.at(longest, pair, self.readings.interval_ms[wins])
        return replace(heads, kind=self._kind(heads), first_ms=first, head_ms=head, max_interval_ms=longest)

    def _append(self, cursor: Cursor, heads: Heads, index: Ints) -> tuple[Heads, list[tuple[int, int]]]:
        """Derive the rows that come after all others of their pair, from the carried state alone."""
        r = self.readings
        config = SeriesConfig(np.maximum(heads.kind, 0), heads.register_max, heads.max_kw)
        derived = derive(
            self.pair[index], r.ts_ms[index], r.value[index], r.interval_ms[index], r.quality[index],
            config=config, carry=heads.carry,
        )  # fmt: skip
        slots = derived.slots
        tables.write_slots(cursor, self.pairs, slots, heads.kind[slots.series])
        write_findings(cursor, self.pairs, find(derived.events, config.kind, heads.max_kw))
        spans = [(int(slots.slot_ms.min()), int(slots.slot_ms.max()) + SLOT_MS)] if len(slots) else []
        return replace(heads, carry=derived.carry), spans


def _first_arrivals(pair: Ints, ts_ms: Ints, received_ms: Ints) -> Ints:
    """By key, in the order of (pair, time): its earliest arrival, whichever of its readings counts."""
    order = np.lexsort((received_ms, ts_ms, pair))
    first = np.ones(len(order), np.bool_)
    first[1:] = (np.diff(pair[order]) != 0) | (np.diff(ts_ms[order]) != 0)
    return np.asarray(received_ms[order][first], np.int64)


def _both(a: Readings, b: Readings) -> Readings:
    names = ("meter_id", "register", "ts_ms", "kind", "value", "interval_ms", "revision", "quality", "tenant_id")
    return Readings(*(np.concatenate([getattr(a, name), getattr(b, name)]) for name in names))
