"""A plan made again from its record: the proof that a decision can be explained from what was written down of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from operators.control.outlook import Forecast, Prices
from operators.control.plan import Plan, plan_site
from operators.control.site_json import read_site
from operators.control.solver import Solver
from operators.control.state import AssetState, SiteState
from operators.control_lifecycle.times import parse_ts_ms

NOBODY_MS = -(10**12)
"""When nobody issued a forecast: so long ago that it is not used."""


def plan_again(record: Mapping[str, Any]) -> Plan:
    """The plan that follows from the inputs of a message `type: plan` of topic `control.log`.

    Raises:
        KeyError, ValueError: the record is not whole.
    """
    inputs = record["inputs"]
    state = inputs["state"]
    site_state = SiteState(
        assets={name: _asset(own) for name, own in state["assets"].items()},
        month_peak_kw=state["month_peak_kw"],
        load_kw=state["load_kw"],
        expected_peaks_kw=tuple(state["expected_peaks_kw"]),
        next_peaks_kw=tuple(state["next_peaks_kw"]),
        grid_limit_kw=state["grid_limit_kw"],
    )
    now_ms = parse_ts_ms(record["planned_at"])
    return plan_site(
        read_site(inputs["site"]), site_state, forecast_of(inputs["forecast"]), prices_of(inputs["prices"]), now_ms,
        solver=Solver(warm=False),
    )  # fmt: skip


def furthest_kw(record: Mapping[str, Any], plan: Plan) -> float:
    """The largest difference of a device's power between a record and a plan, kW; infinite when devices differ."""
    if set(record["power_kw"]) != set(plan.power_kw):
        return math.inf
    pairs = ((np.asarray(power), plan.power_kw[name]) for name, power in record["power_kw"].items())
    return max((float(np.abs(one - other).max()) for one, other in pairs), default=0.0)


def forecast_of(raw: Mapping[str, Any] | None) -> Forecast:
    """A forecast; none is one that is too old."""
    if raw is None:
        return Forecast(0, 900, np.zeros((9, 1)), issued_at_ms=NOBODY_MS)
    return Forecast(
        parse_ts_ms(raw["start"]),
        int(raw["step_s"]),
        np.array(raw["load_kw"], dtype=np.float64),
        issued_at_ms=parse_ts_ms(raw["issued_at"]),
        model_sha256=raw["model_sha256"],
    )


def prices_of(raw: Mapping[str, Any]) -> Prices:
    """Series of prices, limits and carbon."""
    series = {
        name: None
        if raw[name] is None
        else np.array([math.nan if v is None else v for v in raw[name]], dtype=np.float64)
        for name in ("energy", "export", "carbon", "import_limit")
    }
    return Prices(parse_ts_ms(raw["start"]), int(raw["step_s"]), **series)


def _asset(raw: Mapping[str, Any]) -> AssetState:
    names = {each.name for each in fields(AssetState)}
    values = {name: value for name, value in raw.items() if name in names}
    if values.get("same_for_s") is None:
        values["same_for_s"] = math.inf
    return AssetState(**values)
