"""Local time of arrays of UTC times: what tariffs, daily needs and monthly peaks are about."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

DAY_MS = 86_400_000
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Local:
    """Local calendar fields of n times."""

    minute: Ints
    """[n] minute of the day, 0 to 1439."""
    weekday: Ints
    """[n] 0 is Monday."""
    month: Ints
    """[n] months since year 0: the same number, the same calendar month."""

    @property
    def month_of_year(self) -> Ints:
        """[n] 1 to 12."""
        return np.asarray(self.month % 12 + 1)


def local(times_ms: Any, tz: str) -> Local:
    """Local calendar fields of times.

    Args:
        times_ms: [n] epoch ms, UTC.
        tz: IANA zone.
    """
    index = pd.DatetimeIndex(np.asarray(times_ms, dtype="datetime64[ms]")).tz_localize("UTC").tz_convert(tz)
    return Local(
        minute=index.hour.to_numpy(dtype=np.int64) * 60 + index.minute.to_numpy(dtype=np.int64),
        weekday=index.weekday.to_numpy(dtype=np.int64),
        month=index.year.to_numpy(dtype=np.int64) * 12 + index.month.to_numpy(dtype=np.int64) - 1,
    )


def at_minute(day: pd.Timestamp, minute: int, tz: ZoneInfo) -> int:
    """Epoch ms of a local day's wall-clock minute; one that the clock skips is the next that there is."""
    wall = (day + pd.Timedelta(minutes=minute)).tz_localize(None)
    stamp = wall.tz_localize(tz, ambiguous=True, nonexistent="shift_forward")
    return int(stamp.tz_convert("UTC").value // 1_000_000)


def minute_of_day(text: str) -> int:
    """`"07:30"` is 450; `"24:00"` is 1440, the end of the day.

    Raises:
        ValueError: no time of day.

    >>> minute_of_day("07:30"), minute_of_day("24:00")
    (450, 1440)
    """
    hours, _, minutes = str(text).strip().partition(":")
    if not (hours.isdigit() and (minutes or "0").isdigit()):
        raise ValueError(f"{text!r} is no time of day: write it as 07:30")
    value = int(hours) * 60 + int(minutes or "0")
    if int(minutes or "0") > 59 or value > 1440:
        raise ValueError(f"{text!r} is no time of day: write it as 07:30, up to 24:00")
    return value


def weekdays(value: Any) -> tuple[int, ...]:
    """Days as numbers, 0 is Monday: from `"mon-fri"`, `"weekdays"`, `["sat", "sun"]`, `"all"` or None (all).

    Raises:
        ValueError: no such day.

    >>> weekdays("mon-fri"), weekdays(["sat"]), weekdays("fri-mon")
    ((0, 1, 2, 3, 4), (5,), (4, 5, 6, 0))
    """
    if value is None or value == "all":
        return tuple(range(7))
    if isinstance(value, str):
        word = value.strip().lower()
        if word in ("weekdays", "workdays", "weekday", "workday"):
            return tuple(range(5))
        if word in ("weekends", "weekend"):
            return (5, 6)
        parts = word.replace(" ", "").split(",")
    else:
        parts = [str(part) for part in value] if isinstance(value, list | tuple) else [str(value)]
    return tuple(day for part in parts for day in _day_range(part))


def _day_range(text: str) -> list[int]:
    first, dash, last = text.lower().partition("-")
    low = _day(first)
    if not dash:
        return [low]
    return [(low + i) % 7 for i in range((_day(last) - low) % 7 + 1)]


def _day(text: str) -> int:
    if text.isdigit() and int(text) < 7:
        return int(text)
    for number, name in enumerate(DAYS):
        if text[:3] == name:
            return number
    raise ValueError(f"{text!r} is no day: use {', '.join(DAYS)}")


def in_span(minute: Ints, begin: int, end: int) -> NDArray[np.bool_]:
    """[n] whether minutes of the day lie in [begin, end); a span that ends before it begins goes over midnight."""
    if begin < end:
        return np.asarray((minute >= begin) & (minute < end))
    return np.asarray((minute >= begin) | (minute < end))


def iso(time_ms: int) -> str:
    """Epoch ms as ISO-8601 in UTC, with milliseconds and `Z`."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
