"""What entries of `alerts` (rules) and `receivers` (who is told) may say."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Container, Mapping
from typing import Any
from urllib.parse import urlsplit

from jobs.config.rules import Key, Kind, number, one_of, text
from operators.alerting.evidence import KINDS as EVIDENCE
from operators.alerting.rules import LONGEST_HOLD_MS
from operators.alerting.times import duration_ms

Check = Callable[[Any], str | None]
TYPES = ("webhook", "alertmanager", "pagerduty", "slack", "teams")
SEVERITIES = ("info", "warning", "critical")


def duration(longest_ms: int | None = None) -> Check:
    """A duration such as 15m."""

    def check(value: Any) -> str | None:
        try:
            ms = duration_ms(value) if isinstance(value, str) else -1
        except ValueError:
            ms = -1
        if ms < 0:
            return f"{value!r} is no duration: write 90s, 15m, 1h30m or 7d"
        too_long = longest_ms is not None and ms > longest_ms
        return f"{value} is too long: want at most {longest_ms // 3_600_000}h" if too_long and longest_ms else None

    return check


def flag(value: Any) -> str | None:
    """true or false."""
    return None if isinstance(value, bool) else f"{value!r}: write true or false"


def several(each: Check) -> Check:
    """A list that is not empty."""

    def check(value: Any) -> str | None:
        if not isinstance(value, list) or not value:
            return f"expected a list such as [a, b], not {value!r}"
        return next((problem for item in value if (problem := each(item))), None)

    return check


def parts(**keys: tuple[Check, bool]) -> Check:
    """A mapping of some keys: how each is checked, and whether it must be there."""

    def check(value: Any) -> str | None:
        if not isinstance(value, dict):
            return f"expected {{{', '.join(f'{key}: …' for key in keys)}}}, not {value!r}"
        for key, item in value.items():
            if key not in keys:
                return f"unknown key {key}: use {', '.join(keys)}"
            if problem := keys[key][0](item):
                return f"{key}: {problem}"
        missing = [key for key, (_, needed) in keys.items() if needed and key not in value]
        return f"{missing[0]} is missing: add `{missing[0]}: …`" if missing else None

    return check


def secret(value: Any) -> str | None:
    """Where a secret is: never the secret itself."""
    if isinstance(value, dict) and len(value) == 1 and next(iter(value)) in ("env", "file"):
        return text(next(iter(value.values())))
    return "no secret belongs in this file: write {env: VARIABLE} or {file: /path/of/it}"


def address(value: Any) -> str | None:
    """An http(s) address, or where one is that nobody should see."""
    if isinstance(value, dict):
        return secret(value)
    if problem := text(value):
        return problem
    try:
        split = urlsplit(value)
        usable = split.scheme in ("http", "https") and bool(split.hostname) and (split.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        return f"{value!r} is no address: write https://host/path"
    if split.username or split.password:
        return "no password belongs in an address: use `bearer` or `secret`"
    return None


def network(value: Any) -> str | None:
    """An IP network."""
    try:
        ipaddress.ip_network(value if isinstance(value, str) else "")
    except ValueError:
        return f"{value!r} is no network: write 10.1.2.0/24"
    return None


def whole_from(low: int, high: int) -> Check:
    """A whole number within bounds."""

    def check(value: Any) -> str | None:
        good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return None if good else f"{value!r}: want a whole number from {low} to {high}"

    return check


RULE = Kind(
    "alerts",
    "alert",
    {
        "alert": Key(text, required=True),
        "kinds": Key(several(one_of(*EVIDENCE)), []),
        "severity": Key(one_of(*SEVERITIES), "warning"),
        "scope": Key(one_of("meter", "site"), "meter"),
        "sites": Key(several(text), ["*"]),
        "meters": Key(several(text), ["*"]),
        "max_score": Key(number(0, 1)),
        "clear_score": Key(number(0, 1)),
        "for": Key(duration(), "0s"),
        "hold": Key(duration(LONGEST_HOLD_MS), "15m"),
        "repeat": Key(duration()),
        "flap": Key(
            parts(
                changes=(whole_from(0, 1000), True),
                within=(duration(LONGEST_HOLD_MS), False),
                hold=(duration(LONGEST_HOLD_MS), False),
            )
        ),
        "escalate": Key(parts(after=(duration(), True), receivers=(several(text), False))),
        "receivers": Key(several(text), []),
        "inhibits": Key(several(text), []),
        "share": Key(number(0, 1, above=True), 0.5),
        "min_meters": Key(whole_from(1, 1_000_000), 3),
        "summary": Key(text),
        "runbook_url": Key(text),
        "generator_url": Key(text),
        "enabled": Key(flag, True),
    },
)
RECEIVER = Kind(
    "receivers",
    "receiver",
    {
        "receiver": Key(text, required=True),
        "type": Key(one_of(*TYPES), "webhook"),
        "url": Key(address),
        "secret": Key(secret),
        "bearer": Key(secret),
        "routing_key": Key(secret),
        "ca_file": Key(text),
        "allow_networks": Key(several(network), []),
        "severities": Key(several(one_of(*SEVERITIES)), list(SEVERITIES)),
        "send_resolved": Key(flag, True),
        "group_wait": Key(duration(300_000), "1s"),
        "max_alerts": Key(whole_from(1, 1000), 100),
        "rate_per_minute": Key(number(0, 60_000, above=True), 60),
        "timeout": Key(duration(120_000), "10s"),
        "attempts": Key(whole_from(1, 1000), 20),
        "enabled": Key(flag, True),
    },
)
ALERTING = (RULE, RECEIVER)


def problems_of(kind: Kind, values: Mapping[str, Any], named: Container[str]) -> list[tuple[str, str]]:
    """What an entry's keys say against each other: (key at whose line it stands, text).

    Args:
        kind: of the entry.
        values: of the keys that are right by themselves.
        named: all keys that the entry has.
    """
    found = []
    if kind is RULE:
        begin, clear = values.get("max_score"), values.get("clear_score")
        if begin is not None and clear is not None and clear < begin:
            found.append(("clear_score", f"clear_score {clear:g} is below max_score {begin:g}: exchange them"))
        if values.get("scope") == "site" and "kinds" not in named and values.get("enabled", True):
            found.append(("scope", "a rule of scope site needs kinds: add `kinds: [missing]`"))
    if kind is RECEIVER and values.get("enabled", True):
        what = values.get("type", "webhook")
        if what == "pagerduty" and "routing_key" not in named:
            found.append(("receiver", "a receiver of type pagerduty needs routing_key: add `routing_key: {env: …}`"))
        if what != "pagerduty" and "url" not in named:
            found.append(("receiver", f"a receiver of type {what} needs url: add `url: https://…`"))
    return found
