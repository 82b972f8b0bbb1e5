"""Readings as they go over the wire: columns of one message each, in the order in which they are delivered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from jobs.errors import UserError
from operators.readings import Kind, Quality

KIND_NAMES = {Kind.REGISTER: "register", Kind.INTERVAL: "interval", Kind.INSTANT: "instant"}
QUALITY_NAMES = {Quality.MEASURED: "measured", Quality.ESTIMATED: "estimated", Quality.INVALID: "invalid"}
ENERGY_UNITS = ("Wh", "kWh", "MWh")
POWER_UNITS = ("W", "kW", "MW")


class ReplayError(UserError):
    """Something about a replay that the user can mend; the message is one line that says how."""


@dataclass(frozen=True)
class Batch:
    """Columns of n messages of `meter.readings`; row i of each column is one message, in delivery order."""

    meter_id: NDArray[np.object_]
    ts_ms: NDArray[np.int64]
    """Epoch milliseconds, UTC; an interval ends here."""
    value: NDArray[np.float64]
    """In `unit`."""
    kind: NDArray[np.int8]
    """`operators.readings.Kind`."""
    unit: NDArray[np.object_]
    interval_s: NDArray[np.int64]
    """Length of an interval in seconds; 0: the message names none."""
    register: NDArray[np.object_]
    """OBIS code; empty: the message names none."""
    revision: NDArray[np.int64]
    quality: NDArray[np.int8]
    """`operators.readings.Quality`."""
    seq: NDArray[np.int64]
    """Running number of the meter's messages; -1: the message names none."""
    tenant_id: NDArray[np.object_]
    """Empty: the message names none, which means `default`."""
    deliver_ms: NDArray[np.int64]
    """When the message arrives, on the axis of event time: what a replay's speed goes by."""
    raw: NDArray[np.object_]
    """Bytes sent as they are in place of the columns (a malformed record), else None."""

    def __len__(self) -> int:
        return len(self.ts_ms)

    def take(self, index: NDArray[Any] | slice) -> Self:
        """The rows that `index` (positions, a mask or a slice) picks, in its order."""
        return type(self)(*(getattr(self, field.name)[index] for field in fields(self)))

    def shifted(self, offset_ms: int) -> Self:
        """The same messages, `offset_ms` later; malformed records stay as they are."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        columns["ts_ms"] = self.ts_ms + offset_ms
        columns["deliver_ms"] = self.deliver_ms + offset_ms
        return type(self)(**columns)

    def by_delivery(self) -> Self:
        """The same messages in delivery order; those of one time keep their order."""
        if len(self) < 2 or bool((np.diff(self.deliver_ms) >= 0).all()):
            return self
        return self.take(np.argsort(self.deliver_ms, kind="stable"))


def _texts(value: object, n: int) -> NDArray[np.object_]:
    if isinstance(value, np.ndarray):
        return value.astype(object, copy=False)
    return np.full(n, value, dtype=object)


def _numbers(value: object, n: int, dtype: type[np.generic]) -> NDArray[Any]:
    if isinstance(value, np.ndarray):
        return value.astype(dtype, copy=False)
    return np.full(n, value, dtype=dtype)


def batch(
    meter_id: NDArray[np.object_] | str,
    ts_ms: NDArray[np.int64],
    value: NDArray[np.float64],
    *,
    kind: NDArray[np.int8] | Kind = Kind.INTERVAL,
    unit: NDArray[np.object_] | str = "kWh",
    interval_s: NDArray[np.int64] | int = 0,
    register: NDArray[np.object_] | str = "",
    revision: NDArray[np.int64] | int = 0,
    quality: NDArray[np.int8] | Quality = Quality.MEASURED,
    seq: NDArray[np.int64] | int = -1,
    tenant_id: NDArray[np.object_] | str = "",
    deliver_ms: NDArray[np.int64] | None = None,
    raw: NDArray[np.object_] | None = None,
) -> Batch:
    """A batch of n = len(ts_ms) messages; what is one value holds for all, and delivery is at `ts_ms` unless said."""
    n = len(ts_ms)
    return Batch(
        meter_id=_texts(meter_id, n),
        ts_ms=ts_ms.astype(np.int64, copy=False),
        value=value.astype(np.float64, copy=False),
        kind=_numbers(kind, n, np.int8),
        unit=_texts(unit, n),
        interval_s=_numbers(interval_s, n, np.int64),
        register=_texts(register, n),
        revision=_numbers(revision, n, np.int64),
        quality=_numbers(quality, n, np.int8),
        seq=_numbers(seq, n, np.int64),
        tenant_id=_texts(tenant_id, n),
        deliver_ms=(ts_ms if deliver_ms is None else deliver_ms).astype(np.int64, copy=False),
        raw=np.full(n, None, dtype=object) if raw is None else raw,
    )


def empty() -> Batch:
    """A batch of no messages."""
    return batch("", np.empty(0, np.int64), np.empty(0, np.float64))


def concat(batches: Sequence[Batch]) -> Batch:
    """All rows of `batches`, one after another."""
    if len(batches) == 1:
        return batches[0]
    if not batches:
        return empty()
    return Batch(*(np.concatenate([getattr(part, field.name) for part in batches]) for field in fields(Batch)))
