"""`energyai alerts …`: list, show, ack, silence, silences, dead, deliver."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from jobs.commands._common import add_data_dir, add_json, coloured, print_json
from jobs.errors import UserError
from jobs.settings import Settings, addresses

NAME = "alerts"
HELP = "list, show, acknowledge, silence and deliver alerts"
LABELS = {"alert": "alertname", "site": "site", "meter": "meter", "severity": "severity"}
"""Option → label."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `alerts`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    table = actions.add_parser("list", help="alerts that fire now")
    table.add_argument("--all", action="store_true", help="resolved ones too")
    table.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many (default 100)")
    _add_labels(table)
    show = actions.add_parser("show", help="one alert: what was seen and expected, and who was told")
    ack = actions.add_parser("ack", help="somebody cares: no repeats, no escalation")
    for action in (show, ack):
        action.add_argument("fingerprint", metavar="FINGERPRINT", help="or its first characters, at least four")
    quiet = actions.add_parser("silence", help="tell nobody of some alerts for a time; `--end ID` ends it")
    _add_labels(quiet)
    quiet.add_argument("--for", dest="length", default="2h", metavar="TIME", help="such as 90m or 2h (default 2h)")
    quiet.add_argument("--from", dest="begin", metavar="TIME", help="ISO-8601 with offset (default: now)")
    quiet.add_argument("--comment", default="", metavar="TEXT", help="why")
    quiet.add_argument("--end", metavar="ID", help="end this silence now")
    for action in (ack, quiet):
        action.add_argument("--by", metavar="NAME", help="who (default: the user's name)")
    silences = actions.add_parser("silences", help="silences that are in force or to come")
    dead = actions.add_parser("dead", help="notifications that were given up")
    dead.add_argument("--retry", action="store_true", help="try them again")
    deliver = actions.add_parser("deliver", help="send alerts to the receivers, until interrupted")
    deliver.add_argument("--topic", default="alerts", help="where alerts are read (default: alerts)")
    deliver.add_argument("--metrics-port", type=int, metavar="N", help="serve Prometheus metrics there; 0: a free one")
    for action in (table, show, ack, quiet, silences, dead, deliver):
        add_data_dir(action)
    for action in (table, show, ack, quiet, silences, dead):
        add_json(action)


def run(args: argparse.Namespace) -> int:
    """Exit code 0.

    Raises:
        UserError: no stack, no such alert, or a time or pattern that is none.
    """
    if args.action == "deliver":
        return _deliver(args)
    from infra.database import connected

    where = addresses(Settings.load(data_dir=args.data_dir))
    with connected(where.database_url) as link, link.cursor() as cursor:
        code = _ACTIONS[args.action](args, cursor)
        link.commit()
    return code


def _add_labels(parser: argparse.ArgumentParser) -> None:
    for option, label in LABELS.items():
        parser.add_argument(f"--{option}", metavar="PATTERN", help=f"whose {label} is so (* and ? stand for others)")
    parser.add_argument("--label", action="append", default=[], metavar="NAME=PATTERN", help="the same of any label")


def _matchers(args: argparse.Namespace) -> dict[str, str]:
    found = {label: value for option, label in LABELS.items() if (value := getattr(args, option)) is not None}
    for text in args.label:
        name, equals, pattern = text.partition("=")
        if not name or not equals:
            raise UserError(f"--label {text}: write NAME=PATTERN, such as asset=battery-*", 2)
        found[name] = pattern
    return found


def _list(args: argparse.Namespace, cursor: Any) -> int:
    from jobs.delivery import desk

    found = desk.listed(cursor, everything=args.all, matchers=_matchers(args), limit=args.limit)
    if args.json:
        print_json({"alerts": found})
        return 0
    for alert in found:
        colour = "fail" if alert["status"] == "firing" else "ok"
        marks = [f"acknowledged by {alert['acknowledged_by']}"] if alert["acknowledged_at"] else []
        marks += [f"silenced by {alert['silenced_by']}"] if alert["silenced_by"] else []
        state = coloured(colour).replace(colour, alert["status"].ljust(8), 1)
        print(
            f"{alert['fingerprint']} {state} {alert['labels'].get('severity', ''):8} {alert['starts_at'][:16]} "
            f"{alert['labels'].get('alertname', '')}: {alert['annotations'].get('summary', '')}"
            + (f" ({', '.join(marks)})" if marks else "")
        )
    if not found:
        print("no alert fires" if not args.all else "no alerts", file=sys.stderr)
    return 0


