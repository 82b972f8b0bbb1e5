"""`energyai simulate`: control policies on recorded series, side by side."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.commands._common import add_json, print_json
from jobs.errors import UserError

if TYPE_CHECKING:
    from jobs.simulation.run import Outcome

NAME = "simulate"
HELP = "control policies on recorded series, side by side"
PICTURES = (".svg", ".png", ".pdf")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `simulate`."""
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="site.json (as topic `sites`) and series in CSV or Parquet files"
    )
    parser.add_argument(
        "--policies",
        default="none,rule,foresight,energyai",
        metavar="NAMES",
        help="which, separated by commas (default: %(default)s)",
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the hardest days, as .svg or .png")
    parser.add_argument("--model", type=Path, metavar="FILE", help="an ONNX forecaster instead of the shipped one")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the policies; the last line of `--json` is one object, a key a policy."""
    from jobs.simulation import folder
    from jobs.simulation.run import POLICIES, as_dict, simulate
    from operators.forecaster import SHIPPED_MODEL, Forecaster

    names = [name for name in args.policies.split(",") if name]
    unknown = [name for name in names if name not in POLICIES]
    if unknown or not names:
        raise UserError(f"no policy {', '.join(unknown) or 'named'}: choose from {', '.join(POLICIES)}", 2)
    if args.plot is not None and args.plot.suffix not in PICTURES:
        raise UserError(f"--plot {args.plot}: end the name in {', '.join(PICTURES)}", 2)
    case = folder.read(args.folder)
    for note in case.notes:
        print(f"note: {note}", file=sys.stderr)
    model = Forecaster.load(args.model or SHIPPED_MODEL) if "energyai" in names else None
    show = _progress(args.json)
    found = simulate(case, names, model, show)
    outcomes = {name: outcome for name, (outcome, _) in found.items()}
    if args.plot is not None:
        from jobs.simulation.plot import save

        save(case, {name: trace for name, (_, trace) in found.items()}, args.plot)
        print(f"picture: {args.plot}", file=sys.stderr)
    if not args.json:
        _table(case.site.site_id, case.site.tariff.currency, outcomes)
        return 0
    result: dict[str, Any] = {name: as_dict(outcome) for name, outcome in outcomes.items()}
    print_json(result)
    return 0


def _progress(quiet: bool) -> Any:
    """Shows a policy's share on a terminal, and its end otherwise."""
    live = sys.stderr.isatty()

    def show(name: str, done: float) -> None:
        if live:
            print(f"\r{name}: {done:4.0%} ", end="\n" if done >= 1 else "", file=sys.stderr, flush=True)
        elif done >= 1 and not quiet:
            print(f"{name}: done", file=sys.stderr, flush=True)

    return show


def _table(site_id: str, currency: str, outcomes: Mapping[str, Outcome]) -> None:
    print(site_id)
    heads = (f"cost {currency}", "saved", "peak kW", "kg CO2", "over limit", "violations")
    print(f"{'policy':10}" + "".join(f"{head:>14}" for head in heads))
    base = outcomes.get("none")
    for name, one in outcomes.items():
        saved = f"{1 - one.cost / base.cost:.1%}" if base is not None and base.cost else ""
        cells = (f"{one.cost:,.2f}", saved, f"{one.peak_kw:,.1f}", f"{one.kg_co2:,.0f}")
        cells += (f"{one.limit_exceeded_share:.2%}", str(one.bound_violations))
        print(f"{name:10}" + "".join(f"{cell:>14}" for cell in cells))
