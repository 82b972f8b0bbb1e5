"""One message of `dr.events`, checked and made canonical: kW, W, currency per kWh, kg/kWh, ms UTC.

Events have the field names of OpenADR 3 (OpenADR Alliance, OpenADR 3.0 and 3.1: event, interval, intervalPeriod,
payloadDescriptors, targets), so that a bridge may forward what its server sent. Ours in addition: `modificationNumber`,
`status` (a deletion has to be a message), `binding`; and the objects `OPT_OUT` and `OVERRIDE`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from operators.control_lifecycle.times import FOREVER_MS, parse_duration_ms, parse_ts_ms

KINDS = {
    "PRICE": "price",
    "EXPORT_PRICE": "export_price",
    "GHG": "kg_co2_per_kwh",
    "IMPORT_CAPACITY_LIMIT": "import_limit_kw",
    "EXPORT_CAPACITY_LIMIT": "export_limit_kw",
    "DISPATCH_SETPOINT": "dispatch_w",
}
"""Payload types that are understood, and what they become."""
LIMITS = ("import_limit_kw", "export_limit_kw")
LOWEST_PRIORITY = 2**31 - 1
MAX_INTERVALS = 10_000
_UNITS = {
    "power_kw": {"W": 1e-3, "KW": 1.0, "MW": 1e3},
    "per_kwh": {"WH": 1e3, "KWH": 1.0, "MWH": 1e-3},
    "kg": {"G": 1e-3, "KG": 1.0},
}
Message = dict[str, Any]


class DrError(ValueError):
    """A message that is not usable: `code` is `not_json`, `missing_field`, `bad_value`, `bad_unit`, `unknown_kind`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


def parse(message: bytes | str | Mapping[str, Any]) -> Message:
    """The canonical form of a message: JSON, with `object`, `id` and `version` (what is greater replaces what is less).

    Raises:
        DrError: it is not usable.
    """
    fields = message if isinstance(message, Mapping) else _loaded(message)
    kind = fields.get("objectType") or "EVENT"
    makers = {"EVENT": _event, "OPT_OUT": _opt_out, "OVERRIDE": _override}
    if kind not in makers:
        raise DrError("unknown_kind", f"objectType {kind!r}: expected one of {', '.join(makers)}")
    try:
        made = makers[kind](fields)
        number = fields.get("modificationNumber") or 0
        modified = fields.get("modificationDateTime") or fields.get("createdDateTime") or fields.get("ts") or 0
        if isinstance(number, bool) or not isinstance(number, int):
            raise DrError("bad_value", f"modificationNumber {number!r}: expected a whole number")
        # The content itself decides between two that claim the same version: whichever comes first, the same one stays.
        content = json.dumps(made, sort_keys=True, allow_nan=False)
        return made | {"object": kind, "version": [number, parse_ts_ms(modified), content]}
    except KeyError as error:
        raise DrError("missing_field", str(error.args[0])) from error
    except DrError:
        raise
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise DrError("bad_value", str(error)) from error


def _loaded(message: bytes | str) -> Mapping[str, Any]:
    try:
        found = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise DrError("not_json", str(error)) from error
    if not isinstance(found, dict):
        raise DrError("not_json", "expected one object")
    return found


def _event(fields: Mapping[str, Any]) -> Message:
    cancelled = _status(fields) == "cancelled"
    made: Message = {
        "id": _text(fields["id"], "id"),
        "status": "cancelled" if cancelled else "active",
        "name": str(fields.get("eventName") or ""),
        "program": str(fields.get("programID") or ""),
        "priority": _priority(fields.get("priority")),
        "binding": fields.get("binding") is True,
        "targets": _targets(fields.get("targets")),
        "randomize_ms": 0,
        "intervals": [],
    }
    if cancelled:
        return made
    period = fields.get("intervalPeriod") or {}
    if period.get("randomizeStart"):
        made["randomize_ms"] = min(parse_duration_ms(period["randomizeStart"]), 86_400_000)
    intervals = fields["intervals"]
    if not isinstance(intervals, list) or not 0 < len(intervals) <= MAX_INTERVALS:
        raise DrError("bad_value", f"intervals: expected a list of 1 to {MAX_INTERVALS}")
    units = _descriptors(fields.get("payloadDescriptors"))
    issued = parse_ts_ms(fields.get("modificationDateTime") or fields.get("createdDateTime") or 0)
    made["intervals"] = list(_intervals(intervals, period, units, issued))
    if not any(i["values"] for i in made["intervals"]):
        raise DrError("unknown_kind", f"no payload of a type that is understood: {', '.join(KINDS)}")
    return made


