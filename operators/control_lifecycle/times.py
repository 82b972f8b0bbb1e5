"""Moments and spans of ISO 8601, as milliseconds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

FOREVER_MS = 2**53
"""A span without an end: OpenADR 3 writes it `P9999Y`."""
_LAST_MS = 253_402_300_799_999
"""The end of the year 9999."""
_DURATION = re.compile(
    r"P(?:(?P<y>\d+)Y)?(?:(?P<w>\d+)W)?(?:(?P<d>\d+)D)?(?:T(?:(?P<h>\d+)H)?(?:(?P<m>\d+)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?"
)
_SECONDS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}


def parse_ts_ms(value: Any) -> int:
    """ms UTC since 1970 of ISO 8601 text with an offset, or of such a whole number.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LAST_MS:
        return value
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no time: expected ISO 8601")
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(f"{value!r} has no offset: end it with Z or +02:00")
    return round(moment.timestamp() * 1000)


def iso(ms: int) -> str:
    """ISO 8601 in UTC, with milliseconds where there are some.

    >>> iso(1_767_225_600_000), iso(1_767_225_600_500)
    ('2026-01-01T00:00:00Z', '2026-01-01T00:00:00.500Z')
    """
    moment = datetime.fromtimestamp(ms / 1000, UTC)
    return moment.isoformat(timespec="milliseconds" if ms % 1000 else "seconds").replace("+00:00", "Z")


def parse_duration_ms(value: Any) -> int:
    """ms of an ISO 8601 duration in weeks, days, hours, minutes, seconds; a thousand years or more are `FOREVER_MS`.

    Raises:
        ValueError: it is none, or counts in months or years, which have no fixed length.

    >>> parse_duration_ms("PT15M"), parse_duration_ms("P1DT2H"), parse_duration_ms("P9999Y") == FOREVER_MS
    (900000, 93600000, True)
    """
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None or not any(found.groups()) or value.endswith("T"):
        raise ValueError(f"{value!r} is no duration: expected ISO 8601 such as PT15M")
    if found["y"] is not None:
        if int(found["y"]) >= 1000:
            return FOREVER_MS
        raise ValueError(f"{value!r}: years have no fixed length; write days")
    seconds = sum(float(found[part]) * scale for part, scale in _SECONDS.items() if found[part] is not None)
    return min(round(seconds * 1000), FOREVER_MS)


def step_end_ms(setpoint: Mapping[str, Any]) -> int | None:
    """When a setpoint's step of the plan is over, ms UTC; None when it has no end (`duration_s: null`)."""
    if setpoint.get("duration_s") is None:
        return None
    return parse_ts_ms(setpoint["execution_time"]) + round(float(setpoint["duration_s"]) * 1000)
