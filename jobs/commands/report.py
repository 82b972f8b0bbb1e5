"""`energyai report NAME …`: reports for consultants and managers."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import date
from pathlib import Path

from jobs.commands._common import add_data_dir, add_json, print_json
from jobs.errors import UserError
from jobs.settings import Settings, addresses

NAME = "report"
HELP = "reports for analysts, managers and consultants"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `report`."""
    names = parser.add_subparsers(dest="report", metavar="REPORT", required=True)
    text = "what a site could do: battery, contract limit, tariff, base load, worst hours"
    one = names.add_parser("recommendations", help=text, description=text)
    one.add_argument("folder", type=Path, metavar="FOLDER", help="as for `energyai simulate`: site.json and series")
    one.add_argument(
        "--quick", action="store_true", help="judge the battery by perfect foresight alone, without the planner"
    )
    add_json(one)
    text = "what control saved by month, and how much of what was possible"
    one = names.add_parser("control", help=text, description=text)
    one.add_argument("sites", nargs="*", metavar="SITE", help="sites (default: all that are controlled)")
    add_data_dir(one)
    add_json(one)
    text = "what an action saved at a meter, with its uncertainty (ASHRAE Guideline 14)"
    one = names.add_parser("savings", help=text, description=text)
    one.add_argument("meter", metavar="METER")
    one.add_argument(
        "--action", type=_day, required=True, metavar="DATE", help="first day after the action, as 2026-03-01"
    )
    one.add_argument("--since", type=_day, metavar="DATE", help="first day of the baseline (default: the first known)")
    one.add_argument("--until", type=_day, metavar="DATE", help="first day that counts no more (default: none)")
    one.add_argument(
        "--weather", type=Path, metavar="CSV", help="columns date and celsius: daily means of the temperature"
    )
    add_data_dir(one)
    add_json(one)


def run(args: argparse.Namespace) -> int:
    """Prints a report; `--json`: one object."""
    return {"recommendations": _recommendations, "control": _control, "savings": _savings}[args.report](args)


def _recommendations(args: argparse.Namespace) -> int:
    from jobs.reports import recommendations
    from jobs.simulation import folder
    from operators.control.solver import SolverError
    from operators.control.tariff import TariffError
    from operators.forecaster import Forecaster

    case = folder.read(args.folder)
    raw = json.loads((args.folder / "site.json").read_text(encoding="utf-8-sig"))
    for note in case.notes:
        print(f"note: {note}", file=sys.stderr)
    try:
        found = recommendations.recommend(
            case,
            raw,
            None if args.quick else Forecaster.load(),
            lambda text: print(f"{text} …", file=sys.stderr, flush=True),
        )
    except (TariffError, SolverError) as error:
        raise UserError(f"{args.folder}: {error}", 2) from error
    if args.json:
        print_json({"site_id": case.site.site_id, "recommendations": recommendations.as_dicts(found)})
    else:
        print("\n".join(recommendations.told(found, case.site.tariff.currency)))
    return 0


def _control(args: argparse.Namespace) -> int:
    from jobs.reports import control_savings

    rows = control_savings.report(addresses(Settings.load(data_dir=args.data_dir)).database_url, args.sites)
    if args.json:
        print_json({"months": rows})
    else:
        print("\n".join(control_savings.told(rows)))
    return 0


def _savings(args: argparse.Namespace) -> int:
    from jobs.reports import action_savings

    where = addresses(Settings.load(data_dir=args.data_dir)).database_url
    found = action_savings.report(where, args.meter, args.action, args.until, args.since, args.weather)
    if args.json:
        print_json({"meter_id": args.meter, **action_savings.as_dict(found)})
    else:
        print("\n".join(action_savings.told(found)))
    return 0


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: write a day as 2026-03-01") from None
