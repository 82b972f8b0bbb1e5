"""`energyai config apply FILE` and `energyai config show`: sites, meters, assets, alert rules and receivers."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from jobs.commands._common import add_data_dir, add_json, print_json
from jobs.errors import UserError
from jobs.settings import Addresses, Settings, addresses

NAME = "config"
HELP = "sites, meters, assets and alert rules"
INVALID = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `config`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    apply = actions.add_parser("apply", help="check a YAML file, then write it to the tables and topics")
    apply.add_argument("file", type=Path, metavar="FILE", help="YAML with sites, meters, assets, alerts, receivers")
    apply.add_argument("--dry-run", action="store_true", help="check only; needs no stack (asks one that runs)")
    show = actions.add_parser("show", help="what is configured, as a file that `apply` takes")
    for action in (apply, show):
        add_data_dir(action)
        add_json(action)


def run(args: argparse.Namespace) -> int:
    """Exit code 0; 2 when the file cannot be applied, with one line a problem.

    Raises:
        UserError: no file, no stack, or a service that does not answer.
    """
    return _apply(args) if args.action == "apply" else _show(args)


def _apply(args: argparse.Namespace) -> int:
    from jobs.config import schema
    from jobs.config.apply import apply, known

    try:
        source = args.file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{args.file} is no UTF-8 text: save it as UTF-8", INVALID) from error
    except OSError as error:
        raise UserError(f"{args.file} cannot be read ({error.strerror}): check the path", INVALID) from error
    settings = Settings.load(data_dir=args.data_dir)
    where = _found(settings) if args.dry_run else addresses(settings)
    try:
        config = schema.parse(source, str(args.file), known(where.database_url) if where else None)
    except schema.ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        if args.json:
            print_json({"valid": False, "problems": [vars(problem) for problem in error.problems]})
        return INVALID
    total = {name: len(entries) for name, entries in vars(config).items()}
    if args.dry_run or where is None:
        if args.json:
            print_json({"valid": True, **total})
        else:
            print(f"{args.file} is valid: {_listed(total)}; nothing written")
        return 0
    applied = apply(where, config, say=lambda line: print(line, file=sys.stderr, flush=True)).as_dict()
    if args.json:
        print_json({"valid": True, **total, "changed": applied})
    else:
        changed = sum(applied[name] for name in total)
        again = applied["rederived"]
        also = f", energy of {again} meter{'' if again == 1 else 's'} derived again" if again else ""
        print(f"applied {_listed(total)}: {changed} changed, {applied['messages']} messages sent{also}")
    return 0


def _found(settings: Settings) -> Addresses | None:
    with suppress(UserError):
        return addresses(settings)
    return None


def _listed(counts: dict[str, int]) -> str:
    shown = {name: count for name, count in counts.items() if count or name in ("sites", "meters", "assets")}
    return ", ".join(f"{count} {name[:-1] if count == 1 else name}" for name, count in shown.items())


def _show(args: argparse.Namespace) -> int:
    import yaml

    from jobs.config.apply import stored

    found = stored(addresses(Settings.load(data_dir=args.data_dir)).database_url)
    if args.json:
        print_json(found)
        return 0
    unconfigured = sum(not meter["configured"] for meter in found["meters"])
    if unconfigured:
        print(f"# {unconfigured} more meters registered themselves with their first reading (see --json)")
    found["meters"] = [meter for meter in found["meters"] if meter.pop("configured")]
    print(
        yaml.safe_dump({name: [_said(e) for e in entries] for name, entries in found.items()}, sort_keys=False), end=""
    )
    return 0


def _said(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if value is not None and value != {}}
