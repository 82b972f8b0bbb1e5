"""What an adapter gives: readings as columns, and an account of what it could not use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from operators.readings import Kind, Quality, Readings

GAS_KWH_PER_M3 = 35.17 / 3.6
"""Energy of a cubic metre of natural gas: the Dutch reference value of 35.17 MJ (upper calorific value, 0 °C)."""
J_PER_KWH = 3.6e6
KWH_PER_THERM = 105_480_400 / J_PER_KWH
"""The US therm (NIST SP 811)."""
KWH_PER_BTU = 1055.056 / J_PER_KWH
"""The international-table British thermal unit (NIST SP 811)."""
M3_PER_FT3 = 0.3048**3

NET_POWER = "1-0:16.7.0"
"""OBIS code of net active power, import positive (IEC 62056-6-1), as the next ones."""
INTERVAL_IMPORT, INTERVAL_EXPORT = "1-0:1.29.0", "1-0:2.29.0"
"""Energy of the intervals of a load profile: registers of their own, so that a meter may send its counter too."""
GAS = "7-0:3.0.0"

CHUNK = 20_000
"""Readings of one `Parsed`, about."""
KEPT = 1000
"""Unreadable records of one `Parsed` that are kept with place and reason; the others are counted."""
CLOCK_SET_MS = 946_684_800_000
"""2000-01-01: a device that has not been told the time yet counts from 1970."""
LONGEST_ID = 256
LONGEST_INTERVAL_MS = 366 * 86_400_000
LAST_MS = 253_402_300_800_000
"""10000-01-01: later is no time."""


class FormatError(ValueError):
    """The input as a whole is not of the adapter's format; one line that says what was looked for."""


@dataclass(frozen=True)
class Options:
    """What a source's format leaves open."""

    meter: str = "meter"
    """Meter id of records that name none (replay: the file's name)."""
    tz: str | None = None
    """IANA zone of time stamps without an offset; None: the format's own, or UTC."""
    gas_kwh_per_m3: float = GAS_KWH_PER_M3
    received_ms: int | None = None
    """When the input was received, epoch milliseconds: what relative times (SenML) count from."""
    kind: Kind = Kind.REGISTER
    """What an energy is whose format does not say (SenML): a counter's value, or that of the interval before it."""
    interval_ms: int = 0
    """Length of intervals whose format does not say."""


@dataclass(frozen=True)
class Unreadable:
    """A record that could not be read."""

    place: str
    """Where it is, as a person finds it: `line 7`, `entry 3`."""
    reason: str


@dataclass(frozen=True)
class Parsed:
    """A part of an input: every record of it is in `readings`, or counted in `skipped` or `refused`."""

    readings: Readings
    """In the input's order; kWh, kW, UTC."""
    skipped: Counter[str]
    """What was understood and is no energy or power to take, by reason."""
    refused: int
    """How many records could not be read."""
    unreadable: tuple[Unreadable, ...]
    """The first `KEPT` of them."""
    assumed: tuple[str, ...] = ()
    """What the readings rest on that the source does not say, one line each, for the user."""


class Rows:
    """Collects one part of an input, record by record; `at` says where the next records are."""

    def __init__(self) -> None:
        self.place = ""
        self._clear()

    def _clear(self) -> None:
        self._rows: list[tuple[Any, ...]] = []
        self._skipped: Counter[str] = Counter()
        self._refused = 0
        self._unreadable: list[Unreadable] = []
        self._assumed: dict[str, None] = {}

    def at(self, place: str) -> None:
        """What follows is read there."""
        self.place = place

    def add(
        self,
        meter: str,
        register: str,
        ts_ms: int,
        kind: Kind,
        value: float,
        *,
        interval_ms: int = 0,
        quality: Quality = Quality.MEASURED,
    ) -> None:
        """Takes a reading: `value` in kWh or kW, `ts_ms` epoch milliseconds, where an interval ends.

        What no meter can mean (no finite number, no name, a clock that is not set) is refused. The value is rounded to
        1e-12, so that what a conversion adds beyond the source's decimals does not make another value of it.
        """
        if not np.isfinite(value):
            self.refuse(f"{register}: value is no finite number")
        elif not 0 < len(meter) <= LONGEST_ID or not meter.isprintable():
            self.refuse(f"{register}: no meter id of 1 to {LONGEST_ID} printable characters")
        elif not CLOCK_SET_MS <= ts_ms < LAST_MS:
            self.refuse(f"{register}: the time is before 2000 or after 9999; the clock was not set")
        elif kind is Kind.INTERVAL and not 0 < interval_ms <= LONGEST_INTERVAL_MS:
            self.refuse(f"{register}: an interval without a length, or of more than a year")
        else:
            self._rows.append((meter, register, ts_ms, int(kind), round(value, 12), interval_ms, int(quality)))

    def skip(self, reason: str, n: int = 1) -> None:
        """Counts what is understood and not taken."""
        self._skipped[reason] += n

    def refuse(self, reason: str) -> None:
        """Counts a record that could not be read, with the present place."""
        self._refused += 1
        if len(self._unreadable) < KEPT:
            self._unreadable.append(Unreadable(self.place, reason))

    def assume(self, note: str) -> None:
        """Says, once, what is taken for granted."""
        self._assumed[note] = None

    def gas_factor(self, options: Options) -> float:
        """kWh of a cubic metre of gas, which no meter says."""
        self.assume(f"a m³ of gas is taken as {options.gas_kwh_per_m3:.4g} kWh (else: --gas-kwh-per-m3)")
        return options.gas_kwh_per_m3

    def full(self) -> Iterator[Parsed]:
        """The part so far, if it is long enough to hand on."""
        if len(self._rows) >= CHUNK or self._refused >= CHUNK:
            yield self.take()

    def take(self) -> Parsed:
        """The part so far; the next one begins."""
        columns: list[tuple[Any, ...]] = list(zip(*self._rows, strict=True)) or [()] * 7
        n = len(self._rows)
        readings = Readings(
            meter_id=_objects(columns[0]),
            register=_objects(columns[1]),
            ts_ms=np.array(columns[2], np.int64),
            kind=np.array(columns[3], np.int8),
            value=np.array(columns[4], np.float64),
            interval_ms=np.array(columns[5], np.int64),
            revision=np.zeros(n, np.int64),
            quality=np.array(columns[6], np.int8),
            tenant_id=np.full(n, "default", object),
        )
        parsed = Parsed(readings, self._skipped, self._refused, tuple(self._unreadable), tuple(self._assumed))
        self._clear()
        return parsed


def _objects(values: tuple[Any, ...]) -> np.ndarray[Any, np.dtype[np.object_]]:
    made = np.empty(len(values), object)
    made[:] = values
    return made


def number(value: object) -> float | None:
    """A JSON number as float; None for anything else (text, null, true, too large)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if np.isfinite(found) else None


def to_ms(seconds: float) -> int:
    """Epoch milliseconds of epoch seconds; 0, which `Rows.add` refuses, for what is out of any range."""
    return round(seconds * 1000) if abs(seconds) < 1e12 else 0