def _show(args: argparse.Namespace, cursor: Any) -> int:
    from jobs.delivery import desk

    alert = desk.one(cursor, args.fingerprint)
    alert["context"] = desk.context(cursor, alert)
    alert["deliveries"] = desk.deliveries(cursor, alert["fingerprint"], alert["starts_at"])
    if args.json:
        print_json(alert)
        return 0
    span = f"{alert['starts_at'][:19]} to {(alert['ends_at'] or '…')[:19]}"
    print(f"{alert['labels'].get('alertname')} {alert['status']}, {span}")
    for name, value in {**alert["labels"], **alert["annotations"]}.items():
        print(f"  {name:14} {value}")
    for row in alert["context"]:
        band = "" if row["q50"] is None else f"   expected {row['q50']:.3f} ({row['q10']:.3f} to {row['q90']:.3f})"
        print(f"  {row['bucket'][:16]} {row['kwh']:10.3f} kWh{band}   {row['anomaly'] or ''}".rstrip())
    for row in alert["deliveries"]:
        error = f": {row['last_error']}" if row["last_error"] else ""
        print(f"  {row['receiver']}: {row['kind']} {row['status']} after {row['attempts']} attempts{error}")
    return 0


def _ack(args: argparse.Namespace, cursor: Any) -> int:
    from jobs.delivery import desk

    alert = desk.acknowledge(cursor, args.fingerprint, _who(args))
    if args.json:
        print_json(alert)
    else:
        print(f"{alert['fingerprint']} acknowledged by {alert['acknowledged_by']} at {alert['acknowledged_at'][:19]}")
    return 0


def _silence(args: argparse.Namespace, cursor: Any) -> int:
    from jobs.delivery import desk
    from operators.alerting.times import duration_ms

    if args.end:
        desk.unsilence(cursor, args.end)
        if args.json:
            print_json({"silence_id": args.end, "ended": True})
        else:
            print(f"silence {args.end} has ended")
        return 0
    matchers = _matchers(args)
    if not matchers:
        raise UserError("which alerts? give --alert, --site, --meter, --severity or --label", 2)
    try:
        length = duration_ms(args.length)
        begin = datetime.now(UTC) if args.begin is None else datetime.fromisoformat(args.begin)
    except ValueError as error:
        raise UserError(f"{error}: --for takes 90m or 2h, --from 2026-01-31T08:00:00+01:00", 2) from error
    if begin.tzinfo is None:
        raise UserError(f"--from {args.begin} has no offset: write 2026-01-31T08:00:00+01:00", 2)
    made = desk.silence(cursor, matchers, begin, length, _who(args), args.comment)
    if args.json:
        print_json(made)
    else:
        print(f"silence {made['silence_id']} until {made['ends_at'][:19]}: {made['matchers']}")
    return 0


def _silences(args: argparse.Namespace, cursor: Any) -> int:
    from jobs.delivery import desk

    found = desk.silences(cursor)
    if args.json:
        print_json({"silences": found})
        return 0
    for each in found:
        labels = ", ".join(f"{name}={pattern}" for name, pattern in each["matchers"].items())
        said = f"{each['silence_id']} until {each['ends_at'][:19]} {labels} by {each['created_by']} {each['comment']}"
        print(said.rstrip())
    return 0


def _dead(args: argparse.Namespace, cursor: Any) -> int:
    from jobs.delivery import desk

    found = desk.dead(cursor, retry=args.retry)
    if args.json:
        print_json({"dead": found, "retried": args.retry})
        return 0
    for each in found:
        print(
            f"{each['updated_at'][:19]} {each['receiver']} {each['fingerprint']} {each['kind']}: "
            f"{each['attempts']} attempts, {each['last_error']}"
        )
    print(f"{len(found)} {'are tried again' if args.retry else 'dead letters'}", file=sys.stderr)
    return 0


def _deliver(args: argparse.Namespace) -> int:
    import asyncio
    import logging
    import signal

    from jobs.delivery.worker import Worker

    where = addresses(Settings.load(data_dir=args.data_dir))
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("kafka").setLevel(logging.ERROR)
    worker = Worker(where.kafka, where.database_url, args.topic)
    if args.metrics_port is not None:
        try:
            port = worker.metrics.serve(args.metrics_port)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"--metrics-port {args.metrics_port} cannot be used ({error}): give another, or 0", 2
            ) from error
        print(f"metrics: http://127.0.0.1:{port}/metrics", file=sys.stderr, flush=True)

    async def until_told() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        print("delivering alerts; Ctrl-C ends it", file=sys.stderr, flush=True)
        await worker.run(stop)

    asyncio.run(until_told())
    return 0


def _who(args: argparse.Namespace) -> str:
    if args.by:
        return str(args.by)
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


_ACTIONS: dict[str, Callable[[argparse.Namespace, Any], int]] = {
    "list": _list,
    "show": _show,
    "ack": _ack,
    "silence": _silence,
    "silences": _silences,
    "dead": _dead,
}
