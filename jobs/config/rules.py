"""What an entry of each kind may say: its keys, their types, bounds and defaults, as in the contracts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from zoneinfo import available_timezones

MAX_TEXT = 200


@dataclass(frozen=True)
class Key:
    """One key: `check(value)` gives what is wrong and what to do, or None."""

    check: Callable[[Any], str | None]
    default: Any = None
    required: bool = False


@dataclass(frozen=True)
class Kind:
    """One kind of entry: `id_key` names it."""

    name: str
    id_key: str
    keys: Mapping[str, Key]


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def text(value: Any) -> str | None:
    """Text that is not empty; a number or a date that YAML took for one is told to be quoted."""
    if not isinstance(value, str):
        return f"expected text, not {value!r}: put it in quotes"
    if not value.strip() or value != value.strip():
        return "empty, or with blanks around it: write the text alone"
    if len(value) > MAX_TEXT or not value.isprintable():
        return f"longer than {MAX_TEXT} characters or not printable: choose a shorter, plain one"
    return None


def zone(value: Any) -> str | None:
    """An IANA time zone."""
    if problem := text(value):
        return problem
    return None if value in _zones() else f"unknown time zone {value!r}: use an IANA name such as Europe/Berlin"


def one_of(*words: str) -> Callable[[Any], str | None]:
    """One of some words."""

    def check(value: Any) -> str | None:
        return None if isinstance(value, str) and value in words else f"{value!r}: use one of {', '.join(words)}"

    return check


def number(low: float = -math.inf, high: float = math.inf, unit: str = "", above: bool = False) -> Callable[..., Any]:
    """A finite number from `low` (not itself when `above`) to `high`, in `unit`."""

    def check(value: Any) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"expected a number, not {value!r}" + (f": write it in {unit}, without the unit" if unit else "")
        if abs(value) > 1e15 or math.isnan(value):
            return f"{value} is no usable number: write a finite one" + (f" in {unit}" if unit else "")
        if value < low or (above and value == low):
            return f"{value:g} is too small: want {'more than' if above else 'at least'} {low:g} {unit}".rstrip()
        return f"{value:g} is too large: want at most {high:g} {unit}".rstrip() if value > high else None

    return check


def whole(value: Any) -> str | None:
    """A whole number that the database's integer holds."""
    if isinstance(value, bool) or not isinstance(value, int):
        return f"expected a whole number, not {value!r}"
    return None if abs(value) < 2**31 else f"{value} is out of range: use a small number such as 1"


def mapping(value: Any) -> str | None:
    """A mapping, kept as it is."""
    return None if isinstance(value, dict) else f"expected `key: value` lines, not {value!r}"


_TENANT = Key(text, "default")
SITE = Kind(
    "sites",
    "site_id",
    {
        "site_id": Key(text, required=True),
        "tenant_id": _TENANT,
        "tz": Key(zone, "UTC"),
        "limit_kw": Key(number(0, unit="kW", above=True)),
        "tariff": Key(mapping, {}),
        "mode": Key(one_of("shadow", "live"), "shadow"),
        "settings": Key(mapping, {}),
    },
)
# The site's zone and tenant, when it does not say its own.
INHERITED = ("tz", "tenant_id")
METER = Kind(
    "meters",
    "meter_id",
    {
        "meter_id": Key(text, required=True),
        "site_id": Key(text, "default"),
        "tenant_id": _TENANT,
        "tz": Key(zone, "UTC"),
        "commodity": Key(text, "electricity"),
        "register_max": Key(number(0, unit="kWh", above=True)),
        "max_kw": Key(number(0, unit="kW", above=True)),
        "parent_meter_id": Key(text),
    },
)
ASSET = Kind(
    "assets",
    "asset_id",
    {
        "asset_id": Key(text, required=True),
        "site_id": Key(text, required=True),
        "tenant_id": _TENANT,
        "tz": Key(zone, "UTC"),
        "type": Key(one_of("battery", "ev", "flexible_load"), required=True),
        "min_w": Key(number(unit="W")),
        "max_w": Key(number(unit="W")),
        "ramp_w_per_s": Key(number(0, unit="W/s", above=True)),
        "capacity_wh": Key(number(0, unit="Wh", above=True)),
        "efficiency": Key(number(0, 1, above=True)),
        "priority": Key(whole, 0),
        "settings": Key(mapping, {}),
    },
)
KINDS = (SITE, METER, ASSET)
