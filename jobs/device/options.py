"""What a device knows of itself, and how strict its keeper is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SWITCHED = ("min_run_s", "min_rest_s", "min_run_min", "min_rest_min")


@dataclass(frozen=True)
class AssetSpec:
    """An asset as in the topic `sites`: power in W (import positive), `ramp_w_per_s` in W/s, `capacity_wh` in Wh.

    `ramp_w_per_s` infinite: any change at once. `efficiency`: of a full cycle, 0..1. `can_be_off`: 0 W is possible
    beside `min_w`..`max_w`, as with a car that charges with 1.4 kW at least, or not at all.
    """

    asset_id: str
    type: str
    min_w: float
    max_w: float
    ramp_w_per_s: float = math.inf
    capacity_wh: float = 0.0
    efficiency: float = 1.0
    priority: int = 0
    can_be_off: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError when no safe power follows from it."""
        if not (math.isfinite(self.min_w) and math.isfinite(self.max_w) and self.min_w <= self.max_w):
            raise ValueError(f"asset {self.asset_id}: want finite min_w <= max_w, not {self.min_w}..{self.max_w}")
        if not self.ramp_w_per_s > 0:
            raise ValueError(f"asset {self.asset_id}: ramp_w_per_s must be more than 0, or null for no limit")
        if not (0 < self.efficiency <= 1 and 0 <= self.capacity_wh < math.inf):
            raise ValueError(f"asset {self.asset_id}: want 0 < efficiency <= 1 and a finite capacity_wh")

    @classmethod
    def of(cls, asset: Mapping[str, Any]) -> AssetSpec:
        """From one of a site's `assets`; null is "not known".

        Without `min_w` a battery gives back as much as it takes, and others nothing. A car can be
        off, and a load that has a minimum run or rest.

        Raises:
            ValueError: bounds are missing or impossible: a device without them does not act.
        """
        try:
            kind, high = str(asset["type"]), float(asset["max_w"])
            least = (-high if kind == "battery" else 0.0) if asset.get("min_w") is None else float(asset["min_w"])
            more = {**(asset.get("settings") or {}), **asset}
            return cls(
                asset_id=str(asset["asset_id"]),
                type=kind,
                min_w=least,
                max_w=high,
                ramp_w_per_s=math.inf if asset.get("ramp_w_per_s") is None else float(asset["ramp_w_per_s"]),
                capacity_wh=float(asset.get("capacity_wh") or 0.0),
                efficiency=1.0 if asset.get("efficiency") is None else float(asset["efficiency"]),
                priority=int(asset.get("priority") or 0),
                can_be_off=kind == "ev" or any(more.get(name) for name in _SWITCHED),
            )
        except (KeyError, TypeError) as error:
            name = asset.get("asset_id", "?")
            raise ValueError(
                f"asset {name}: asset_id, type and max_w are needed to act safely ({error}): "
                "write them with `energyai config apply`"
            ) from error

    def allows(self, power_w: float) -> bool:
        """Whether it may be told so."""
        return self.min_w <= power_w <= self.max_w or (self.can_be_off and power_w == 0)

    def clip(self, power_w: float) -> float:
        """The nearest power within the bounds; below `min_w` it is off, where that is possible."""
        if self.can_be_off and power_w < self.min_w:
            return 0.0
        return min(max(power_w, self.min_w), self.max_w)


@dataclass(frozen=True)
class KeeperOptions:
    """Limits on what a keeper accepts."""

    default_failsafe_w: float = 0.0
    """Power before the first setpoint (W), clipped to the asset's bounds."""
    max_ttl_s: float = 86_400.0
    """No lease is longer."""
    max_lead_s: float = 86_400.0
    """How far ahead a setpoint may be scheduled."""
    max_skew_s: float = 10.0
    """A setpoint that was issued later than this device's clock by more than that is not trusted, nor is the clock."""
    max_pending: int = 200
    """Scheduled setpoints kept."""
    remembered: int = 2_000
    """Setpoint ids kept, to know repeats."""
