"""What a detector keeps of each meter: columns, never changed in place, packed into bytes for a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from operators.detection import ranks
from operators.detection.habits import Habits
from operators.detection.packed import pack, unpack

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
VERSION = 1
_T = TypeVar("_T")
NEVER = np.iinfo(np.int64).min
NO_EVENT = -1
SUMS = 4
"""Observed, expected, lower, upper kWh."""


@dataclass(frozen=True)
class State:
    """Of m meters."""

    step_s: Ints
    """[m] the step of what follows; 0: nothing is known."""
    newest_ms: Ints
    """[m] the end of the newest step, epoch ms UTC."""
    known: Floats
    """[m] steps with a value so far."""
    scored: Floats
    """[m] steps that were held against a forecast so far."""
    level: Floats
    """[m] mean absolute kWh."""
    spread: Floats
    """[m] mean absolute error of what was expected, kWh."""
    size: Floats
    """[m] mean score."""
    last_kwh: Floats
    """[m] the newest value, NaN: none yet."""
    left: Floats
    """[m] kWh: the newest error of the forecast that was not odd, faded since."""
    stale: Floats
    """[m] steps since that error."""
    together: Floats
    alone: Floats
    """[m] sums of products of consecutive errors of the forecast, and of the earlier ones' squares."""
    counts: Floats
    """[m, CHANNELS, BINS] past scores."""
    habits: Habits
    cusum: Floats
    """[m, 2] how far the values have drifted to a side, in standard deviations of a step."""
    since_ms: Ints
    """[m, 2] start of the step that the drift began with."""
    drift: Floats
    """[m, 2, SUMS] of the steps since."""
    kind: Ints
    """[m] the open event's `Kind`, NO_EVENT: none."""
    start_ms: Ints
    end_ms: Ints
    """[m] start of its first, end of its last odd step."""
    steps: Floats
    """[m] its odd steps."""
    calm: Floats
    """[m] steps since."""
    score: Floats
    """[m] its smallest p-value."""
    sums: Floats
    """[m, SUMS] of its odd steps with a value."""
    unsettled: Floats
    """[m, SUMS] of calm steps that belong to it if it goes on."""

    def __len__(self) -> int:
        return len(self.step_s)

    @classmethod
    def empty(cls, meters: int) -> Self:
        """Meters of which nothing is known."""

        def zeros(*shape: int) -> Floats:
            return np.zeros((meters, *shape))

        def times(*shape: int) -> Ints:
            return np.full((meters, *shape), NEVER)

        return cls(
            step_s=np.zeros(meters, np.int64),
            newest_ms=times(),
            known=zeros(),
            scored=zeros(),
            level=zeros(),
            spread=zeros(),
            size=zeros(),
            last_kwh=np.full(meters, np.nan),
            left=zeros(),
            stale=zeros(),
            together=zeros(),
            alone=zeros(),
            counts=np.broadcast_to(ranks.prior(), (meters, ranks.CHANNELS, ranks.BINS)).copy(),
            habits=Habits.empty(meters),
            cusum=zeros(2),
            since_ms=times(2),
            drift=zeros(2, SUMS),
            kind=np.full(meters, NO_EVENT, np.int64),
            start_ms=times(),
            end_ms=times(),
            steps=zeros(),
            calm=zeros(),
            score=np.ones(meters),
            sums=zeros(SUMS),
            unsettled=zeros(SUMS),
        )

    def grown(self, meters: int) -> State:
        """The same with new meters after the old ones.

        Raises:
            ValueError: fewer meters than there are.
        """
        more = meters - len(self)
        if more < 0:
            raise ValueError(f"state of {len(self)} meters cannot shrink to {meters}")
        return _both(self, State.empty(more), lambda old, new: np.concatenate((old, new))) if more else self

    def take(self, meters: NDArray[Any]) -> State:
        """The chosen meters, by positions or by a mask."""
        return _each(self, lambda column: column[meters])

    def put(self, meters: NDArray[Any], part: State) -> State:
        """The state with the chosen meters' replaced by `part`."""

        def replaced(column: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
            column = column.copy()
            column[meters] = new
            return column

        return _both(self, part, replaced)

    def where(self, mask: NDArray[np.bool_], other: State) -> State:
        """This one's meters where the mask says so, the other's elsewhere."""
        return _both(self, other, lambda a, b: np.where(mask.reshape(-1, *(1,) * (a.ndim - 1)), a, b))

    def to_bytes(self) -> bytes:
        """For a checkpoint."""
        return pack(VERSION, dict(_columns(self)))

    @classmethod
    def from_bytes(cls, content: bytes) -> State:
        """What `to_bytes` wrote.

        Raises:
            ValueError: another version, or damaged.
        """
        found, _ = unpack(VERSION, content, "a detector")
        names = {field.name for field in fields(Habits)}
        habits = Habits(**{name: found.pop(f"habits.{name}") for name in names})
        return State(habits=habits, **found)


def _columns(state: Any, prefix: str = "") -> list[tuple[str, NDArray[Any]]]:
    found: list[tuple[str, NDArray[Any]]] = []
    for field in fields(state):
        value = getattr(state, field.name)
        name = prefix + field.name
        found += _columns(value, name + ".") if is_dataclass(value) else [(name, value)]
    return found


def _each(state: _T, change: Any) -> _T:
    """The same dataclass with each column changed."""
    made: dict[str, Any] = {}
    for field in fields(state):  # type: ignore[arg-type]
        value = getattr(state, field.name)
        made[field.name] = _each(value, change) if is_dataclass(value) else change(value)
    return replace(state, **made)  # type: ignore[type-var]


def _both(first: _T, second: _T, change: Any) -> _T:
    """The same dataclass with each column made of those of two."""
    made: dict[str, Any] = {}
    for field in fields(first):  # type: ignore[arg-type]
        one, other = getattr(first, field.name), getattr(second, field.name)
        made[field.name] = _both(one, other, change) if is_dataclass(one) else change(one, other)
    return replace(first, **made)  # type: ignore[type-var]
