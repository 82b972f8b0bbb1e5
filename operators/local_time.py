"""Local time and public holidays of a place: what a model may know of the days ahead, because everybody does.

A meter's place is its IANA time zone; a zone belongs to one country (the zone table of the tz database), whose public
holidays the package `holidays` knows.
"""

from __future__ import annotations

from datetime import date, datetime
from functools import lru_cache
from importlib.resources import files
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from operators.features import DAYS, LOCAL_DATES

UNPLACED = ("", "UTC", "Etc/UTC")
"""Zones that tell no place: such a meter is forecast without a calendar."""

_QUARTER_MS = 900_000
_DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1).toordinal()
# Holidays that are kept by a part of a country only, where the zone says which part.
_SUBDIVISIONS = {
    "Europe/London": "ENG",
    "Australia/Adelaide": "SA",
    "Australia/Brisbane": "QLD",
    "Australia/Darwin": "NT",
    "Australia/Hobart": "TAS",
    "Australia/Melbourne": "VIC",
    "Australia/Perth": "WA",
    "Australia/Sydney": "NSW",
}


class PlaceError(ValueError):
    """A time zone that does not exist; the message is one line."""


def utc_offset_s(zone: str, at_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    """Seconds that local time is ahead of UTC.

    Args:
        zone: IANA name.
        at_ms: [n] epoch ms, UTC.

    Raises:
        PlaceError: there is no such zone.
    """
    # Meters of a batch are forecast at one time or few, and no zone changes its clock within a quarter of an hour.
    quarters, where = np.unique(at_ms // _QUARTER_MS, return_inverse=True)
    return np.array([_offset_s(zone, quarter) for quarter in quarters.tolist()], dtype=np.int64)[where]


@lru_cache(maxsize=16_384)
def _offset_s(zone: str, quarter: int) -> int:
    try:
        place = ZoneInfo(zone or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise PlaceError(f"no time zone '{zone}': use an IANA name such as Europe/Amsterdam") from None
    offset = datetime.fromtimestamp(quarter * (_QUARTER_MS // 1000), place).utcoffset()
    return 0 if offset is None else round(offset.total_seconds())


@lru_cache(maxsize=1)
def _countries() -> dict[str, str]:
    """ISO 3166 country of each zone that lies in one."""
    table = files("tzdata.zoneinfo").joinpath("zone.tab").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in table.splitlines() if line and not line.startswith("#"))
    return {row[2]: row[0] for row in rows}


@lru_cache(maxsize=4096)
def _holidays(zone: str, year: int) -> NDArray[np.int64]:
    """Public holidays of a year as days since 1970-01-01; empty where the country is unknown to the package."""
    import holidays

    try:
        found = holidays.country_holidays(_countries()[zone], subdiv=_SUBDIVISIONS.get(zone), years=year)
    except (KeyError, NotImplementedError):
        return np.empty(0, dtype=np.int64)
    return np.array(sorted(day.toordinal() - _EPOCH for day in found), dtype=np.int64)


def is_placed(zone: str) -> bool:
    """Whether the zone tells a place, and with it a calendar."""
    return zone not in UNPLACED


def holiday_flags(zone: str, issued_at_ms: NDArray[np.int64], offset_s: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Public holidays around times of issue.

    Args:
        zone: IANA name.
        issued_at_ms: [m] epoch ms, UTC.
        offset_s: [m] as `utc_offset_s` says for these times.

    Returns:
        [m, LOCAL_DATES]: the local dates from seven days before the date of issue to the day after it.
    """
    days, where = np.unique((issued_at_ms + offset_s * 1000) // _DAY_MS, return_inverse=True)
    if not is_placed(zone) or not len(days):
        return np.zeros((len(where), LOCAL_DATES), dtype=np.bool_)
    first = date.fromordinal(int(days[0]) - DAYS + _EPOCH).year
    last = date.fromordinal(int(days[-1]) + 1 + _EPOCH).year
    known = _holidays(zone, first)
    if last > first:
        known = np.concatenate([_holidays(zone, year) for year in range(first, last + 1)])
    flags = np.isin(days[:, None] + np.arange(-DAYS, LOCAL_DATES - DAYS), known)
    return np.asarray(flags[where])
