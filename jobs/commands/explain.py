"""`energyai explain SETPOINT`: what a setpoint was made from, what was answered, and the plan behind it made again."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from jobs.commands._common import add_data_dir, add_json, print_json
from jobs.errors import UserError
from jobs.settings import Settings, addresses

NAME = "explain"
HELP = "what a setpoint was made from, and what came of it"
SAME_KW = 1e-3
"""A plan that is made again is the same when no power differs by more."""
AROUND = "interval '2 days'"
COLUMNS = (
    "setpoint_id", "asset_id", "site_id", "tenant_id", "type", "value_w", "execution_time", "duration_s", "ttl_s",
    "failsafe",
    "priority", "mode", "reason", "supersedes", "issued_at", "inputs", "expected",
)  # fmt: skip
ACK_COLUMNS = ("setpoint_id", "asset_id", "status", "ts", "measured_w", "detail")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `explain`."""
    parser.add_argument("setpoint", metavar="SETPOINT", help="a setpoint_id, or its first characters (8 at least)")
    add_data_dir(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the setpoint's story; `--json`: one object."""
    found = explained(addresses(Settings.load(data_dir=args.data_dir)).database_url, args.setpoint)
    if args.json:
        print_json(found)
    else:
        print("\n".join(told(found)))
    return 0


def explained(database_url: str, name: str) -> dict[str, Any]:
    """A setpoint, its chain and answers (`operators.control_lifecycle.receipts.explain`), and `plan`: as it was
    recorded, and whether the planner makes the same of the same inputs.

    Raises:
        UserError: no such setpoint, or several.
        DatabaseError: the database does not answer.
    """
    from infra.database import connected
    from operators.control_lifecycle.receipts import explain

    if len(name) < 8:
        raise UserError(f"{name}: write at least 8 characters of the setpoint's id", 2)
    with connected(database_url) as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT setpoint_id, asset_id, execution_time FROM setpoint WHERE starts_with(setpoint_id, %s) LIMIT 2",
            (name,),
        )
        hits = cursor.fetchall()
        if len(hits) != 1:
            more = (
                "several begin so: write more of it" if hits else "table setpoint lists them (is job control running?)"
            )
            raise UserError(f"no one setpoint {name}: {more}")
        setpoint_id, asset_id, at = hits[0]
        setpoints = _rows(cursor, "setpoint", COLUMNS, "execution_time", asset_id, at)
        acks = _rows(cursor, "setpoint_ack", ACK_COLUMNS, "ts", asset_id, at)
        story = explain(setpoint_id, setpoints, acks)
        plan_id = (story["setpoint"].get("inputs") or {}).get("plan_id")
        cursor.execute("SELECT record FROM control_plan WHERE plan_id = %s", (plan_id,))
        record = cursor.fetchone()
    story["plan"] = None if record is None else _again(record[0])
    return story


def told(story: Mapping[str, Any]) -> list[str]:
    """The story in lines for a person."""
    setpoint, inputs = story["setpoint"], story["setpoint"].get("inputs") or {}
    sealed = {True: "whole", False: "CHANGED SINCE IT WAS MADE", None: "none"}[story["sealed"]]
    until = f"; falls back to {setpoint['failsafe'].get('value_w')} W" if setpoint.get("failsafe") else ""
    lines = [
        f"{setpoint['setpoint_id']} ({setpoint['mode']}, {setpoint['reason']})",
        f"{setpoint['asset_id']} of {setpoint['site_id']} at {setpoint['value_w']:g} W",
        f"holds from {setpoint['execution_time']} for {setpoint['ttl_s']:g} s without a newer one{until}",
        f"receipt: {sealed}",
    ]
    for name, value in inputs.items():
        if name != "sha256" and value not in (None, [], {}):
            lines.append(f"  {name}: {value}")
    plan = story["plan"]
    if plan is not None:
        same = "the same again" if plan["same"] else f"NOT the same again: off by up to {plan['furthest_kw']:g} kW"
        lines.append(f"plan of {plan['planned_at']}: {plan['reason']}; made again from its record: {same}")
    lines.append(f"answers: {story['outcome']}")
    for ack in story["acks"]:
        measured = "" if ack["measured_w"] is None else f", measured {ack['measured_w']:g} W"
        lines.append(f"  {ack['ts']} {ack['status']}{measured}{', ' + ack['detail'] if ack['detail'] else ''}")
    if story["supersedes"]:
        lines.append(f"replaces {story['supersedes'][0]} ({len(story['supersedes'])} before it)")
    if story["superseded_by"]:
        lines.append(f"replaced by {', '.join(story['superseded_by'])}")
    return lines


def _again(record: Mapping[str, Any]) -> dict[str, Any]:
    from operators.control_site.again import furthest_kw, plan_again

    furthest = furthest_kw(record, plan_again(record))
    kept = {
        name: record[name] for name in ("plan_id", "planned_at", "reason", "cost", "baseline_cost", "notes", "inputs")
    }
    return {**kept, "same": furthest <= SAME_KW, "furthest_kw": furthest}


def _rows(cursor: Any, table: str, columns: tuple[str, ...], time: str, asset_id: str, at: Any) -> list[dict[str, Any]]:
    """An asset's rows around a time, as the contract has them. Names of tables and columns are this module's own."""
    cursor.execute(
        f"SELECT {', '.join(columns)} FROM {table} "
        f"WHERE asset_id = %s AND {time} BETWEEN %s - {AROUND} AND %s + {AROUND}",
        (asset_id, at, at),
    )
    return [
        {
            name: value.isoformat() if hasattr(value, "isoformat") else value
            for name, value in zip(columns, row, strict=True)
        }
        for row in cursor.fetchall()
    ]
