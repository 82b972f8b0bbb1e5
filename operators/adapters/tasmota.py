"""Tasmota telemetry: the object `ENERGY` of `tele/DEVICE/SENSOR` messages (also `STATUS8` and `STATUS10`).

Fields and units are those of Tasmota's documentation (energy monitoring): `Total`, `ExportActive` kWh, `Power` W.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Any

from operators.adapters.clocks import LocalClock, iso_ms
from operators.adapters.parsed import NET_POWER, Options, Parsed, Rows, number, to_ms
from operators.adapters.text import Document, documents
from operators.readings import Kind

_TOPIC = re.compile(r"(?:^|\s|\[)/*([^\s\[\]=]+)/(?:SENSOR|STATUS8|STATUS10|ENERGY)\b")
_OTHER = re.compile(r"[^\s\[\]]+/(?:LWT|STATE|INFO\d|RESULT|UPTIME|STATUS\d*|POWER\d*|MARGINS|LOGGING)\b")
_OFFSET = re.compile(r"(?:Z|[+-]\d\d:?\d\d)$")
_PREFIXES = ("tele", "stat")
_PHASES = 3


def looks(head: bytes) -> bool:
    """Whether `head` has an object `ENERGY`, or a telemetry topic."""
    return b'"ENERGY"' in head or bool(re.search(rb"tele/\S+/SENSOR|/tele/SENSOR", head))


def parse(file: IO[bytes], options: Options) -> Iterator[Parsed]:
    """The readings of telemetry messages, one a line, with the topic before it or not.

    The meter is the topic without `tele` and `SENSOR`. `Total` is the register 1-0:1.8.0, `ExportActive` 1-0:2.8.0,
    `TotalTariff` and `ExportTariff` their tariffs, `Power` the net power 1-0:16.7.0; a list has a value a phase, whose
    sum is the meter's, and whose values have registers by phase.

    Args:
        file: JSON lines.
        options: `tz` of times without an offset (default UTC); `meter` where no topic names the device.
    """
    rows = Rows()
    clock = LocalClock(options.tz or "UTC")
    for document in documents(file):
        rows.at(document.place)
        if document.error:
            if _OTHER.search(document.prefix):
                rows.skip("message of another kind")
            else:
                rows.refuse(document.error)
        else:
            _message(rows, document, options, clock)
        yield from rows.full()
    yield rows.take()


def device(topic: str) -> str:
    """The device of a topic: `tele/kitchen/SENSOR` and `kitchen/tele/SENSOR` are `kitchen`; empty: no topic.

    >>> device("13:10:50 MQT: tele/house/kitchen/SENSOR =")
    'house/kitchen'
    """
    found = _TOPIC.search(topic)
    parts = [part for part in found[1].split("/") if part] if found else []
    if parts and parts[0] in _PREFIXES:
        parts = parts[1:]
    elif parts and parts[-1] in _PREFIXES:
        parts = parts[:-1]
    return "/".join(parts)


def _message(rows: Rows, document: Document, options: Options, clock: LocalClock) -> None:
    message = document.value
    if isinstance(message, dict) and isinstance(message.get("StatusSNS"), dict):
        message = message["StatusSNS"]
    if not isinstance(message, dict):
        rows.refuse("no JSON object")
        return
    energy = message.get("ENERGY")
    if energy is None:
        rows.skip("message without ENERGY")
        return
    if not isinstance(energy, dict):
        rows.refuse("ENERGY is no object")
        return
    meter = device(document.prefix) or options.meter
    try:
        ts_ms = _time(rows, message.get("Time"), clock, meter)
    except ValueError as error:
        rows.refuse(str(error))
        return
    _values(rows, energy, "Total", meter, ts_ms, Kind.REGISTER, 1.0, "1-0:1.8.0", ("21.8.0", "41.8.0", "61.8.0"))
    _values(rows, energy, "ExportActive", meter, ts_ms, Kind.REGISTER, 1.0, "1-0:2.8.0", ("22.8.0", "42.8.0", "62.8.0"))
    _values(rows, energy, "Power", meter, ts_ms, Kind.INSTANT, 1e-3, NET_POWER, ("36.7.0", "56.7.0", "76.7.0"))
    for field, direction in (("TotalTariff", 1), ("ExportTariff", 2)):
        tariffs = energy.get(field)
        for i, value in enumerate(tariffs if isinstance(tariffs, list) else []):
            _add(rows, field, meter, f"1-0:{direction}.8.{i + 1}", ts_ms, Kind.REGISTER, 1.0, value)


def _time(rows: Rows, value: object, clock: LocalClock, meter: str) -> int:
    seconds = number(value)
    if seconds is not None:
        return to_ms(seconds)
    if not isinstance(value, str):
        raise ValueError("no Time")
    if not _OFFSET.search(value):
        rows.assume(f"times without an offset are taken as {clock.zone.key} (else: --tz)")
    return iso_ms(value, clock, meter)


def _values(
    rows: Rows,
    energy: dict[str, Any],
    field: str,
    meter: str,
    ts_ms: int,
    kind: Kind,
    factor: float,
    register: str,
    phases: tuple[str, ...],
) -> None:
    """A field that is one value or one a phase."""
    if field not in energy:
        return
    value = energy[field]
    if not isinstance(value, list):
        _add(rows, field, meter, register, ts_ms, kind, factor, value)
        return
    found = [number(one) for one in value]
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        rows.refuse(f"{field} is a list with something else than numbers")
        return
    rows.add(meter, register, ts_ms, kind, sum(known) * factor)
    if len(known) <= _PHASES:
        for code, one in zip(phases, known, strict=False):
            rows.add(meter, f"1-0:{code}", ts_ms, kind, one * factor)


def _add(rows: Rows, field: str, meter: str, register: str, ts_ms: int, kind: Kind, factor: float, value: Any) -> None:
    found = number(value)
    if value is None:
        rows.skip("null")
    elif found is None:
        rows.refuse(f"{field} is no number")
    else:
        rows.add(meter, register, ts_ms, kind, found * factor)
