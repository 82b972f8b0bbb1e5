"""The CSV exports beside Green Button's XML: a preamble, then a row an interval with local date and times.

The columns are those that US utilities write: TYPE, DATE, START TIME, END TIME (the last minute of the interval, or the
time after it) or DURATION, USAGE or IMPORT and EXPORT, UNITS (or the unit in brackets in the column's name), NOTES.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import IO

from operators.adapters.clocks import LocalClock
from operators.adapters.parsed import (
    GAS,
    INTERVAL_EXPORT,
    INTERVAL_IMPORT,
    KWH_PER_THERM,
    M3_PER_FT3,
    Options,
    Parsed,
    Rows,
)
from operators.adapters.text import lines
from operators.readings import Kind, Quality

USAGE = ("usage", "consumption", "import", "delivered", "value")
EXPORT = ("export", "generation", "production", "received")
ENERGY = {"wh": 1e-3, "kwh": 1.0, "mwh": 1e3, "therm": KWH_PER_THERM, "therms": KWH_PER_THERM}
"""kWh of a unit."""
VOLUME = {"m3": 1.0, "ft3": M3_PER_FT3, "cf": M3_PER_FT3, "ccf": 100 * M3_PER_FT3}
"""m³ of a unit of gas."""
LONGEST_MINUTES = 366 * 24 * 60
PREAMBLE = 100
"""Lines before the header, at most."""

_DATES = (
    (re.compile(r"^(\d{4})-(\d{1,2})-(\d{1,2})$"), (0, 1, 2)),
    (re.compile(r"^(\d{1,2})/(\d{1,2})/(\d{4})$"), (2, 0, 1)),
)
_TIME = re.compile(r"^(\d{1,2}):(\d{2})(?::(\d{2}))?\s*([AaPp][Mm])?$")


def looks(head: bytes) -> bool:
    """Whether one of the first lines of `head` is such a header."""
    return any(_header(_cells(line)) is not None for line in head.splitlines()[:PREAMBLE])


@dataclass(frozen=True)
class _Header:
    """Which column holds what; -1: none does."""

    kind: int
    day: int
    start: int
    end: int
    duration: int
    usage: int
    export: int
    units: int
    notes: int
    meter: int
    unit: str
    """The unit in the usage column's name."""
    width: int


def _cells(line: bytes) -> list[str]:
    text = line.decode("utf-8-sig", errors="replace").strip("\r\n").replace("\0", "")
    try:
        return [cell.strip() for cell in next(csv.reader([text]), [])]
    except csv.Error:
        return []


def _header(cells: list[str]) -> _Header | None:
    names = [cell.lower() for cell in cells]
    bare = [name.partition("(")[0].strip() for name in names]

    def column(*wanted: str) -> int:
        return next((bare.index(name) for name in wanted if name in bare), -1)

    usage = column(*USAGE)
    if "date" not in bare or usage < 0 or not {"start time", "usage"} & set(bare):
        return None
    bracket = re.search(r"\(([^)]*)\)", names[usage])
    return _Header(
        column("type"), column("date"), column("start time"), column("end time"), column("duration"), usage,
        column(*EXPORT), column("units", "unit"), column("notes"), column("meter number", "meter"),
        bracket[1].strip() if bracket else "", len(cells),
    )  # fmt: skip


def parse(file: IO[bytes], options: Options) -> Iterator[Parsed]:
    """The readings of an export, as intervals; negative usage is export.

    The meter is that of the row, of the preamble (its service, else its account), or `options.meter`; gas has `-gas`
    after it.

    Args:
        file: CSV.
        options: `tz` (default UTC), `gas_kwh_per_m3`, and `interval_ms` where a row has no end and no duration.
    """
    rows = Rows()
    clock = LocalClock(options.tz or "UTC", repeats_go_on=True)
    if options.tz is None:
        rows.assume("the file's local times are taken as UTC (else: --tz)")
    header: _Header | None = None
    preamble: dict[str, str] = {}
    for number, line in lines(file):
        rows.at(f"line {number}")
        cells = _cells(line or b"")
        if header is None:
            header = _header(cells)
            if len(cells) > 1:
                preamble.setdefault(cells[0].lower().rstrip(":"), cells[1])
            if header is None and number >= PREAMBLE:
                rows.refuse("no header with DATE and USAGE before this line")
                break
        elif line is None:
            rows.refuse("a line that is too long")
        elif any(cells):
            named = preamble.get("service") or preamble.get("account number") or options.meter
            try:
                _row(rows, header, cells, named, clock, options)
            except ValueError as error:
                rows.refuse(str(error))
        yield from rows.full()
    yield rows.take()


