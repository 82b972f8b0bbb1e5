"""Sites, states and forecasts for the tests of control, literal and random."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from operators.control.outlook import Forecast, Prices
from operators.control.site import Site
from operators.control.site_json import read_site
from operators.control.state import AssetState, SiteState

START_MS = 1_600_000_200_000 - 1_600_000_200_000 % 3_600_000
"""A full hour."""
HOURS = 36


def battery(**more: Any) -> dict[str, Any]:
    """A battery of 10 kW and 20 kWh."""
    return {
        "asset_id": "battery",
        "type": "battery",
        "min_w": -10_000,
        "max_w": 10_000,
        "capacity_wh": 20_000,
        "efficiency": 0.9,
        **more,
    }


def site(*assets: dict[str, Any], limit_kw: float | None = None, **tariff: Any) -> Site:
    """A site in UTC; a flat price of 0.3 unless the tariff says otherwise."""
    return read_site(
        {"site_id": "hq", "tz": "UTC", "limit_kw": limit_kw, "tariff": {"energy": 0.3, **tariff}, "assets": [*assets]}
    )


def forecast(load_kw: Any, pv_kw: Any = None, spread: float = 0.0) -> Forecast:
    """Hourly quantiles around a median (one value, or one an hour)."""
    load = np.resize(np.asarray(load_kw, dtype=float), HOURS)
    band = np.linspace(-1, 1, 9)[:, None] * spread
    pv = None if pv_kw is None else np.repeat(np.resize(np.asarray(pv_kw, dtype=float), HOURS)[None], 9, axis=0)
    return Forecast(START_MS, 3600, load + np.abs(load) * band, pv, START_MS, "abc")


def prices(energy: Any = None, export: Any = None) -> Prices:
    """Hourly prices from a day before the start on, repeated."""

    def series(values: Any) -> Any:
        return None if values is None else np.resize(np.asarray(values, dtype=float), 24 + HOURS)

    return Prices(START_MS - 24 * 3_600_000, 3600, series(energy), series(export))


@st.composite
def random_sites(draw: st.DrawFn) -> dict[str, Any]:
    """The message of a site with some assets and a tariff, of which nothing is unusual but the numbers."""
    assets: list[dict[str, Any]] = []
    watts = st.floats(500, 200_000)
    for number in range(draw(st.integers(0, 2))):
        power = draw(watts)
        assets.append(
            {
                "asset_id": f"battery-{number}",
                "type": "battery",
                "min_w": -power,
                "max_w": draw(watts),
                "capacity_wh": draw(st.floats(500, 1e6)),
                "efficiency": draw(st.floats(0.5, 1.0)),
                "ramp_w_per_s": draw(st.none() | st.floats(1, 1000)),
                "soc_min": draw(st.floats(0, 0.4)),
                "soc_max": draw(st.floats(0.6, 1.0)),
            }
        )
    if draw(st.booleans()):
        assets.append(
            {
                "asset_id": "ev",
                "type": "ev",
                "max_w": draw(watts),
                "energy_wh": draw(st.floats(0, 1e5)),
                "ramp_w_per_s": draw(st.none() | st.floats(5, 1000)),
            }
        )
    if draw(st.booleans()):
        assets.append(
            {"asset_id": "heat", "type": "flexible_load", "max_w": draw(watts), "priority": draw(st.integers(0, 5))}
        )
    if draw(st.booleans()):
        assets.append(
            {
                "asset_id": "pump",
                "type": "flexible_load",
                "max_w": draw(watts),
                "energy_wh": draw(st.floats(100, 1e5)),
                "min_run_s": draw(st.sampled_from([0, 1800, 3600])),
                "min_rest_s": draw(st.sampled_from([0, 900, 7200])),
            }
        )
    return {
        "site_id": "hq",
        "tz": draw(st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"])),
        "limit_kw": draw(st.none() | st.floats(1, 500)),
        "tariff": {
            "energy": [{"from": "07:00", "to": "20:00", "price": draw(st.floats(-0.5, 1))}],
            "default_price": draw(st.floats(-0.5, 1)),
            "export_price": draw(st.floats(-0.2, 1)),
            "demand_charge_per_kw_month": draw(st.sampled_from([0.0, 5.0, 15.0])),
            "wear_per_kwh": draw(st.sampled_from([0.0, 0.02])),
        },
        "assets": assets,
    }


@st.composite
def random_states(draw: st.DrawFn, of: Site) -> SiteState:
    """A state that the site's devices can be in."""
    assets = {}
    for asset in of.assets:
        share = draw(st.floats(0, 1))
        assets[asset.asset_id] = AssetState(
            power_kw=0.0 if asset.kind == "battery" or asset.switched else draw(st.floats(asset.min_kw, asset.max_kw)),
            content_kwh=asset.low_kwh + share * (asset.high_kwh - asset.low_kwh) if asset.kind == "battery" else None,
        )
    return SiteState(
        assets,
        month_peak_kw=draw(st.floats(0, 300)),
        load_kw=draw(st.none() | st.floats(0, 300)),
        grid_limit_kw=draw(st.none() | st.floats(0, 300)),
    )
