"""Meter readings as columns, the shape in which every operator takes and gives them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

IMPORT_REGISTER = "1-0:1.8.0"
"""OBIS code of the active energy import total (IEC 62056-6-1): the register of a reading that names none."""

EXPORT_REGISTER = "1-0:2.8.0"
"""OBIS code of the active energy export total; its energy enters a meter's net with a negative sign."""


class Kind(IntEnum):
    """What a reading's value means."""

    REGISTER = 0
    """Cumulative energy counter, kWh."""
    INTERVAL = 1
    """Energy of the interval that ends at the reading's time, kWh."""
    INSTANT = 2
    """Power at the reading's time, kW."""


class Quality(IntEnum):
    """How far a reading may be trusted; an invalid one is stored and enters no sum."""

    MEASURED = 0
    ESTIMATED = 1
    INVALID = 2


@dataclass(frozen=True)
class Readings:
    """Columns of n validated readings, in canonical units (kWh, kW) and UTC; row i of each column is one reading."""

    meter_id: NDArray[np.object_]
    register: NDArray[np.object_]
    ts_ms: NDArray[np.int64]
    """Epoch milliseconds, UTC; an interval ends here."""
    kind: NDArray[np.int8]
    value: NDArray[np.float64]
    interval_ms: NDArray[np.int64]
    """Length of an interval; 0 for the other kinds."""
    revision: NDArray[np.int64]
    quality: NDArray[np.int8]
    tenant_id: NDArray[np.object_]

    def __len__(self) -> int:
        return len(self.ts_ms)

    def take(self, index: NDArray[Any]) -> Self:
        """The rows that `index` (positions or a mask) picks, in its order."""
        return type(self)(*(getattr(self, field.name)[index] for field in fields(self)))
