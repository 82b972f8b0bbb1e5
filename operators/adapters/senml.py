"""SenML (RFC 8428) in JSON: packs, streams and JSON lines, with the units of RFC 8798."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from operators.adapters.parsed import INTERVAL_IMPORT, J_PER_KWH, NET_POWER, Options, Parsed, Rows, number, to_ms
from operators.adapters.text import documents
from operators.readings import Kind

ABSOLUTE_FROM = 2**28
"""Times from here on are seconds since 1970, smaller ones count from now (RFC 8428, section 4.5.3)."""
VERSION = 10
POWER = {"W": 1e-3, "kW": 1.0, "MW": 1e3}
"""kW of a unit."""
ENERGY = {"J": 1 / J_PER_KWH, "MJ": 1e6 / J_PER_KWH, "Wh": 1e-3, "kWh": 1.0, "MWh": 1e3}
"""kWh of a unit."""
QUANTITIES = ("power", "energy", "active_power", "active_energy", "load", "work", "consumption")
"""Last parts of names that tell quantities of one meter apart: they are no part of its id."""

BASE = ("bn", "bt", "bu", "bv", "bs", "bver")
_NUMBERS = ("bt", "bv", "bs", "bver", "t", "ut", "v", "s")
_TEXTS = ("bn", "bu", "n", "u", "vs", "vd")
_VALUES = ("v", "vs", "vb", "vd")
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9:./_-]*$")


@dataclass(frozen=True)
class Resolved:
    """A record on its own: base values are applied, the time may still be relative."""

    name: str
    unit: str
    time: float
    value: float | None
    """None: the record holds no number."""
    total: float | None
    """The sum: the integral of the value over time, in its unit times seconds."""


class Resolver:
    """Applies the base values of a pack to its records, one after another (RFC 8428, section 4.6)."""

    def __init__(self) -> None:
        self._base: dict[str, Any] = {}

    def resolve(self, record: dict[str, Any]) -> Resolved:
        """The record on its own.

        Raises:
            ValueError: it is no SenML record, or of a version or with a field that must be understood and is not.
        """
        _check(record)
        base = self._base
        base.update({key: value for key, value in record.items() if key in BASE})
        if base.get("bver", VERSION) > VERSION:
            raise ValueError(f"SenML version {base['bver']}, known is {VERSION}")
        name = base.get("bn", "") + record.get("n", "")
        if not _NAME.match(name):
            raise ValueError(f"name {name[:60]!r} is none of RFC 8428" if name else "no name")
        value = record.get("v")
        if value is None and not any(key in record for key in (*_VALUES, "s")):
            value = base.get("bv") and 0
        total = record.get("s")
        if total is None and "bs" in base:
            total = 0
        return Resolved(
            name,
            record.get("u", base.get("bu", "")),
            float(base.get("bt", 0) + record.get("t", 0)),
            None if value is None else float(base.get("bv", 0) + value),
            None if total is None else float(base.get("bs", 0) + total),
        )


def _check(record: object) -> None:
    if not isinstance(record, dict):
        raise ValueError("no JSON object")
    for key, value in record.items():
        if key in _NUMBERS and number(value) is None:
            raise ValueError(f"{key} is no number")
        if key in _TEXTS and not isinstance(value, str):
            raise ValueError(f"{key} is no text")
        if key.endswith("_"):
            raise ValueError(f"field {key[:40]} must be understood, and is not known")
    if not set(record) & {*BASE, *_NUMBERS, *_TEXTS, "vb"}:
        raise ValueError("no SenML record: none of its fields is SenML's")


def looks(head: bytes) -> bool:
    """Whether `head` begins as JSON records with a name and a value."""
    begins = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{")
    named = re.search(rb'"b?n"\s*:\s*"', head) and re.search(rb'"(v|s|vb|vs|vd|bv|bs)"\s*:', head)
    return bool(begins and named)


def parse(file: IO[bytes], options: Options) -> Iterator[Parsed]:
    """The energy and power of SenML records.

    A value in W is the net power of the meter that the record names, one in J, Wh or kWh its counter (or, with
    `options.kind`, the energy of the interval that ends then); a sum of a power is the counter of its energy. Records
    of other units and without a number are skipped.

    Args:
        file: a pack, packs or records a line; records on lines of their own are one stream, in which base values go on.
        options: `received_ms` for relative times, without which such records are unreadable; `kind`, `interval_ms`.
    """
    rows = Rows()
    stream = Resolver()
    for document in documents(file):
        rows.at(document.place)
        if document.error:
            rows.refuse(document.error)
        elif isinstance(document.value, list):
            pack = Resolver()
            for i, record in enumerate(document.value):
                rows.at(f"{document.place}, record {i + 1}")
                _record(rows, pack, record, options)
                yield from rows.full()
        else:
            _record(rows, stream, document.value, options)
        yield from rows.full()
    yield rows.take()


def _record(rows: Rows, resolver: Resolver, record: Any, options: Options) -> None:
    try:
        found = resolver.resolve(record)
    except ValueError as error:
        rows.refuse(str(error))
        return
    if found.value is None and found.total is None:
        rows.skip("record without a number")
        return
    if found.unit not in POWER and found.unit not in ENERGY:
        rows.skip(f"unit {found.unit[:20] or 'none'}")
        return
    seconds = found.time
    if seconds < ABSOLUTE_FROM:
        if options.received_ms is None:
            rows.refuse("a time relative to when it was received, which is not known (--received)")
            return
        seconds += options.received_ms / 1000
    meter, ts_ms = meter_of(found.name), to_ms(seconds)
    if found.unit in POWER:
        if found.value is not None:
            rows.add(meter, NET_POWER, ts_ms, Kind.INSTANT, found.value * POWER[found.unit])
        if found.total is not None:
            rows.add(meter, "1-0:1.8.0", ts_ms, Kind.REGISTER, found.total * POWER[found.unit] / 3600)
    elif found.value is None:
        rows.skip("sum of an energy")
    elif options.kind is Kind.INTERVAL:
        kwh = found.value * ENERGY[found.unit]
        rows.add(meter, INTERVAL_IMPORT, ts_ms, Kind.INTERVAL, kwh, interval_ms=options.interval_ms)
    else:
        rows.add(meter, "1-0:1.8.0", ts_ms, Kind.REGISTER, found.value * ENERGY[found.unit])


def meter_of(name: str) -> str:
    """The meter of a record's name: without a last part that only says which quantity it is.

    >>> meter_of("urn:dev:ow:10e2073a01080063/power"), meter_of("urn:dev:ow:10e2073a01080063")
    ('urn:dev:ow:10e2073a01080063', 'urn:dev:ow:10e2073a01080063')
    """
    owner, _, last = name.replace(":", "/").rpartition("/")
    if owner and last.lower() in QUANTITIES:
        return name[: len(owner)]
    return name.rstrip(":/") or name
