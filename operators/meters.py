"""What is configured of a meter: the messages of the topic `meters`, as far as the jobs need them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson

DEFAULT_SITE = "default"


@dataclass(frozen=True)
class MeterConfig:
    """A meter's time zone and what its readings are judged by."""

    tz: str = "UTC"
    """IANA name."""
    register_max: float = math.nan
    """kWh at which its counters start again from zero; NaN: never."""
    max_kw: float = math.nan
    """What its connection can carry; more is not believed. NaN: not known."""
    site_id: str = DEFAULT_SITE

    @classmethod
    def of_message(cls, value: bytes | None) -> Self:
        """From a message of the topic `meters`; one that says nothing usable configures nothing.

        >>> MeterConfig.of_message(b'{"meter_id": "b2", "tz": "Europe/Berlin", "register_max": 1000}').register_max
        1000.0
        """
        try:
            fields = orjson.loads(value or b"{}")
        except orjson.JSONDecodeError:
            fields = {}
        if not isinstance(fields, dict):
            fields = {}
        tz = fields.get("tz")
        known = isinstance(tz, str) and _zone(tz) is not None
        site = fields.get("site_id")
        return cls(
            str(tz) if known else "UTC",
            _positive(fields.get("register_max")),
            _positive(fields.get("max_kw")),
            site if isinstance(site, str) and site else DEFAULT_SITE,
        )


UNKNOWN = MeterConfig()
"""A meter that nobody has configured."""


@lru_cache(maxsize=1024)
def _zone(tz: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _positive(value: Any) -> float:
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    return number if math.isfinite(number) and number > 0 else math.nan
