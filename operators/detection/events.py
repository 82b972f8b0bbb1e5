"""What a detector says: events that open, go on, close, or turn out to have been none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from operators.findings import anomaly_id

if TYPE_CHECKING:
    from operators.detection.state import State

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Kind(IntEnum):
    """Kinds of the topic `anomalies` that are found in the energy of steps."""

    SPIKE = 0
    DROP = 1
    STUCK = 2
    LEVEL_SHIFT = 3
    MISSING = 4


class Status(IntEnum):
    """What became of an event."""

    OPEN = 0
    UPDATED = 1
    """It goes on: said when its odd steps have doubled."""
    CLOSED = 2
    RETRACTED = 3
    """Late readings show that there was none."""


@dataclass(frozen=True)
class Events:
    """Columns of n events."""

    meter: Ints
    """Position of the meter."""
    kind: Ints
    status: Ints
    at_ms: Ints
    """End of the step that showed it: when it became known, epoch ms UTC."""
    start_ms: Ints
    end_ms: Ints
    """The event's first step's start, and the end of its last odd step so far."""
    score: Floats
    """The smallest p-value of its steps: the chance of as odd a step in the meter's own past, 0..1; 0: impossible."""
    observed_kwh: Floats
    expected_kwh: Floats
    lower_kwh: Floats
    upper_kwh: Floats
    """Of the event's steps together; NaN where nothing came. Outside lower..upper a single step would alarm."""

    def __len__(self) -> int:
        return len(self.meter)

    @classmethod
    def none(cls) -> Self:
        """No event."""
        n, x = np.zeros(0, np.int64), np.zeros(0)
        return cls(n, n, n, n, n, n, x, x, x, x, x)

    @classmethod
    def of(cls, state: State, which: NDArray[np.bool_], status: Status, at_ms: Ints) -> Self:
        """The open events of some meters, as they stand."""
        rows = np.flatnonzero(which)
        sums = np.where(state.sums[rows].any(axis=1)[:, None], state.sums[rows], np.nan)
        return cls(
            rows, state.kind[rows], np.full(len(rows), int(status)), at_ms[rows], state.start_ms[rows],
            state.end_ms[rows], state.score[rows], *sums.T,
        )  # fmt: skip

    def joined(self, *others: Self) -> Self:
        """These, then the others."""
        columns = [[getattr(part, name) for part in (self, *others)] for name in self.__dataclass_fields__]
        return type(self)(*(np.concatenate(column) for column in columns))

    def take(self, index: NDArray[Any]) -> Self:
        """The rows that `index` (positions or a mask) picks."""
        return type(self)(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def of_meters(self, meters: Ints) -> Self:
        """The same with positions among `meters` replaced by what stands there."""
        columns = [getattr(self, name) for name in self.__dataclass_fields__]
        return type(self)(meters[self.meter], *columns[1:])

    def messages(self, meters: Sequence[str], model_id: str) -> list[dict[str, Any]]:
        """One object of the topic `anomalies` an event; times in ISO-8601, UTC.

        `end` is null while the event is open. `status` and `known_at` are beyond the contract's fields.

        Args:
            meters: ids by position.
            model_id: of the forecasts that it was held against.
        """
        columns = (getattr(self, name).tolist() for name in self.__dataclass_fields__)
        return [
            {
                "anomaly_id": anomaly_id(meters[row], "", Kind(kind).name.lower(), start_ms),
                "meter_id": meters[row],
                "kind": Kind(kind).name.lower(),
                "start": iso(start_ms),
                "end": None if status in (Status.OPEN, Status.UPDATED) else iso(end_ms),
                "score": score,
                "observed_kwh": _number(observed),
                "expected_kwh": _number(expected),
                "lower_kwh": _number(lower),
                "upper_kwh": _number(upper),
                "model_id": model_id,
                "status": Status(status).name.lower(),
                "known_at": iso(at_ms),
            }
            for row, kind, status, at_ms, start_ms, end_ms, score, observed, expected, lower, upper in zip(
                *columns, strict=True
            )
        ]


def iso(ms: int) -> str:
    """Epoch ms as ISO-8601 in UTC."""
    return np.datetime_as_string(np.datetime64(ms, "ms"), "s" if ms % 1000 == 0 else "ms") + "Z"


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
