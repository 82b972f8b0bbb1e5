"""What the readings themselves say is odd: resets, dips, lost readings, as rows of table `anomaly`.

Like the energy they are a function of the set of readings alone; their ids are, too.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from operators.increments import Event, Events, Floats, Ints, limit_kwh
from operators.readings import Kind

CAUSES = {
    Event.DIP: ("negative", "dip"),
    Event.RESET: ("reset", "reset"),
    Event.ROLLOVER: ("reset", "rollover"),
    Event.BACKWARD: ("reset", "replacement"),
    Event.IMPLAUSIBLE: ("spike", "implausible"),
    Event.LOST: ("reset", "lost"),
    Event.GLITCH: ("negative", "glitch"),
}
"""Kind of the anomaly and its cause, for each event."""


@dataclass(frozen=True)
class Findings:
    """Columns of n findings; `series` numbers whatever the events' series numbers did."""

    series: Ints
    reading_kind: NDArray[np.int8]
    """`Kind` of the readings it was found in."""
    from_ms: Ints
    ts_ms: Ints
    """The two readings it lies between, epoch ms UTC; an interval's start and end."""
    code: NDArray[np.int8]
    """`Event`."""
    before: Floats
    """High-water mark of the counter, kWh; NaN where it is no counter."""
    after: Floats
    """The reading: kWh, or kW of a power."""
    observed_kwh: Floats
    """What the readings say, taken at their word: the counter's step, or the interval; NaN for a power."""
    expected_kwh: Floats
    """What is counted instead."""
    upper_kwh: Floats
    """The most to be believed; NaN where `max_kw` is not known."""

    def __len__(self) -> int:
        return len(self.ts_ms)

    def take(self, index: NDArray[Any]) -> Self:
        """The rows that `index` (positions or a mask) picks."""
        return type(self)(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def find(events: Events, kind: NDArray[np.int8], max_kw: Floats) -> Findings:
    """Findings of `operators.energy.derive`'s events.

    Args:
        events: what `derive` gave.
        kind: `Kind` by series number, int8 [s].
        max_kw: believable power by series number, NaN for unknown, float64 [s].
    """
    of = kind[events.series]
    counter, power = of == Kind.REGISTER, of == Kind.INSTANT
    observed = np.where(counter, events.after - events.before, np.where(power, np.nan, events.after))
    upper = limit_kwh(max_kw[events.series], events.ts_ms - events.from_ms)
    return Findings(
        events.series, of.astype(np.int8), events.from_ms, events.ts_ms, events.code,
        np.where(counter, events.before, np.nan), events.after, observed, events.kwh, np.where(power, np.nan, upper),
    )  # fmt: skip


def anomaly_id(meter_id: str, register: str, kind: str, ts_ms: int) -> str:
    """The anomaly's id: 128 bits of SHA-256 over meter, register, kind of anomaly and time of its reading.

    >>> anomaly_id("b2", "1-0:1.8.0", "reset", 1_767_225_600_000)
    'df830ca1be66219dd0a6fce91650a9e9'
    """
    text = "\x1f".join((meter_id, register, kind, str(ts_ms)))
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32]