def _intervals(
    intervals: list[Any], default: Mapping[str, Any], units: Mapping[str, Mapping[str, str]], issued_ms: int
) -> Iterator[Message]:
    """Each with its own period, or following the one before it."""
    at = _start(default["start"], issued_ms) if default.get("start") else None
    for interval in intervals:
        period = {**default, **(interval.get("intervalPeriod") or {})}
        if (interval.get("intervalPeriod") or {}).get("start"):
            at = _start(period["start"], issued_ms)
        if at is None:
            raise DrError("missing_field", "intervalPeriod.start")
        span = parse_duration_ms(period["duration"]) if period.get("duration") else FOREVER_MS
        if span <= 0:
            raise DrError("bad_value", f"duration {period['duration']!r}: more than zero")
        end = min(at + span, FOREVER_MS)
        values = {}
        for payload in interval["payloads"]:
            if payload["type"] in KINDS:
                values[KINDS[payload["type"]]] = _value(payload, units.get(payload["type"], {}))
        yield {"start_ms": at, "end_ms": end, "values": values}
        at = end


def _start(value: Any, issued_ms: int) -> int:
    """OpenADR 3 writes "now" as the year 1; now is when the event was made."""
    if isinstance(value, str) and value.startswith("0001-01-01"):
        return issued_ms
    return parse_ts_ms(value)


def _descriptors(descriptors: Any) -> dict[str, Mapping[str, str]]:
    return {d["payloadType"]: d for d in descriptors or [] if isinstance(d, Mapping) and "payloadType" in d}


def _value(payload: Mapping[str, Any], descriptor: Mapping[str, str]) -> float:
    values = payload["values"]
    if not isinstance(values, list) or len(values) != 1:
        raise DrError("bad_value", f"{payload['type']}: expected one value")
    value = _finite(values[0], payload["type"])
    kind = KINDS[payload["type"]]
    units = descriptor.get("units")
    if kind in LIMITS:
        if value < 0:
            raise DrError("bad_value", f"{payload['type']} {value:g}: 0 or more")
        return value * _factor("power_kw", units or "KW")
    if kind == "dispatch_w":
        return value * _factor("power_kw", units or "KW") * 1000
    if kind == "kg_co2_per_kwh":
        # Written as mass per energy ("G/KWH"), or the mass alone.
        mass, _, energy = (units or "G/KWH").partition("/")
        return value * _factor("kg", mass) * _factor("per_kwh", energy or "KWH")
    return value * _factor("per_kwh", units or "KWH")


def _factor(table: str, unit: str) -> float:
    found = _UNITS[table].get(str(unit).upper())
    if found is None:
        raise DrError("bad_unit", f"units {unit!r}: expected one of {', '.join(_UNITS[table])}")
    return found


def _opt_out(fields: Mapping[str, Any]) -> Message:
    word = str(fields.get("status") or "OPT_OUT").upper()
    if word not in ("OPT_OUT", "OPT_IN"):
        raise DrError("bad_value", f"status {word!r}: expected OPT_OUT or OPT_IN")
    event, site = _text(fields["eventID"], "eventID"), _text(fields["siteID"], "siteID")
    at = parse_ts_ms(fields["ts"])
    return {"id": f"{event}/{site}/{at}", "event": event, "site": site, "at_ms": at, "out": word == "OPT_OUT"}


def _override(fields: Mapping[str, Any]) -> Message:
    start = parse_ts_ms(fields["start"])
    span = parse_duration_ms(fields["duration"]) if fields.get("duration") else FOREVER_MS
    value = fields.get("value_w")
    return {
        "id": _text(fields["overrideID"], "overrideID"),
        "site": _text(fields["siteID"], "siteID"),
        "asset": _text(fields["assetID"], "assetID"),
        "value_w": None if value is None else _finite(value, "value_w"),
        "start_ms": start,
        "end_ms": min(start + span, FOREVER_MS),
        "by": str(fields.get("by") or ""),
        "reason": str(fields.get("reason") or ""),
        "status": _status(fields),
    }


def _status(fields: Mapping[str, Any]) -> str:
    word = str(fields.get("status") or "active").lower()
    if word not in ("active", "cancelled"):
        raise DrError("bad_value", f"status {word!r}: expected active or cancelled")
    return word


def _targets(targets: Any) -> list[str]:
    """Names, from 3.1's list of texts or 3.0's list of `{"type", "values"}`; none means everybody."""
    names: set[str] = set()
    for target in targets or []:
        values = target["values"] if isinstance(target, Mapping) else [target]
        names.update(_text(value, "targets") for value in values)
    return sorted(names)


def _priority(value: Any) -> int:
    if value is None:
        return LOWEST_PRIORITY
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LOWEST_PRIORITY:
        raise DrError("bad_value", f"priority {value!r}: a whole number of 0 or more")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value:
        raise DrError("bad_value", f"{name}: expected text, not {value!r}")
    return value


def _finite(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DrError("bad_value", f"{name}: expected a finite number, not {value!r}")
    return float(value)
