"""Sources' own formats into readings: pure functions from bytes to columns, one module a format.

An adapter converts units, signs and times once, here: kWh and kW, import positive, UTC. It raises for nothing but an
input that as a whole is another format; a record that it cannot read is given with its place and reason, one that is no
energy or power is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from operators.adapters import debs, dsmr, green_button, senml, shelly, tasmota
from operators.adapters.parsed import FormatError, Options, Parsed, Unreadable

__all__ = ["FORMATS", "Format", "FormatError", "Options", "Parsed", "Unreadable", "detect", "parse"]

HEAD = 256 * 1024
"""Bytes of an input by which its format is recognised."""


@dataclass(frozen=True)
class Format:
    """A source's format."""

    title: str
    wants: str
    """What an input of it holds, for the error that it does not."""
    looks: Callable[[bytes], bool]
    """Whether the beginning of an input is of it."""
    parse: Callable[[IO[bytes], Options], Iterator[Parsed]]


FORMATS = {
    "dsmr": Format("DSMR P1 telegrams", "telegrams: a line /…, lines of OBIS codes, a line !", dsmr.looks, dsmr.parse),
    "shelly": Format("Shelly Gen2+ notifications", "NotifyStatus messages", shelly.looks, shelly.parse),
    "tasmota": Format("Tasmota telemetry", "SENSOR messages with ENERGY", tasmota.looks, tasmota.parse),
    "green-button": Format(
        "Green Button", "an ESPI feed, or CSV with DATE, START TIME and USAGE", green_button.looks, green_button.parse
    ),
    "senml": Format("SenML", "JSON records with n or bn, and a value", senml.looks, senml.parse),
    "debs": Format(
        "DEBS 2014 plugs", "lines of id, timestamp, value, property, plug, household, house", debs.looks, debs.parse
    ),
}
"""Formats by name, in the order in which `detect` tries them."""


def detect(head: bytes) -> str | None:
    """The format of an input that begins with `head` (`HEAD` bytes of it), or None."""
    return next((name for name, one in FORMATS.items() if one.looks(head)), None)


def parse(name: str, file: IO[bytes], options: Options | None = None) -> Iterator[Parsed]:
    """The readings of `file` in parts, in its order, with what could not be read.

    Args:
        name: a key of `FORMATS`.
        file: bytes, which can be sought; read from its beginning.
        options: what the format leaves open.

    Raises:
        FormatError: nothing in its beginning is of the format; one line.
        ValueError: `options.tz` is no zone.
    """
    one = FORMATS[name]
    file.seek(0)
    head = file.read(HEAD)
    file.seek(0)
    if not one.looks(head):
        found = detect(head)
        other = f"; it looks like {found}" if found else ""
        raise FormatError(f"no {one.title} (want {one.wants}){other}" if head else "is empty")
    return one.parse(file, options or Options())
