"""What a controller says: setpoints, alerts, and the log from which decisions are explained and savings computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from operators.control.outlook import Forecast, Prices
from operators.control.plan import Plan
from operators.control.state import AssetState, SiteState
from operators.control_lifecycle.times import iso

SETPOINTS, ALERTS, LOG = "control.setpoints", "alerts.control", "control.log"
DIGITS = 6


@dataclass(frozen=True)
class Output:
    """One message for a topic of the contract."""

    topic: str
    key: str
    value: Mapping[str, Any]


def plan_record(
    raw_site: Mapping[str, Any],
    state: SiteState,
    forecast: Forecast | None,
    prices: Prices,
    now_ms: int,
    plan: Plan,
    tenant_id: str,
) -> dict[str, Any]:
    """All that a plan was made from, and the plan: who plans again with these gets the same
    (`operators.control_site.again`)."""
    made: dict[str, Any] = {
        "type": "plan",
        "site_id": plan.site_id,
        "tenant_id": tenant_id,
        "planned_at": iso(now_ms),
        "reason": plan.reason,
        "cost": _number(plan.cost),
        "baseline_cost": _number(plan.baseline_cost),
        "kg_co2": _number(plan.kg_co2),
        "baseline_kg_co2": _number(plan.baseline_kg_co2),
        "notes": list(plan.notes),
        "inputs": {
            "site": dict(raw_site),
            "state": _state(state),
            "forecast": None if forecast is None else _forecast(forecast),
            "prices": _prices(prices),
        },
        "start_ms": plan.start_ms.tolist(),
        "import_kw": _numbers(plan.import_kw),
        "power_kw": {name: _numbers(power) for name, power in plan.power_kw.items()},
    }
    text = json.dumps(made, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return {"plan_id": hashlib.sha256(text.encode()).hexdigest()[:32], **made}


def slot_record(
    site_id: str,
    tenant_id: str,
    slot_ms: int,
    load_kw: float,
    devices_kw: float,
    price: float,
    export: float,
    kg: float,
    mode: str,
    *,
    on_paper: bool,
) -> dict[str, Any]:
    """A quarter hour that is over: the site without its devices, the devices, and what energy cost."""
    return {
        "type": "slot",
        "site_id": site_id,
        "tenant_id": tenant_id,
        "bucket": iso(slot_ms),
        "load_kw": _number(load_kw),
        "devices_kw": _number(devices_kw),
        "price": _number(price),
        "export_price": _number(export),
        "kg_co2_per_kwh": _number(kg),
        "mode": mode,
        "on_paper": on_paper,
    }


def _state(state: SiteState) -> dict[str, Any]:
    return {
        "assets": {name: _asset(own) for name, own in state.assets.items()},
        "month_peak_kw": _number(state.month_peak_kw),
        "load_kw": _number(state.load_kw),
        "expected_peaks_kw": [_number(kw) for kw in state.expected_peaks_kw],
        "next_peaks_kw": [_number(kw) for kw in state.next_peaks_kw],
        "grid_limit_kw": _number(state.grid_limit_kw),
    }


def _asset(own: AssetState) -> dict[str, Any]:
    return {
        "power_kw": _number(own.power_kw),
        "content_kwh": _number(own.content_kwh),
        "done_kwh": _number(own.done_kwh),
        "connected": own.connected,
        "ready_by_ms": own.ready_by_ms,
        "needs_kwh": _number(own.needs_kwh),
        "same_for_s": _number(own.same_for_s),
        "available": own.available,
    }


def _forecast(forecast: Forecast) -> dict[str, Any]:
    return {
        "issued_at": iso(forecast.issued_at_ms),
        "start": iso(forecast.start_ms),
        "step_s": forecast.step_s,
        "model_sha256": forecast.model_sha256,
        "load_kw": [_numbers(row) for row in forecast.load_kw],
    }


def _prices(prices: Prices) -> dict[str, Any]:
    series = {
        name: None if getattr(prices, name) is None else [_number(value) for value in getattr(prices, name).tolist()]
        for name in ("energy", "export", "carbon", "import_limit")
    }
    return {"start": iso(prices.start_ms), "step_s": prices.step_s, **series}


def _number(value: float | None) -> float | None:
    """Rounded; what is not finite is not known."""
    return round(float(value), DIGITS) if value is not None and np.isfinite(value) else None


def _numbers(values: Any) -> list[float]:
    return [round(float(value), DIGITS) for value in values]
