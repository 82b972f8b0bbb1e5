"""The readings of one quarter hour as bytes: what a shard keeps beside its sums, to derive them again.

A column of which all values are equal takes one value: the usual quarter hour of a usual meter costs 20 bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from operators.energy import SLOT_MS
from operators.increments import Floats, Ints, limit_kwh
from operators.readings import Kind, Quality

DENSE = 4
"""Readings of a counter in a quarter hour, above which only the first and the last are kept where it went up evenly."""

_HEAD = struct.Struct("<IB")
_TYPES: tuple[np.dtype[Any], ...] = (
    np.dtype("<u4"),
    np.dtype("<u4"),
    np.dtype("<f8"),
    np.dtype("<i8"),
    np.dtype("<i8"),
    np.dtype("<i1"),
)


@dataclass(frozen=True)
class SlotReadings:
    """Columns of n readings: number of the series, epoch ms UTC, kWh or kW, length of intervals, revision, quality."""

    series: Ints
    ts_ms: Ints
    value: Floats
    interval_ms: Ints
    revision: Ints
    quality: NDArray[np.int8]

    @classmethod
    def none(cls) -> Self:
        """No readings."""
        ints = np.zeros(0, np.int64)
        return cls(ints, ints, np.zeros(0), ints, ints, np.zeros(0, np.int8))

    def __len__(self) -> int:
        return len(self.ts_ms)

    def columns(self) -> tuple[NDArray[Any], ...]:
        """The columns, in the order of the fields."""
        return self.series, self.ts_ms, self.value, self.interval_ms, self.revision, self.quality

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_]) -> Self:
        """The rows that `index` (positions or a mask) picks."""
        return type(self)(*(column[index] for column in self.columns()))

    def joined(self, *others: Self) -> Self:
        """These rows, then those of the others."""
        parts = [part.columns() for part in (self, *others)]
        return type(self)(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def pack(self, slot: int) -> bytes:
        """As bytes; all rows end in slot number `slot` (epoch ms // 900,000)."""
        columns = (self.series, self.ts_ms - slot * SLOT_MS, *self.columns()[2:])
        equal, parts = 0, []
        for place, (column, kind) in enumerate(zip(columns, _TYPES, strict=True)):
            stored = column.astype(kind)
            if len(stored) and (stored == stored[0]).all():
                equal |= 1 << place
                stored = stored[:1]
            parts.append(stored.tobytes())
        return b"".join((_HEAD.pack(len(self), equal), *parts))

    @classmethod
    def unpack(cls, packed: bytes, slot: int) -> Self:
        """The rows that `pack` has written.

        >>> import numpy as np
        >>> rows = SlotReadings.none()
        >>> len(SlotReadings.unpack(rows.pack(7), 7))
        0
        """
        n, equal = _HEAD.unpack_from(packed)
        at = _HEAD.size
        columns: list[NDArray[Any]] = []
        for place, kind in enumerate(_TYPES):
            one = bool(equal >> place & 1)
            stored = np.frombuffer(packed, kind, 1 if one else n, at)
            at += stored.nbytes
            wide = stored.astype(np.float64 if kind.kind == "f" else np.int8 if kind.itemsize == 1 else np.int64)
            columns.append(np.repeat(wide, n) if one else wide)
        columns[1] = columns[1] + slot * SLOT_MS
        return cls(*columns)


def condensed(rows: SlotReadings, kind: NDArray[np.int8], max_kw: Floats) -> SlotReadings:
    """The rows of one slot without those that change nothing: of a dense counter that goes up, its first and last.

    Args:
        rows: of one slot, sorted by (series, time).
        kind: int8 by series number.
        max_kw: believable power by series number, NaN for unknown: what is beyond stays, to be judged step by step.
    """
    if len(rows) <= DENSE:
        return rows
    first = np.flatnonzero(np.concatenate([[True], np.diff(rows.series) != 0]))
    last = np.append(first[1:], len(rows)) - 1
    step, span = np.diff(rows.value, prepend=0.0), np.diff(rows.ts_ms, prepend=0)
    step[first], span[first] = 0.0, 0
    plain = (
        (kind[rows.series] == Kind.REGISTER)
        & (rows.quality == Quality.MEASURED)
        & (rows.revision == 0)
        & (step >= 0)
        & ~(step > limit_kwh(max_kw[rows.series], span))
    )
    whole = limit_kwh(max_kw[rows.series[first]], rows.ts_ms[last] - rows.ts_ms[first])
    even = np.logical_and.reduceat(plain, first) & ~(rows.value[last] - rows.value[first] > whole)
    dense = (last - first >= DENSE) & even
    if not dense.any():
        return rows
    keep = np.repeat(~dense, last - first + 1)
    keep[first], keep[last] = True, True
    return rows.take(keep)
