"""How long a plan takes: sites of several kinds, replanned through a day as the job does it, one thread.

    .venv/bin/python tests/bench/planner.py [--sites 200] [--plans 6]

The last line is one JSON object: milliseconds of processor time a plan (median, 99th percentile) by kind of site, and
how many sites a minute two cores plan. Processor time, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

import numpy as np

from operators.control.outlook import Forecast, Prices
from operators.control.plan import plan_site
from operators.control.site import Site
from operators.control.site_json import read_site
from operators.control.solver import Solver
from operators.control.state import AssetState, SiteState

START_MS = 1_704_067_200_000
HOURS = 36
BATTERY = {"asset_id": "battery", "type": "battery", "min_w": -30e3, "max_w": 30e3, "capacity_wh": 60e3}
CAR = {
    "asset_id": "car", "type": "ev", "max_w": 11e3,
    "settings": {"energy_wh": 24e3, "arrives": "17:30", "ready_by": "07:00"},
}  # fmt: skip
COOLING = {"asset_id": "cooling", "type": "flexible_load", "max_w": 8e3, "settings": {"energy_wh": 40e3}}
SWITCHED = {**COOLING, "settings": {"energy_wh": 40e3, "min_run_s": 1800, "min_rest_s": 900}}
KINDS: dict[str, list[dict[str, Any]]] = {
    "battery": [BATTERY],
    "battery, car, load": [BATTERY, CAR, COOLING],
    "battery, car, load with minimum run": [BATTERY, CAR, SWITCHED],
}


def main() -> int:
    """Plans, and says how long it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sites", type=int, default=200, help="of each kind (default 200)")
    parser.add_argument("--plans", type=int, default=6, help="of each site, an hour apart (default 6)")
    args = parser.parse_args()
    result = {}
    for kind, assets in KINDS.items():
        took = np.array([ms for number in range(args.sites) for ms in plans(number, assets, args.plans)])
        middle, high = np.percentile(took, [50, 99]).round(1).tolist()
        minute = 2 * 60_000 / float(took.mean())
        result[kind] = {"median_ms": middle, "p99_ms": high, "sites_a_minute_two_cores": round(minute)}
        print(f"{kind}: median {middle} ms, p99 {high} ms, {minute:,.0f} sites a minute on two cores", file=sys.stderr)
    print(json.dumps(result))
    return 0


def plans(number: int, assets: list[dict[str, Any]], count: int) -> list[float]:
    """Processor time of each plan of one site, ms; as in the job the solver starts anew for each."""
    rng = np.random.default_rng(number)
    level = rng.uniform(30, 90)
    raw = {
        "site_id": f"s{number}", "tz": "Europe/Berlin", "limit_kw": 1.3 * level, "assets": assets,
        "tariff": {"energy": 0.3, "demand_charge_per_kw_month": 10},
    }  # fmt: skip
    site = read_site(raw)
    solver = Solver(warm=False)
    state = SiteState({asset.asset_id: AssetState(content_kwh=asset.initial_kwh) for asset in site.assets})
    return [_one(site, state, level, START_MS + hour * 3_600_000, solver, rng) for hour in range(count)]


def _one(site: Site, state: SiteState, level: float, now_ms: int, solver: Solver, rng: np.random.Generator) -> float:
    hours = np.arange(HOURS) + now_ms // 3_600_000 % 24
    load = level * (1 + 0.3 * np.sin(2 * np.pi * (hours - 9) / 24)) * rng.uniform(0.9, 1.1, HOURS)
    band = np.linspace(-0.12, 0.12, 9)[:, None]
    forecast = Forecast(now_ms, 3600, load * (1 + band), None, now_ms, "bench")
    energy = rng.uniform(0.05, 0.5, 24 + HOURS)
    prices = Prices(now_ms - 24 * 3_600_000, 3600, energy, 0.3 * energy)
    begun = time.process_time()
    plan = plan_site(site, state, forecast, prices, now_ms, solver=solver)
    took = 1000 * (time.process_time() - begun)
    if plan.reason.partition(":")[0] not in ("optimal", "relaxed"):
        raise SystemExit(f"{site.site_id}: {plan.reason}")
    return took


if __name__ == "__main__":
    sys.exit(main())
