"""What control saves, against perfect foresight, on measured buildings with their prices and carbon.

    .venv/bin/python tests/bench/control_savings.py --data FOLDER [--buildings b19,b27] [--years 2019,2021]

FOLDER is the Cambridge Estates archive as Parquet (electricity_kwh_hourly_2015_2021, covariates_hourly_2015_2021). Each
building gets a battery of some share of its highest load and some hours, with a demand charge. The last line is one
JSON object: each case's shares of foresight's savings, violations, and their means.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

from jobs.simulation.folder import read
from jobs.simulation.run import POLICIES, Outcome, simulate
from operators.forecaster import Forecaster

BUILDINGS = ("b5", "b19", "b27", "b36", "b58", "b96", "b109", "b111")
LIMIT_SHARE = 0.95


def main() -> int:
    """Runs the cases and prints a line each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--buildings", default=",".join(BUILDINGS))
    parser.add_argument("--years", default="2019,2021")
    parser.add_argument("--batteries", default="0.25x2,0.25x4", help="share of the highest load x hours")
    parser.add_argument("--demand", type=float, default=10.0, help="currency per kW and month")
    parser.add_argument("--limit", action="store_true", help=f"a site limit of {LIMIT_SHARE:.0%} of the highest load")
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    results = []
    with ProcessPoolExecutor(args.workers) as pool:
        for name, outcomes in pool.map(_case, *zip(*_cases(args), strict=True)):
            results.append(_line(name, outcomes))
    shares = pd.DataFrame(results)
    means = shares[["cost_share", "peak_share", "month_peak_share"]].mean().round(3).to_dict()
    print(json.dumps({"cases": results, "mean": means, "violations": int(shares["violations"].sum())}))
    return 0


def _cases(args: argparse.Namespace) -> Iterator[tuple[Path, str, int, float, float, float, bool]]:
    for building in args.buildings.split(","):
        for year in args.years.split(","):
            for battery in args.batteries.split(","):
                share, hours = (float(part) for part in battery.split("x"))
                yield args.data, building, int(year), share, hours, args.demand, args.limit


def _case(
    data: Path, building: str, year: int, share: float, hours: float, demand: float, limited: bool
) -> tuple[str, dict[str, Outcome]]:
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), data, building, year, share, hours, demand, limited)
        found = simulate(read(Path(folder)), POLICIES, Forecaster.load(), lambda name, done: None)
    return f"{building} {year} {share:g}x{hours:g}h", {name: outcome for name, (outcome, _) in found.items()}


def write(
    folder: Path, data: Path, building: str, year: int, share: float, hours: float, demand: float, limited: bool
) -> None:
    """A folder for `energyai simulate` of one building and year."""
    load = pd.read_parquet(data / "electricity_kwh_hourly_2015_2021.parquet", columns=[building])[building]
    load = load.loc[str(year)].astype("float64")
    load = load.where(load > 0)  # missing readings are zero in the source
    other = pd.read_parquet(data / "covariates_hourly_2015_2021.parquet").loc[str(year)]
    pd.DataFrame(
        {
            "load_kwh": load,
            "price": other["import_price_gbp_per_kwh"].astype("float64"),
            "carbon": other["carbon_kg_per_kwh"].astype("float64"),
        }
    ).to_parquet(folder / "series.parquet")
    peak = float(load.max())
    watts = 1000 * share * peak
    site: dict[str, Any] = {
        "site_id": building,
        "tz": "Europe/London",
        "limit_kw": LIMIT_SHARE * peak if limited else None,
        "tariff": {
            "currency": "GBP",
            "demand_charge_per_kw_month": demand,
            "carbon_price_per_kg": 0.1,
            "wear_per_kwh": 0.01,
        },
        "assets": [
            {
                "asset_id": "battery",
                "type": "battery",
                "min_w": -watts,
                "max_w": watts,
                "capacity_wh": watts * hours,
                "efficiency": 0.92,
            }
        ],
    }
    (folder / "site.json").write_text(json.dumps(site))


def _line(name: str, outcomes: dict[str, Outcome]) -> dict[str, Any]:
    none, best, ours = outcomes["none"], outcomes["foresight"], outcomes["energyai"]

    def share(field: str) -> float:
        possible = getattr(none, field) - getattr(best, field)
        return round((getattr(none, field) - getattr(ours, field)) / possible, 3) if possible > 0 else float("nan")

    rule = outcomes["rule"]
    line = {
        "case": name,
        "cost_share": share("cost"),
        "peak_share": share("peak_kw"),
        "month_peak_share": share("mean_month_peak_kw"),
        "foresight_saves": round(1 - best.cost / none.cost, 4),
        "energyai_saves": round(1 - ours.cost / none.cost, 4),
        "rule_saves": round(1 - rule.cost / none.cost, 4),
        "peak_none_kw": round(none.peak_kw, 1),
        "peak_foresight_kw": round(best.peak_kw, 1),
        "peak_energyai_kw": round(ours.peak_kw, 1),
        "limit_exceeded_share": ours.limit_exceeded_share,
        "violations": sum(outcome.bound_violations for outcome in outcomes.values()),
    }
    print("  ".join(str(value) for value in line.values()), file=sys.stderr, flush=True)
    return line


if __name__ == "__main__":
    sys.exit(main())
