"""Green Button: the Energy Service Provider Interface (NAESB REQ.21, ESPI) as an Atom feed, or a utility's CSV export.

Published by NAESB and the Green Button Alliance; the codes are in `green_button_types`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import IO, Any

from operators.adapters import green_button_csv
from operators.adapters.green_button_feed import Entry, entries, integer, integers, name_of
from operators.adapters.green_button_types import ELECTRICITY, FORECASTS, NATURAL_GAS, QUALITY, Series, meaning
from operators.adapters.parsed import (
    INTERVAL_EXPORT,
    INTERVAL_IMPORT,
    Options,
    Parsed,
    Rows,
)
from operators.readings import Kind, Quality


def looks(head: bytes) -> bool:
    """Whether `head` begins an ESPI feed, or has the header of a utility's CSV."""
    begin = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if begin.startswith(b"<"):
        return b"naesb.org/espi" in head or b"IntervalBlock" in head
    return green_button_csv.looks(head)


def parse(file: IO[bytes], options: Options) -> Iterator[Parsed]:
    """The readings of a feed or of a CSV export, in its order; several usage points are several meters.

    Args:
        file: can be sought: a feed's types are looked up first, then its blocks are read one at a time.
        options: `gas_kwh_per_m3`; `meter` for a usage point without an address; for CSV `tz` and `interval_ms` too.
    """
    head = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    file.seek(0)
    yield from _feed(file, options) if head.startswith(b"<") else green_button_csv.parse(file, options)


@dataclass
class _Index:
    """What a feed says of its blocks, by address."""

    usage_points: dict[str, int] = field(default_factory=dict)
    types: dict[str, dict[str, int]] = field(default_factory=dict)
    meter_readings: dict[str, Entry] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    """From an address to the usage point or meter reading that names it as related."""


def _feed(file: IO[bytes], options: Options) -> Iterator[Parsed]:
    index = _Index()
    for entry in entries(file, lambda _: None):
        _note(index, entry)
    rows = Rows()
    series = _all_series(rows, index, options)
    file.seek(0)

    def broken(reason: str) -> None:
        rows.at(reason.partition(": ")[0])
        rows.refuse(reason.partition(": ")[2])

    for entry in entries(file, broken):
        rows.at(f"entry {entry.number}")
        for content in entry.contents:
            if name_of(content) == "IntervalBlock":
                found = _series_of(index, series, entry)
                if found is None:
                    rows.refuse("an IntervalBlock that belongs to no MeterReading with a ReadingType")
                else:
                    _block(rows, found, content, entry.number)
        yield from rows.full()
    yield rows.take()


def _note(index: _Index, entry: Entry) -> None:
    for content in entry.contents:
        name = name_of(content)
        if name == "UsagePoint":
            category = next((child for child in content if name_of(child) == "ServiceCategory"), None)
            kind = integers(category).get("kind") if category is not None else None
            index.usage_points[entry.href] = ELECTRICITY if kind is None else kind
        elif name == "MeterReading":
            index.meter_readings[entry.href] = entry
            for child in content:
                if name_of(child) == "ReadingType":
                    index.types[entry.href] = integers(child)
        elif name == "ReadingType":
            index.types[entry.href] = integers(content)
        if name in ("UsagePoint", "MeterReading"):
            for href in (*entry.related, entry.href):
                index.links.setdefault(href, entry.href)


def _all_series(rows: Rows, index: _Index, options: Options) -> dict[str, Series]:
    """Each meter reading's meaning; of several that tell one energy the finest is taken, or it would count twice."""
    found = {href: _series(rows, index, entry, options) for href, entry in index.meter_readings.items()}
    finest: dict[tuple[str, str], int] = {}
    for one in found.values():
        if not one.skip and one.kind is Kind.INTERVAL and one.length_s:
            for register in _registers(one):
                key = (one.meter, register)
                finest[key] = min(finest.get(key, one.length_s), one.length_s)
    return {href: _unless_coarser(one, finest) for href, one in found.items()}


def _registers(series: Series) -> tuple[str, ...]:
    return (INTERVAL_IMPORT, INTERVAL_EXPORT) if series.net else (series.register,)


