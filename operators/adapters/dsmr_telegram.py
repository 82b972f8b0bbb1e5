"""The text of a P1 telegram: its checksum, its objects, and what a line of it says.

The lines are parsed by the library dsmr-parser.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any

_OBIS = re.compile(r"^(\d)-(\d):(\d+\.\d+\.\d+)(?:\*\d+)?\(")
_HEADER = re.compile(rb"/[A-Za-z]{3}\d")
_LARGEST = Decimal(10) ** 15
"""No meter has more digits; and no arithmetic on it can overflow."""
_CHECKED = ("0.2.8", "1.0.0", "96.1.4")
"""Objects (version, time) of telegrams that must have a checksum."""


def _table() -> tuple[int, ...]:
    values = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ 0xA001 if byte & 1 else byte >> 1  # noqa: PLW2901
        values.append(byte)
    return tuple(values)


_CRC = _table()


def crc16(data: bytes) -> int:
    """The telegram's checksum over its bytes from `/` to `!`: CRC-16, polynomial x16+x15+x2+1, reflected, from 0."""
    crc = 0
    for byte in data:
        crc = crc >> 8 ^ _CRC[(crc ^ byte) & 0xFF]
    return crc


@dataclass
class Telegram:
    """A telegram as it stands in a file: the number of its first line, and its lines with their ends."""

    line: int
    raw: list[bytes] = field(default_factory=list)
    received: str = ""
    """A time that a logger wrote before it."""


def last_begin(telegram: Telegram) -> Telegram | None:
    """The telegram whose header is in the middle of another's line, where that one breaks off; None: there is none."""
    for i in range(len(telegram.raw) - 1, -1, -1):
        at = [match.start() for match in _HEADER.finditer(telegram.raw[i]) if i or match.start()]
        if at:
            return Telegram(telegram.line + i, [telegram.raw[i][at[-1] :], *telegram.raw[i + 1 :]])
    return None


Object = tuple[str, str, str, str, int]
"""Medium, channel, code, the line's text, the line's number."""


def objects_of(telegram: Telegram) -> list[Object]:
    """The telegram's lines with an OBIS code; a line that goes on (before DSMR 4) is part of the one before it."""
    found: list[Object] = []
    for i, raw in enumerate(telegram.raw):
        line = raw.decode("latin-1").rstrip("\r\n")
        if line.startswith("(") and found:
            *before, text, number = found[-1]
            found[-1] = (*before, text + "\r\n" + line, number)  # type: ignore[assignment]
        elif match := _OBIS.match(line):
            found.append((match[1], match[2], match[3], line, telegram.line + i))
    return found


def problem_of(raw: list[bytes], codes: set[str]) -> str:
    """What is wrong with the telegram's checksum; empty: nothing."""
    end = raw[-1].rstrip(b"\r\n")
    if end == b"!":
        return "no checksum after the !, which this version has" if codes & set(_CHECKED) else ""
    if not re.fullmatch(rb"![0-9A-F]{4}", end):
        return f"{end[:20].decode('latin-1')!r} is no checksum"
    wanted = int(end[1:], 16)
    body = b"".join(raw[:-1]) + b"!"
    if crc16(body) == wanted:
        return ""
    # A logger that writes lines its own way has changed the bytes that were summed.
    restored = b"".join(line.rstrip(b"\n").rstrip(b"\r") + b"\r\n" for line in raw[:-1]) + b"!"
    if crc16(restored) == wanted:
        return ""
    return f"checksum {wanted:04X} does not fit the telegram, which gives {crc16(body):04X}"


def identity(objects: list[Object], channel: int, codes: tuple[str, ...]) -> str:
    """The identity of a channel's meter; the norm writes text as hexadecimal digits of its characters."""
    for code in codes:
        for _, b, found, line, _ in objects:
            if b == str(channel) and found == code:
                text = line.partition("(")[2].partition(")")[0].strip()
                if re.fullmatch(r"(?:[2-7][0-9A-Fa-f])+", text) and "7f" not in text.lower():
                    text = bytes.fromhex(text).decode("ascii").strip()
                if text.strip("0"):
                    return text
    return ""


def digits(line: str) -> int | None:
    """The small whole number in a line's first brackets, or None."""
    text = line.partition("(")[2].partition(")")[0]
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 3 else None


@lru_cache(maxsize=1)
def _parsers() -> tuple[Any, Any, Any]:
    # Imported when first used: it brings cryptography for encrypted meters, which take half a second.
    from dsmr_parser.parsers import CosemParser, MBusParser, ValueParser  # type: ignore[import-untyped]

    text, decimal = ValueParser(str), ValueParser(Decimal)
    return CosemParser(decimal), MBusParser(text, decimal), MBusParser(*[text] * 6, decimal)


def _parsed(parser: Any, line: str) -> Any:
    from dsmr_parser.exceptions import ParseError  # type: ignore[import-untyped]

    try:
        return parser.parse(line)
    except (ParseError, ArithmeticError, ValueError):
        return None


def value_of(line: str) -> tuple[Decimal | None, str]:
    """The number and the unit of a line; None where it holds no finite number."""
    found = _parsed(_parsers()[0], line)
    return (None, "") if found is None else (_finite(found.value), found.unit or "")


def _finite(value: Decimal | None) -> Decimal | None:
    return value if value is not None and value.is_finite() and value.copy_abs() < _LARGEST else None


def sub_meter_value(line: str) -> tuple[str, str, Decimal, str] | None:
    """Time, register (before DSMR 4 the line names it), value and unit of a sub-meter's line."""
    _, modern, old = _parsers()
    shape = old if ":24.3.0" in line else modern
    found = _parsed(shape, line)
    if found is None or _finite(found.value) is None or not found.unit or not found.datetime:
        return None
    return found.datetime, found.values[4]["value"] if shape is old else "", found.value, found.unit
