"""Control's records into the tables setpoint, setpoint_ack, control_plan and site_slot: whole batches, each once."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
import pandas as pd
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from operators.control_lifecycle.ack_loop import STATUSES
from operators.control_lifecycle.times import parse_ts_ms
from operators.pg import Session

log = logging.getLogger(__name__)

_SETPOINT = """
    INSERT INTO setpoint (setpoint_id, asset_id, site_id, tenant_id, type, value_w, execution_time, duration_s, ttl_s,
        failsafe, priority, mode, reason, supersedes, issued_at, inputs, expected)
    SELECT setpoint_id, asset_id, site_id, coalesce(tenant_id, 'default'), type, value_w, execution_time, duration_s,
        ttl_s, failsafe, priority, mode, reason, supersedes, issued_at, inputs, expected
    FROM jsonb_to_recordset(%s::jsonb) AS r (setpoint_id text, asset_id text, site_id text, tenant_id text, type text,
        value_w float8, execution_time timestamptz, duration_s float8, ttl_s float8, failsafe jsonb, priority integer,
        mode text, reason text, supersedes text, issued_at timestamptz, inputs jsonb, expected jsonb)
    ON CONFLICT DO NOTHING"""
_ACK = """
    INSERT INTO setpoint_ack (setpoint_id, asset_id, tenant_id, status, ts, measured_w, detail)
    SELECT setpoint_id, asset_id, coalesce(tenant_id, 'default'), status, ts, measured_w, detail
    FROM jsonb_to_recordset(%s::jsonb) AS r (setpoint_id text, asset_id text, tenant_id text, status text,
        ts timestamptz, measured_w float8, detail text)
    ON CONFLICT DO NOTHING"""
_PLAN = """
    INSERT INTO control_plan (plan_id, site_id, tenant_id, planned_at, reason, cost, baseline_cost, record)
    SELECT plan_id, site_id, tenant_id, planned_at, reason, cost, baseline_cost, record
    FROM jsonb_to_recordset(%s::jsonb) AS r (plan_id text, site_id text, tenant_id text, planned_at timestamptz,
        reason text, cost float8, baseline_cost float8, record jsonb)
    ON CONFLICT DO NOTHING"""
_SLOT = """
    INSERT INTO site_slot (site_id, tenant_id, bucket, load_kw, devices_kw, price, export_price, kg_co2_per_kwh, mode,
        on_paper)
    SELECT site_id, tenant_id, bucket, load_kw, devices_kw, price, export_price,
        kg_co2_per_kwh, mode, on_paper
    FROM jsonb_to_recordset(%s::jsonb) AS r (site_id text, tenant_id text, bucket timestamptz,
        load_kw float8, devices_kw float8, price float8, export_price float8, kg_co2_per_kwh float8, mode text,
        on_paper boolean)
    ON CONFLICT (site_id, bucket) DO UPDATE SET load_kw = excluded.load_kw, devices_kw = excluded.devices_kw,
        price = excluded.price, export_price = excluded.export_price, kg_co2_per_kwh = excluded.kg_co2_per_kwh,
        mode = excluded.mode, on_paper = excluded.on_paper"""
_STATEMENTS = {"setpoint": _SETPOINT, "ack": _ACK, "plan": _PLAN, "slot": _SLOT}


def rows(records: Iterable[tuple[str, bytes | None]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by table's kind (`setpoint`, `ack`, `plan`, `slot`); what is none is logged and left out.

    Args:
        records: kind of the topic (`setpoint`, `ack` or `log`), and the record.
    """
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in _STATEMENTS}
    for kind, payload in records:
        try:
            # PostgreSQL's texts hold no NUL.
            value = orjson.loads((payload or b"").replace(b"\\u0000", b"\\ufffd"))
            name = value["type"] if kind == "log" else kind
            found[name].append(_row(name, value))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            log.warning("%s: a record that is none: %r", kind, error)
    # One statement may touch a row once: the last word on a quarter hour is the one.
    found["slot"] = list({(row.get("site_id"), row.get("bucket")): row for row in found["slot"]}.values())
    return found


def write(session: Session, found: Mapping[str, list[dict[str, Any]]]) -> None:
    """Writes rows in one transaction; again, it changes nothing."""

    def work(cursor: Cursor) -> None:
        for name, statement in _STATEMENTS.items():
            if found[name]:
                cursor.execute(statement, (orjson.dumps(found[name]).decode(),))

    if any(found.values()):
        session.transaction(work)


def _row(name: str, value: dict[str, Any]) -> dict[str, Any]:
    if name == "ack":
        for field in ("setpoint_id", "asset_id"):
            if not isinstance(value[field], str) or not value[field]:
                raise ValueError(field)
        measured, detail = value.get("measured_w"), value.get("detail")
        if value["status"] not in STATUSES:
            raise ValueError("status")
        if measured is not None and not (type(measured) in (int, float) and math.isfinite(measured)):
            raise ValueError("measured_w")
        if not (detail is None or isinstance(detail, str)):
            raise ValueError("detail")
        # Our own form of it: whole numbers are times too.
        return {**value, "ts": pd.Timestamp(parse_ts_ms(value["ts"]), unit="ms", tz="UTC").isoformat()}
    if name == "plan":
        return {**value, "record": value}
    return value
