"""Anomalies for the tests of alerts, and the table that the messages make."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from operators.alerting.book import SiteBook
from operators.alerting.evidence import Evidence
from operators.alerting.times import iso, time_ms

BASE = 1_767_225_600_000
MINUTE = 60_000
HOUR = 60 * MINUTE


def anomaly(
    name: str, start_min: float, end_min: float | None, kind: str = "spike", meter: str = "b2", **more: Any
) -> dict[str, Any]:
    """A message of topic `anomalies`; minutes from `BASE`."""
    return {
        "anomaly_id": name, "meter_id": meter, "site_id": "hq", "kind": kind,
        "start": iso(BASE + int(start_min * MINUTE)),
        "end": None if end_min is None else iso(BASE + int(end_min * MINUTE)),
        "score": 0.001, "observed_kwh": 12.5, "expected_kwh": 4.0, "lower_kwh": 3.0, "upper_kwh": 5.0, "model_id": "m",
    } | more  # fmt: skip


def at(minutes: float) -> int:
    """Epoch ms of a minute from `BASE`."""
    return BASE + int(minutes * MINUTE)


def add(book: SiteBook, *messages: dict[str, Any]) -> None:
    """Puts messages in."""
    for message in messages:
        book.add(Evidence.of_anomaly(message) if "kind" in message else Evidence.of_alert(message))


def table(news: Iterable[dict[str, Any]]) -> dict[tuple[str, str], dict[str, Any]]:
    """Table `alert` as the sink leaves it: by fingerprint and start."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for message in news:
        key = (message["fingerprint"], message["startsAt"])
        if "supersedes" in message:
            rows.pop((message["fingerprint"], message["supersedes"]), None)
        if message.get("retracted"):
            rows.pop(key, None)
        else:
            rows[key] = {k: message[k] for k in ("status", "labels", "annotations", "endsAt")}
    return rows


def said(news: Iterable[dict[str, Any]]) -> list[tuple[str, str, float]]:
    """(alert name, what is told, minute of the start) of the messages that tell."""
    return [
        (m["labels"]["alertname"], m["notify"]["kind"], ((time_ms(m["startsAt"]) or 0) - BASE) / MINUTE)
        for m in news
        if m["notify"]
    ]
