"""Setpoints as leases, from a plan and what the guard made of it: the messages of topic `control.setpoints`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from operators.control.clock import iso
from operators.control.plan import Plan
from operators.control.site import BATTERY, Asset, Site

TTL_S = 120.0
"""A lease ends so long after its execution time, unless a newer one comes."""
PLAN_PRIORITY = 10
"""Of a plan's setpoints; a lower number goes first: demand response, and a manager's hand at 0."""


def setpoints(
    site: Site, plan: Plan, now_ms: int, powers: Mapping[str, float] | None = None, reason: str | None = None
) -> list[dict[str, Any]]:
    """The setpoints of the plan's step that holds now, as the contract's topic `control.setpoints` has them.

    Args:
        site: the plan's site.
        plan: the plan.
        now_ms: epoch ms UTC; the execution time.
        powers: by asset, kW, as the guard has them; assets that it leaves out get none. None: the plan's, all.
        reason: of the guard's change.
    """
    step = plan.step_at(now_ms)
    # A step that ends within the lease would leave the device idle until the next setpoint: the next one's end counts.
    lease_ms = now_ms + int(1000 * TTL_S)
    last = max(plan.step_at(lease_ms), step)
    end_ms = max(int(plan.start_ms[last] + 1000 * plan.step_s[last]), lease_ms)
    saved = plan.baseline_cost - plan.cost, plan.baseline_kg_co2 - plan.kg_co2
    result = []
    for asset in site.assets:
        if powers is not None and asset.asset_id not in powers:
            continue
        planned = plan.at(asset.asset_id, now_ms)
        value = planned if powers is None else powers[asset.asset_id]
        changed = reason is not None and abs(value - planned) > 1e-9
        key = f"{site.tenant_id}/{site.site_id}/{asset.asset_id}/{now_ms}/{value!r}/{plan.start_ms[0]}"
        result.append(
            {
                "setpoint_id": hashlib.sha256(key.encode()).hexdigest()[:32],
                "asset_id": asset.asset_id,
                "site_id": site.site_id,
                "tenant_id": site.tenant_id,
                "type": "POWER",
                "value_w": round(value * 1000.0, 3),
                "execution_time": iso(now_ms),
                "duration_s": max(1.0, (end_ms - now_ms) / 1000.0),
                "ttl_s": TTL_S,
                "failsafe": {"value_w": _failsafe_w(asset), "min_duration_s": site.failsafe_min_s},
                "priority": PLAN_PRIORITY,
                "mode": site.mode,
                "reason": reason if changed else _purpose(asset, plan, step, value),
                "supersedes": None,
                "inputs": dict(plan.inputs),
                "expected": {
                    "cost": round(-saved[0], 4),
                    "currency": site.tariff.currency,
                    "kg_co2": round(-saved[1], 4),
                },
            }
        )
    return result


def _failsafe_w(asset: Asset) -> float:
    """A battery rests; a load draws its least, as the site's limit was given without it."""
    return 0.0 if asset.kind == BATTERY else round(asset.min_kw * 1000.0, 3)


def _purpose(asset: Asset, plan: Plan, step: int, value: float) -> str:
    if plan.reason != "optimal":
        return plan.reason
    if abs(value) < 1e-6:
        return "idle"
    if asset.kind == BATTERY:
        near_peak = plan.import_kw[step] >= 0.98 * float(plan.import_kw.max())
        return "charge" if value > 0 else "peak_shaving" if near_peak else "cost"
    return "need"
