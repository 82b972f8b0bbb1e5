"""DSMR P1 telegrams (Dutch Smart Meter Requirements, P1 companion standard 2.2, 3, 4 and 5; eMUCS in Belgium).

Telegrams are cut out of a log; times are exact UTC; sub-meters (gas, heat) are meters of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import IO

from operators.adapters.clocks import LocalClock, flagged_ms, iso_ms
from operators.adapters.dsmr_telegram import (
    Object,
    Telegram,
    digits,
    identity,
    last_begin,
    objects_of,
    problem_of,
    sub_meter_value,
    value_of,
)
from operators.adapters.parsed import Options, Parsed, Rows, to_ms
from operators.adapters.text import lines
from operators.readings import Kind

TZ = "Europe/Amsterdam"
"""The zone of P1 stamps in the Netherlands, Belgium and Luxembourg."""
MAX_LINES = 2000
"""Lines of one telegram; the norm's have about 60."""

_REGISTER = re.compile(r"^(1|2|21|22|41|42|61|62)\.8\.\d$")
_POWER = re.compile(r"^(1|2|16|21|22|36|41|42|56|61|62|76)\.7\.0$")
_UNITS = {
    Kind.REGISTER: {"kWh": Decimal(1), "Wh": Decimal("0.001"), "MWh": Decimal(1000)},
    Kind.INSTANT: {"kW": Decimal(1), "W": Decimal("0.001")},
}
_GJ = Decimal(1000) / Decimal("3.6")
_OWN_ID = ("96.1.1", "42.0.0", "0.0.0", "96.1.255")
"""Objects that hold the electricity meter's identity: the norm's, then those of Luxembourg and of EasyMeter."""
_WATER = 7
"""Device type of EN 13757-3."""


def looks(head: bytes) -> bool:
    """Whether a telegram's header and an OBIS line are in `head`."""
    return bool(re.search(rb"(?m)^/.", head) and re.search(rb"(?m)^\d-\d:\d+\.\d+\.\d+(\*\d+)?\(", head))


def parse(file: IO[bytes], options: Options) -> Iterator[Parsed]:
    """The readings of a file of telegrams.

    Counters (1.8.x, 2.8.x) are registers and powers (1.7.0, 2.7.0, and by phase) instants, each under its own OBIS
    code, at the telegram's time. A sub-meter's value is a register at the time that the sub-meter gives. Telegrams
    before DSMR 4 have no time of their own: one on the line before them (ISO-8601, or epoch seconds) is taken, else
    their electricity is skipped.

    Args:
        file: telegrams, with anything between them.
        options: `tz` (default Europe/Amsterdam), `gas_kwh_per_m3`, `meter` for a telegram without an identity.
    """
    rows = Rows()
    reader = _Reader(rows, options)
    current: Telegram | None = None
    received = ""
    strays = False
    for number, line in lines(file):
        text = (line or b"").strip()
        if line is not None and line.startswith(b"/"):
            reader.cut(current)
            current, received, strays = Telegram(number, [line], received), "", False
        elif current is None:
            if not text and line is not None:
                continue
            if _is_time(text):
                received = text.decode()
            elif not strays:
                rows.at(f"line {number}")
                rows.refuse("outside of a telegram")
                strays = True
        elif line is None or len(current.raw) > MAX_LINES:
            reader.cut(current)
            current = None
        else:
            current.raw.append(line)
            if line.startswith(b"!"):
                reader.read(current)
                current = None
                yield from rows.full()
    reader.cut(current)
    yield rows.take()


def _is_time(text: bytes) -> bool:
    return bool(re.match(rb"^(\d{4}-\d\d-\d\d[T ]\d\d:\d\d[!-~]*|\d{10}(\.\d+)?|\d{13})$", text))