def _unless_coarser(series: Series, finest: dict[tuple[str, str], int]) -> Series:
    if series.skip or series.kind is not Kind.INTERVAL or not series.length_s:
        return series
    if all(series.length_s == finest[series.meter, register] for register in _registers(series)):
        return series
    return replace(series, skip="the same energy in longer intervals")


def _series(rows: Rows, index: _Index, entry: Entry, options: Options) -> Series:
    point = _parent(index.usage_points, entry.href.partition("/MeterReading")[0], index.links.get(entry.up, ""))
    type_href = _parent(index.types, *entry.related, entry.href)
    meter = _meter(point) or options.meter
    if type_href is None:
        return Series(meter, Kind.INTERVAL, "", 0.0, False, 0, "MeterReading without a ReadingType")
    reading_type = index.types[type_href]
    service = index.usage_points.get(point or "", ELECTRICITY)
    gas = service == NATURAL_GAS or reading_type.get("commodity") == 7
    return meaning(rows, meter, reading_type, gas, service, options)


def _parent(known: dict[str, Any], *hrefs: str) -> str | None:
    """The first of `hrefs` that is known; the only one known, where feeds leave out the link."""
    for href in hrefs:
        if href in known:
            return href
    return next(iter(known)) if len(known) == 1 else None


def _meter(usage_point: str | None) -> str:
    """The meter of a usage point's address: its own last part, after that of its customer."""
    found = re.search(r"(?:RetailCustomer/([^/]+)/)?(?:.*/)?UsagePoint/([^/]+)$", usage_point or "")
    return "-".join(part for part in found.groups() if part) if found else (usage_point or "").rpartition("/")[2]


def _series_of(index: _Index, series: dict[str, Series], entry: Entry) -> Series | None:
    address = entry.up.removesuffix("/IntervalBlock")
    href = _parent(series, address, entry.href.partition("/IntervalBlock")[0], index.links.get(entry.up, ""))
    if href is None:
        href = _parent(series, index.links.get(entry.href, ""))
    return series[href] if href is not None else None


def _block(rows: Rows, series: Series, block: Any, entry: int) -> None:
    readings = [child for child in block if name_of(child) == "IntervalReading"]
    if series.skip:
        rows.skip(series.skip, len(readings))
        return
    for i, reading in enumerate(readings):
        rows.at(f"entry {entry}, reading {i + 1}")
        _reading(rows, series, reading)


def _reading(rows: Rows, series: Series, reading: Any) -> None:
    period, value, quality = None, None, 0
    for child in reading:
        name = name_of(child)
        if name == "timePeriod":
            period = integers(child)
        elif name == "value":
            value = integer(child.text)
        elif name == "ReadingQuality":
            quality = max(quality, integers(child).get("quality", 0), key=_gravity)
        elif name == "quality":
            quality = max(quality, integer(child.text) or 0, key=_gravity)
    if period is None or "start" not in period or value is None:
        rows.refuse("an IntervalReading without a whole number in timePeriod/start and value")
        return
    if quality in FORECASTS:
        rows.skip(f"{FORECASTS[quality]}: not measured")
        return
    seconds = period.get("duration", series.length_s)
    _add(rows, series, (period["start"] + seconds) * 1000, value * series.factor, seconds * 1000, _quality(quality))


def _quality(code: int) -> Quality:
    return QUALITY.get(code, Quality.ESTIMATED)


def _gravity(code: int) -> int:
    """Of several qualities of one reading the worst counts."""
    return 9 if code in FORECASTS else int(_quality(code))


def _add(rows: Rows, series: Series, end_ms: int, value: float, length_ms: int, quality: Quality) -> None:
    """A reading; of net energy the part of each direction, whose difference it is."""
    if not series.net:
        rows.add(
            series.meter,
            series.register,
            end_ms,
            series.kind,
            value,
            interval_ms=_length(series, length_ms),
            quality=quality,
        )
        return
    for register, part in ((INTERVAL_IMPORT, max(value, 0.0)), (INTERVAL_EXPORT, max(-value, 0.0))):
        rows.add(series.meter, register, end_ms, Kind.INTERVAL, part, interval_ms=length_ms, quality=quality)


def _length(series: Series, length_ms: int) -> int:
    return length_ms if series.kind is Kind.INTERVAL else 0
