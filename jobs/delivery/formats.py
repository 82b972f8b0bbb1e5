"""What receivers are sent, by their type. The same alerts give the same body at every attempt."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from jobs.delivery.receivers import Receiver

NOT_YET = "0001-01-01T00:00:00Z"
"""What Alertmanager writes for an end that has not come (Go's zero time)."""
FAR = "9999-12-31T23:59:59Z"
"""Until then a pushed alert fires: it is ended by a push of its own, not by a timeout."""
MAX_LINES = 20
SOURCE = "/energyai/alerts"
_SIGNS = {"firing": "🔴", "resolved": "🟢"}
_SEVERITY = {"info": "info", "warning": "warning", "critical": "critical"}
Alert = Mapping[str, Any]


def batch_id(receiver: str, delivery_ids: Sequence[str]) -> str:
    """The ce-id of a request: of whom and what it tells, and so the same at every attempt."""
    return hashlib.sha256("\n".join([receiver, *delivery_ids]).encode()).hexdigest()[:32]


def status_of(alerts: Sequence[Alert]) -> str:
    """`firing` when any of them does."""
    return "firing" if any(alert["status"] == "firing" for alert in alerts) else "resolved"


def body(receiver: Receiver, group: Mapping[str, str], alerts: Sequence[Alert]) -> bytes:
    """The request's body.

    Args:
        receiver: who is told.
        group: labels that all the alerts share.
        alerts: messages of topic `alerts`, in their order.

    Raises:
        SecretError: its routing key is not there.
    """
    return orjson.dumps(_FORMATS[receiver.type](receiver, group, alerts))


def headers(receiver: Receiver, content: bytes, ce_id: str, alerts: Sequence[Alert], now_s: int) -> dict[str, str]:
    """The request's headers: CloudEvents in binary mode, the time, the signature, the receiver's credentials.

    Raises:
        SecretError: a secret is not there.
    """
    out = {
        "Content-Type": "application/json",
        "User-Agent": "EnergyAI",
        "ce-specversion": "1.0",
        "ce-id": ce_id,
        "ce-source": SOURCE,
        "ce-type": f"energyai.alert.{status_of(alerts)}",
        "X-EnergyAI-Timestamp": str(now_s),
    }
    if receiver.secret is not None:
        key = receiver.secret.read().encode()
        out["X-EnergyAI-Signature"] = f"sha256={hmac.new(key, content, hashlib.sha256).hexdigest()}"
        # Covers the time as well, so that an old request cannot be sent again with a new time.
        timed = hmac.new(key, f"{now_s}.".encode() + content, hashlib.sha256)
        out["X-EnergyAI-Signature-Timed"] = f"sha256={timed.hexdigest()}"
    if receiver.bearer is not None:
        out["Authorization"] = f"Bearer {receiver.bearer.read()}"
    return out


def _webhook(receiver: Receiver, group: Mapping[str, str], alerts: Sequence[Alert]) -> Any:
    return {
        "version": "4",
        "groupKey": "{}:{" + ", ".join(f'{key}="{value}"' for key, value in group.items()) + "}",
        "truncatedAlerts": 0,
        "status": status_of(alerts),
        "receiver": receiver.name,
        "groupLabels": dict(group),
        "commonLabels": _common([alert["labels"] for alert in alerts]),
        "commonAnnotations": _common([alert["annotations"] for alert in alerts]),
        "externalURL": "",
        "alerts": [
            {
                "status": alert["status"],
                "labels": alert["labels"],
                "annotations": alert["annotations"],
                "startsAt": alert["startsAt"],
                "endsAt": alert["endsAt"] or NOT_YET,
                "generatorURL": alert["generatorURL"],
                "fingerprint": alert["fingerprint"],
                "notification": alert["notify"],
            }
            for alert in alerts
        ],
    }


def _alertmanager(receiver: Receiver, group: Mapping[str, str], alerts: Sequence[Alert]) -> Any:
    return [
        {
            "labels": alert["labels"],
            "annotations": alert["annotations"],
            "startsAt": alert["startsAt"],
            "endsAt": alert["endsAt"] or FAR,
            "generatorURL": alert["generatorURL"],
        }
        for alert in alerts
    ]


def _pagerduty(receiver: Receiver, group: Mapping[str, str], alerts: Sequence[Alert]) -> Any:
    assert receiver.routing_key is not None, "the configuration was checked"
    (alert,) = alerts
    labels = alert["labels"]
    event: dict[str, Any] = {
        "routing_key": receiver.routing_key.read(),
        "event_action": "trigger" if alert["status"] == "firing" else "resolve",
        "dedup_key": alert["fingerprint"],
    }
    if alert["status"] == "firing":
        event["payload"] = {
            "summary": _summary(alert)[:1024],
            "source": labels.get("meter") or labels.get("asset") or labels.get("site", "default"),
            "severity": _SEVERITY.get(labels.get("severity", ""), "warning"),
            "timestamp": alert["startsAt"],
            "group": labels.get("site", "default"),
            "class": labels["alertname"],
            "custom_details": alert["annotations"],
        }
        event["client"] = "EnergyAI"
        if alert["generatorURL"].startswith(("http://", "https://")):
            event["links"] = [{"href": alert["generatorURL"], "text": "what was seen"}]
    return event


def _slack(receiver: Receiver, group: Mapping[str, str], alerts: Sequence[Alert]) -> Any:
    return {"text": _text(group, alerts)}


def _teams(receiver: Receiver, group: Mapping[str, str], alerts: Sequence[Alert]) -> Any:
    card = {
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [{"type": "TextBlock", "wrap": True, "text": _text(group, alerts).replace("\n", "\n\n")}],
    }
    return {
        "type": "message",
        "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}],
    }


def _text(group: Mapping[str, str], alerts: Sequence[Alert]) -> str:
    lines = [f"{group.get('site', 'default')}: {len(alerts)} alert{'' if len(alerts) == 1 else 's'}"]
    for alert in alerts[:MAX_LINES]:
        name, link = alert["labels"]["alertname"], alert["generatorURL"]
        severity = alert["labels"].get("severity", "warning")
        shown = f" {link}" if link.startswith(("http://", "https://")) else ""
        lines.append(f"{_SIGNS[alert['status']]} {alert['status']} {severity} {name}: {_summary(alert)}{shown}")
    if len(alerts) > MAX_LINES:
        lines.append(f"and {len(alerts) - MAX_LINES} more: `energyai alerts list`")
    return "\n".join(lines)


def _summary(alert: Alert) -> str:
    return str(alert["annotations"].get("summary") or alert["labels"]["alertname"])


def _common(maps: Sequence[Mapping[str, str]]) -> dict[str, str]:
    first = maps[0] if maps else {}
    return {key: value for key, value in first.items() if all(other.get(key) == value for other in maps)}


_FORMATS: Mapping[str, Callable[[Receiver, Mapping[str, str], Sequence[Alert]], Any]] = {
    "webhook": _webhook,
    "alertmanager": _alertmanager,
    "pagerduty": _pagerduty,
    "slack": _slack,
    "teams": _teams,
}
