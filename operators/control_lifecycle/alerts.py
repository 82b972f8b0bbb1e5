"""The contract's alerts about assets, firing until they are resolved."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from operators.control_lifecycle.times import iso

RUNBOOK = "docs/device_client.md"


class Alerts:
    """What fires now. `firing`: by alert name and asset, JSON."""

    def __init__(self, firing: Mapping[str, dict[str, Any]]) -> None:
        self.firing = dict(firing)

    def fire(
        self,
        name: str,
        severity: str,
        setpoint: Mapping[str, Any],
        summary: str,
        value: float,
        threshold: float,
        now_ms: int,
    ) -> list[dict[str, Any]]:
        """The action that raises it; none when it fires already."""
        key = f"{name}/{setpoint.get('asset_id') or setpoint['site_id']}"
        if key in self.firing:
            return []
        self.firing[key] = alert(name, severity, setpoint, summary, value, threshold, now_ms)
        return [{"action": "alert", "alert": dict(self.firing[key])}]

    def resolve(self, name: str, subject: str, now_ms: int) -> list[dict[str, Any]]:
        """The action that ends it for an asset (or site); none when it does not fire."""
        fired = self.firing.pop(f"{name}/{subject}", None)
        if fired is None:
            return []
        return [{"action": "alert", "alert": {**fired, "status": "resolved", "endsAt": iso(now_ms)}}]


def alert(
    name: str, severity: str, setpoint: Mapping[str, Any], summary: str, value: float, threshold: float, now_ms: int
) -> dict[str, Any]:
    """A firing alert about the asset of `setpoint`, or its site when it names none.

    Labels are identity alone; what changes is in the annotations.
    """
    labels = {
        "alertname": name,
        "severity": severity,
        "tenant": str(setpoint.get("tenant_id") or "default"),
        "site": str(setpoint.get("site_id") or "default"),
    }
    if setpoint.get("asset_id"):
        labels["asset"] = str(setpoint["asset_id"])
    identity = json.dumps(labels, sort_keys=True, separators=(",", ":"))
    return {
        "fingerprint": hashlib.sha256(identity.encode()).hexdigest()[:16],
        "status": "firing",
        "labels": labels,
        "annotations": {
            "summary": f"{labels.get('asset', labels['site'])}: {summary}",
            "value": f"{value:g}",
            "threshold": f"{threshold:g}",
            "runbook_url": RUNBOOK,
        },
        "startsAt": iso(now_ms),
        "endsAt": None,
        "generatorURL": "",
    }
