"""Receivers as the configuration names them, and their secrets, which are read when they are used and never shown."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from jobs.config.alert_rules import SEVERITIES
from jobs.delivery.guard import Network
from operators.alerting.times import duration_ms

PAGERDUTY = "https://events.pagerduty.com/v2/enqueue"


class SecretError(Exception):
    """A secret that is not where the configuration says."""


@dataclass(frozen=True)
class Secret:
    """Where a secret is. Its text is in no representation of this."""

    kind: str
    """`env`, `file`, or `text` for what is none (an address that may be seen)."""
    place: str

    def read(self, environ: Mapping[str, str] | None = None) -> str:
        """The secret, as it is now: a file may be replaced while the program runs.

        Raises:
            SecretError: it is not there, or empty.
        """
        if self.kind == "text":
            return self.place
        if self.kind == "env":
            value = (os.environ if environ is None else environ).get(self.place, "").strip()
        else:
            try:
                value = Path(self.place).expanduser().read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise SecretError(f"secret file {self.place} cannot be read ({type(error).__name__})") from error
        if not value:
            raise SecretError(f"secret {self.kind} {self.place} is empty or not set: set it, then it is tried again")
        return value


@dataclass(frozen=True)
class Receiver:
    """Who is told, how, and how often it is tried. Durations in seconds."""

    name: str
    type: str = "webhook"
    url: Secret | None = None
    secret: Secret | None = None
    bearer: Secret | None = None
    routing_key: Secret | None = None
    ca_file: str | None = None
    networks: tuple[Network, ...] = ()
    severities: frozenset[str] = frozenset(SEVERITIES)
    send_resolved: bool = True
    group_wait_s: float = 1.0
    max_alerts: int = 100
    rate_per_minute: float = 60.0
    timeout_s: float = 10.0
    attempts: int = 20
    enabled: bool = field(default=True)

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """From a checked entry; keys that are missing have their default."""
        values: dict[str, Any] = {"name": entry["receiver"]}
        for key in ("type", "ca_file", "send_resolved", "max_alerts", "rate_per_minute", "attempts", "enabled"):
            if entry.get(key) is not None:
                values[key] = entry[key]
        for key in ("url", "secret", "bearer", "routing_key"):
            if entry.get(key) is not None:
                values[key] = _secret(entry[key])
        for key in ("group_wait", "timeout"):
            if entry.get(key) is not None:
                values[f"{key}_s"] = duration_ms(entry[key]) / 1000
        if entry.get("severities"):
            values["severities"] = frozenset(entry["severities"])
        values["networks"] = tuple(ipaddress.ip_network(text) for text in entry.get("allow_networks") or ())
        if values.get("type") == "pagerduty":
            values["max_alerts"] = 1  # one event a request
            values.setdefault("url", Secret("text", PAGERDUTY))
        return cls(**values)

    @property
    def shown_url(self) -> str:
        """The address without what may be secret in it: query, fragment, and all of it where it is kept as one."""
        if self.url is None:
            return ""
        if self.url.kind != "text":
            return f"({self.url.kind} {self.url.place})"
        split = urlsplit(self.url.place)
        return f"{split.scheme}://{split.netloc.rpartition('@')[2]}{split.path}"

    def takes(self, message: Mapping[str, Any]) -> bool:
        """Whether a message of topic `alerts` is for it, when nothing else is said of it."""
        named = message.get("receivers") or ()
        severity = message["labels"].get("severity", "warning")
        return self.enabled and (not named or self.name in named) and severity in self.severities


def _secret(value: Any) -> Secret:
    if isinstance(value, dict):
        ((kind, place),) = value.items()
        return Secret(kind, place)
    return Secret("text", value)
