"""What the topics `alerts.rules` and `meters` say, as far as alerts need it."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from operators.alerting.rules import Book, Rule
from operators.alerting.times import time_ms


class Rules(NamedTuple):
    """The configured rules: one message."""

    version: str
    entries: list[dict[str, Any]]
    from_ms: int | None
    """Event time from which they count; None: from when they are seen."""


def rules_of(value: bytes) -> Rules | None:
    """From a message of `alerts.rules`; None: not usable, and the rules before stay in force."""
    try:
        fields = orjson.loads(value)
        entries = fields["rules"]
        Book.of(0, entries)
        for entry in entries:
            Rule.of(entry)
        return Rules(str(fields["version"]), entries, time_ms(fields.get("effective_from")))
    except (orjson.JSONDecodeError, ValueError, KeyError, TypeError, AttributeError):
        return None


def site_of(value: bytes) -> str | None:
    """A meter's site, from a message of `meters`."""
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    site = fields.get("site_id") if isinstance(fields, dict) else None
    return site if isinstance(site, str) and site else None
