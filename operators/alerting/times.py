"""Durations and times of rules and messages. Everything inside is epoch milliseconds, UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

DAY_MS = 86_400_000
_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": DAY_MS, "w": 7 * DAY_MS}
_PART = re.compile(r"(\d+)(ms|s|m|h|d|w)")
_DURATION = re.compile(r"(?:\d+(?:ms|s|m|h|d|w))+")
LATEST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999."""


def duration_ms(text: str) -> int:
    """A duration as Prometheus writes it.

    Raises:
        ValueError: anything else.

    >>> duration_ms("1h30m"), duration_ms("0s")
    (5400000, 0)
    """
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is no duration such as 90s, 15m or 1h30m")
    return sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(text))


def iso(ms: int) -> str:
    """Epoch milliseconds as the messages' text.

    >>> iso(1_767_225_600_000)
    '2026-01-01T00:00:00.000Z'
    """
    at = datetime.fromtimestamp(ms / 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def time_ms(value: Any) -> int | None:
    """A message's time (ISO-8601 with an offset, or epoch milliseconds) as epoch milliseconds; None: not there.

    Raises:
        ValueError: no time, or one that has no offset or is out of range.

    >>> time_ms("2026-01-01T01:00:00+01:00")
    1767225600000
    """
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{value!r} is no time")
    if isinstance(value, str):
        at = datetime.fromisoformat(value)
        if at.tzinfo is None:
            raise ValueError(f"{value!r} has no offset")
        ms = round(at.timestamp() * 1000)
    else:
        ms = int(value)
    if not 0 <= ms <= LATEST_MS:
        raise ValueError(f"{value!r} is out of range")
    return ms