def _row(rows: Rows, header: _Header, cells: list[str], named: str, clock: LocalClock, options: Options) -> None:
    def cell(column: int) -> str:
        return cells[column] if 0 <= column < len(cells) else ""

    kind = cell(header.kind).lower()
    if "water" in kind or "billing" in kind:
        rows.skip(kind[:40])
        return
    if not cell(header.usage) and not cell(header.export):
        rows.skip("row without a value")
        return
    gas = "gas" in kind
    unit = (cell(header.units) or header.unit or "kwh").lower()
    factor = ENERGY.get(unit)
    if factor is None and gas and unit in VOLUME:
        factor = VOLUME[unit] * rows.gas_factor(options)
    if factor is None:
        rows.skip(f"unit {unit[:20]}")
        return
    meter = cell(header.meter) or named
    begin, length = _interval(header, cell, options)
    device = f"{meter} {kind}"
    begin_ms = clock.utc_ms(device, begin)
    if length >= timedelta(hours=23):
        # A day is from midnight to midnight, of 23 or 25 hours too.
        end_ms = LocalClock(options.tz or "UTC").utc_ms(device, begin + length)
    else:
        end_ms = begin_ms + length // timedelta(milliseconds=1)
    quality = Quality.ESTIMATED if "estimat" in cell(header.notes).lower() else Quality.MEASURED
    meter += "-gas" if gas else ""
    usage, export = (_number(cell(column)) * factor for column in (header.usage, header.export))
    if usage < 0 and not gas:
        usage, export = 0.0, -usage
    for register, kwh in ((GAS if gas else INTERVAL_IMPORT, usage), (INTERVAL_EXPORT, abs(export))):
        if not math.isnan(kwh):
            rows.add(meter, register, end_ms, Kind.INTERVAL, kwh, interval_ms=end_ms - begin_ms, quality=quality)


def _number(text: str) -> float:
    """The number that a cell holds; NaN for an empty one."""
    if text and not re.fullmatch(r"[+-]?[\d,]*\.?\d+", text):
        raise ValueError(f"{text[:40]!r} is no number")
    return float(text.replace(",", "")) if text else math.nan


def _interval(header: _Header, cell: Callable[[int], str], options: Options) -> tuple[datetime, timedelta]:
    """Local begin and length of a row's interval.

    Raises:
        ValueError: a date or time that is none, or nothing says how long it is.
    """
    day = _date(cell(header.day))
    if header.start < 0:
        return datetime.combine(day, time()), timedelta(days=1)
    begin = datetime.combine(day, _time(cell(header.start)))
    if cell(header.duration):
        minutes = _number(cell(header.duration))
        if not 0 < minutes <= LONGEST_MINUTES:
            raise ValueError(f"a duration of {cell(header.duration)[:20]} minutes")
        return begin, timedelta(minutes=minutes)
    if cell(header.end):
        end = datetime.combine(day, _time(cell(header.end)))
        length = (end - begin) % timedelta(days=1)
        # 00:14 is the last minute of the interval that begins at 00:00, 00:15 the time after it.
        inclusive = length + timedelta(minutes=1)
        if timedelta(hours=1) % inclusive == timedelta() or inclusive % timedelta(hours=1) == timedelta():
            length = inclusive
        return begin, length or timedelta(days=1)
    if options.interval_ms:
        return begin, timedelta(milliseconds=options.interval_ms)
    raise ValueError("neither END TIME nor DURATION says how long the interval is (--interval-s)")


def _date(text: str) -> date:
    for pattern, (year, month, day) in _DATES:
        found = pattern.match(text)
        if found:
            parts = [int(part) for part in found.groups()]
            if not 2000 <= parts[year] < 9999:
                raise ValueError(f"{text!r} is before 2000 or after 9998")
            try:
                return date(parts[year], parts[month], parts[day])
            except ValueError as error:
                raise ValueError(f"{text!r} is a date that does not exist (want YYYY-MM-DD or MM/DD/YYYY)") from error
    raise ValueError(f"{text[:40]!r} is no date (want YYYY-MM-DD or MM/DD/YYYY)")


def _time(text: str) -> time:
    found = _TIME.match(text)
    hour = int(found[1]) if found else 99
    if found and found[4]:
        hour = 99 if not 1 <= hour <= 12 else hour % 12 + (12 if found[4].lower() == "pm" else 0)
    try:
        return time(hour, int(found[2]) if found else 0, int(found[3] or 0) if found else 0)
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} is no time of day") from error