class _Reader:
    def __init__(self, rows: Rows, options: Options) -> None:
        self.rows = rows
        self.options = options
        self.tz = options.tz or TZ
        self.clock = LocalClock(self.tz)

    def cut(self, telegram: Telegram | None) -> None:
        """A telegram without an end."""
        if telegram:
            self.rows.at(f"line {telegram.line}")
            self.rows.refuse("a telegram that breaks off before its end")

    def read(self, telegram: Telegram) -> None:
        """A telegram with an end."""
        self.rows.at(f"line {telegram.line}")
        objects = objects_of(telegram)
        problem = problem_of(telegram.raw, {code for _, _, code, _, _ in objects})
        inner = last_begin(telegram) if problem else None
        if inner:
            self.cut(telegram)
            self.read(inner)
            return
        if problem:
            self.rows.refuse(problem)
            return
        meter = identity(objects, 0, _OWN_ID) or self.options.meter
        self._electricity(telegram, objects, meter)
        for channel in sorted({int(b) for a, b, _, _, _ in objects if a == "0" and b != "0"}):
            self._sub_meter(objects, meter, channel)

    def _electricity(self, telegram: Telegram, objects: list[Object], meter: str) -> None:
        wanted = [
            (number, f"1-{b}:{code}", Kind.REGISTER if _REGISTER.match(code) else Kind.INSTANT, line)
            for a, b, code, line, number in objects
            if a == "1" and (_REGISTER.match(code) or _POWER.match(code))
        ]
        stamps = [line for a, b, code, line, _ in objects if (a, b, code) == ("0", "0", "1.0.0")]
        try:
            ts_ms = self._time(stamps[0].partition("(")[2].rstrip(")")) if stamps else self._received(telegram, meter)
        except ValueError as error:
            self.rows.refuse(str(error))
            return
        if ts_ms is None:
            self.rows.skip("electricity of a telegram without a time (before DSMR 4)", len(wanted))
            return
        for number, register, kind, line in wanted:
            self.rows.at(f"line {number}")
            value, unit = value_of(line)
            factor = _UNITS[kind].get(unit)
            if value is None or factor is None:
                self.rows.refuse(f"{line[:60]!r} holds no number with a unit of energy or power")
            else:
                self.rows.add(meter, register, ts_ms, kind, float(value * factor))

    def _sub_meter(self, objects: list[Object], owner: str, channel: int) -> None:
        own = [(code, line, number) for a, b, code, line, number in objects if (a, b) == ("0", str(channel))]
        kinds = [digits(line) for code, line, _ in own if code == "24.1.0"]
        for code, line, number in own:
            if code.rpartition(".")[0] not in ("24.2", "24.3"):
                continue
            self.rows.at(f"line {number}")
            found = sub_meter_value(line)
            if found is None:
                self.rows.refuse(f"{line[:60]!r} holds no time, number and unit")
                continue
            stamp, register, value, unit = found
            factor = self._sub_factor(unit, kinds[0] if kinds else None)
            if factor is None:
                self.rows.skip(f"sub-meter in {unit}")
                continue
            try:
                ts_ms = self._time(stamp)
            except ValueError as error:
                self.rows.refuse(str(error))
                continue
            meter = identity(objects, channel, ("96.1.0", "96.1.1")) or f"{owner}/{channel}"
            self.rows.add(meter, register or f"0-{channel}:{code}", ts_ms, Kind.REGISTER, float(value * factor))

    def _sub_factor(self, unit: str, device: int | None) -> Decimal | None:
        if unit == "m3":
            return None if device == _WATER else Decimal(self.rows.gas_factor(self.options))
        return _GJ if unit == "GJ" else _UNITS[Kind.REGISTER].get(unit)

    def _time(self, text: str) -> int:
        """Epoch milliseconds of YYMMDDhhmmss and S (summer time), W, or, before DSMR 4, nothing."""
        if not re.fullmatch(r"\d{12}[SW]?", text):
            raise ValueError(f"{text[:20]!r} is no P1 time (YYMMDDhhmmss and S or W)")
        try:
            wall = datetime.strptime(text[:12], "%y%m%d%H%M%S")  # noqa: DTZ007
        except ValueError as error:
            raise ValueError(f"{text!r} is a date that does not exist") from error
        if len(text) == 13:
            return flagged_ms(wall, text[12] == "S", self.tz)
        return self.clock.utc_ms("", wall)

    def _received(self, telegram: Telegram, meter: str) -> int | None:
        text = telegram.received
        if not text:
            return None
        if "-" in text:
            return iso_ms(text, self.clock, meter)
        return to_ms(float(text) / (1000 if len(text) == 13 and "." not in text else 1))
