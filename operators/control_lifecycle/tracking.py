"""Measured against commanded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from operators.control_lifecycle.alerts import Alerts
from operators.control_lifecycle.times import iso, parse_ts_ms


@dataclass(frozen=True)
class TrackingOptions:
    """When an asset does not do what it was told."""

    settle_s: float = 60.0
    """Deviations count only that long after a setpoint's start: devices ramp."""
    tolerance_w: float = 250.0
    tolerance_share: float = 0.1
    """Of the commanded power; the larger of both tolerances counts."""
    to_alert: int = 3
    """Setpoints in a row that were not followed."""


class Tracking:
    """Counts setpoints in a row that an asset did not follow. `strays`: by asset, JSON."""

    def __init__(self, options: TrackingOptions, strays: Mapping[str, int]) -> None:
        self.options = options
        self.strays = dict(strays)

    def compare(self, entry: dict[str, Any], measured_w: float, now_ms: int, alerts: Alerts) -> list[dict[str, Any]]:
        """Actions of one measurement (W, at `now_ms`, ms UTC); each setpoint of type POWER is compared once.

        Args:
            entry: an open setpoint of the ack loop; `compared` is set.
            measured_w: the asset's own power.
            now_ms: event time.
            alerts: those that fire.
        """
        setpoint, options = entry["setpoint"], self.options
        settled = parse_ts_ms(setpoint["execution_time"]) + options.settle_s * 1000
        if setpoint["type"] != "POWER" or entry["compared"] or not settled <= now_ms <= entry["end"]:
            return []
        entry["compared"] = True
        asset, commanded = setpoint["asset_id"], float(setpoint["value_w"])
        if abs(measured_w - commanded) <= max(options.tolerance_w, options.tolerance_share * abs(commanded)):
            self.strays.pop(asset, None)
            return alerts.resolve("AssetDeviates", asset, now_ms)
        self.strays[asset] = self.strays.get(asset, 0) + 1
        deviation = {
            "action": "deviation",
            "asset_id": asset,
            "setpoint_id": setpoint["setpoint_id"],
            "commanded_w": commanded,
            "measured_w": measured_w,
            "ts": iso(now_ms),
        }
        if self.strays[asset] < options.to_alert:
            return [deviation]
        detail = f"{measured_w:.0f} W where {commanded:.0f} W were commanded"
        return [deviation, *alerts.fire("AssetDeviates", "warning", setpoint, detail, measured_w, commanded, now_ms)]
