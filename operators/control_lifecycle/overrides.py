"""A manager's hand on an asset: planned around, and sent ahead of every plan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from operators.control_lifecycle.dr_book import DrBook
from operators.control_lifecycle.times import FOREVER_MS, iso

OVERRIDE_PRIORITY = 0
"""Before every plan's: a lower number is a higher priority."""


@dataclass(frozen=True)
class Override:
    """`value_w` (W, import positive) until `end_ms` (ms UTC); None leaves the asset to itself."""

    override_id: str
    asset_id: str
    value_w: float | None
    start_ms: int
    end_ms: int
    by: str


def active(book: DrBook, site_id: str, now_ms: int) -> dict[str, Override]:
    """Overrides that hold now, by asset; of several the one that began last, then the greater version."""
    found: dict[str, tuple[Any, Override]] = {}
    for o in book.overrides(site_id):
        if not o["start_ms"] <= now_ms < o["end_ms"]:
            continue
        made = Override(o["id"], o["asset"], o["value_w"], o["start_ms"], o["end_ms"], o["by"])
        rank = (o["start_ms"], o["version"])
        if o["asset"] not in found or found[o["asset"]][0] < rank:
            found[o["asset"]] = (rank, made)
    return {asset: made for asset, (_, made) in sorted(found.items())}


def setpoint(
    override: Override,
    asset: Mapping[str, Any],
    *,
    site_id: str,
    now_ms: int,
    mode: str,
    ttl_s: float = 120.0,
    failsafe: Mapping[str, float] | None = None,
) -> dict[str, Any] | None:
    """The contract setpoint of an override, for `issue`; None when it leaves the asset to itself.

    Args:
        override: that holds now.
        asset: of the topic `sites`, for its bounds.
        site_id: site.
        now_ms: event time, ms UTC.
        mode: `shadow` or `live`, the site's.
        ttl_s: lease.
        failsafe: 0 W within the bounds for 15 minutes unless it says otherwise.

    Raises:
        ValueError: the value is outside the asset's bounds: a hand is no reason to leave them.
    """
    low, high, value = float(asset["min_w"]), float(asset["max_w"]), override.value_w
    if value is None:
        return None
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"override {override.override_id}: {value:g} W is not within {low:g}..{high:g} W")
    forever = override.end_ms >= FOREVER_MS
    return {
        "asset_id": override.asset_id,
        "site_id": site_id,
        "type": "POWER",
        "value_w": value,
        "execution_time": iso(now_ms),
        "duration_s": None if forever else (override.end_ms - now_ms) / 1000,
        "ttl_s": ttl_s,
        "failsafe": dict(failsafe or {"value_w": min(max(0.0, low), high), "min_duration_s": 900}),
        "priority": OVERRIDE_PRIORITY,
        "mode": mode,
        "reason": "manual_override",
        "inputs": {"override_id": override.override_id, "by": override.by},
        "expected": {},
    }
