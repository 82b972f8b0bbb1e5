"""Shelly devices of generation 2 and later: JSON-RPC notifications `NotifyStatus` and `NotifyFullStatus`.

Fields and units are those of Shelly's API documentation (components Switch, PM1, Cover, Light, EM, EMData, EM1 and
EM1Data).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO, Any

from operators.adapters.parsed import INTERVAL_EXPORT, INTERVAL_IMPORT, NET_POWER, Options, Parsed, Rows, number, to_ms
from operators.adapters.text import Document, documents
from operators.readings import Kind

_COMPONENT = re.compile(r"^([a-z0-9]+):(\d+)$")
_TOPIC = re.compile(r"(\S+?)/(?:events/rpc|rpc|status/\S+)")
_PHASES = (("a", 21, 22, 36), ("b", 41, 42, 56), ("c", 61, 62, 76))

_WATTS = {"apower": NET_POWER, "act_power": NET_POWER, "total_act_power": NET_POWER}
"""W, import positive."""
_WATT_HOURS = {
    "total_act_energy": "1-0:1.8.0",
    "total_act_ret_energy": "1-0:2.8.0",
    "total_act": "1-0:1.8.0",
    "total_act_ret": "1-0:2.8.0",
}
"""Counters in Wh. Those of phases have OBIS codes that no sum of the meter's energy uses."""
for _letter, _import, _export, _net in _PHASES:
    _WATTS[f"{_letter}_act_power"] = f"1-0:{_net}.7.0"
    _WATT_HOURS[f"{_letter}_total_act_energy"] = f"1-0:{_import}.8.0"
    _WATT_HOURS[f"{_letter}_total_act_ret_energy"] = f"1-0:{_export}.8.0"
_COUNTERS = {"aenergy": ("1-0:1.8.0", INTERVAL_IMPORT), "ret_aenergy": ("1-0:2.8.0", INTERVAL_EXPORT)}
"""Objects with `total` (Wh) and `by_minute` (mWh of the complete minutes before `minute_ts`, the newest first)."""


def looks(head: bytes) -> bool:
    """Whether `head` has a notification, or a status with the energy of a component."""
    return bool(re.search(rb'"Notify(Full)?Status"', head) or re.search(rb'"(em|em1|switch|pm1)(data)?:\d+"\s*:', head))


def parse(file: IO[bytes], options: Options) -> Iterator[Parsed]:
    """The readings of notifications, one a line (with a topic before it or not) or as one JSON document.

    A component that meters is a meter, `DEVICE/em:0` say; `emdata:0` and `em1data:0` are counters of that same meter.
    Times are `ts`. The minutes of `by_minute` are intervals on registers of their own, each taken once.

    Args:
        file: JSON, one message a line or document.
        options: `meter` in place of the device where no `src` and no topic names it.
    """
    rows = Rows()
    minutes: dict[tuple[str, str], int] = {}
    for document in documents(file):
        rows.at(document.place)
        if document.error and not _TOPIC.search(document.prefix):
            rows.refuse(document.error)
        elif document.error:
            rows.refuse(f"{document.error} on topic {document.prefix[:80]}")
        else:
            _message(rows, document, options, minutes)
        yield from rows.full()
    yield rows.take()


def _message(rows: Rows, document: Document, options: Options, minutes: dict[tuple[str, str], int]) -> None:
    message = document.value
    if not isinstance(message, dict):
        rows.refuse("no JSON object")
        return
    status = message.get("params", message.get("result"))
    method = message.get("method")
    if method not in (None, "NotifyStatus", "NotifyFullStatus") or not isinstance(status, dict):
        rows.skip(f"message {str(method)[:40]}" if method else "message without a status")
        return
    components = {name: value for name, value in status.items() if _metered(name, value)}
    if not components:
        rows.skip("status without energy or power")
        return
    ts = number(status.get("ts"))
    system = status.get("sys")
    if ts is None and isinstance(system, dict):
        ts = number(system.get("unixtime"))
    if ts is None:
        rows.refuse("no ts: the device's clock is not set")
        return
    source = message.get("src")
    topic = _TOPIC.search(document.prefix)
    device = source if isinstance(source, str) and source else topic[1] if topic else options.meter
    for name, component in components.items():
        kind, index = name.split(":")
        _component(rows, f"{device}/{kind.removesuffix('data')}:{index}", to_ms(ts), component, minutes)


def _metered(name: str, component: object) -> bool:
    fields = (*_WATTS, *_WATT_HOURS, *_COUNTERS)
    return bool(_COMPONENT.match(name)) and isinstance(component, dict) and any(field in component for field in fields)


def _component(
    rows: Rows, meter: str, ts_ms: int, component: dict[str, Any], minutes: dict[tuple[str, str], int]
) -> None:
    for table, kind in ((_WATTS, Kind.INSTANT), (_WATT_HOURS, Kind.REGISTER)):
        for field, register in table.items():
            if field in component:
                _value(rows, meter, register, ts_ms, kind, field, component[field])
    for field, (register, interval) in _COUNTERS.items():
        counter = component.get(field)
        if not isinstance(counter, dict):
            if field in component:
                rows.refuse(f"{field} is no object")
            continue
        if "total" in counter:
            _value(rows, meter, register, ts_ms, Kind.REGISTER, f"{field}.total", counter["total"])
        if "by_minute" in counter:
            _by_minute(rows, meter, interval, counter, minutes)


def _value(rows: Rows, meter: str, register: str, ts_ms: int, kind: Kind, field: str, value: object) -> None:
    """A field in W or Wh. Null is what a device says of a value that it does not have."""
    found = number(value)
    if value is None:
        rows.skip("null")
    elif found is None:
        rows.refuse(f"{field} is no number")
    else:
        rows.add(meter, register, ts_ms, kind, found / 1000)


def _by_minute(
    rows: Rows, meter: str, register: str, counter: dict[str, Any], minutes: dict[tuple[str, str], int]
) -> None:
    values, end = counter["by_minute"], number(counter.get("minute_ts"))
    if not isinstance(values, list) or end is None:
        rows.refuse("by_minute without a list or minute_ts")
        return
    if end % 60:
        # Firmware before 1.0 gives the time of the message: which minutes they are cannot be told.
        rows.skip("by_minute whose minute_ts is no full minute")
        return
    told = minutes.get((meter, register), 0)
    for i, value in reversed(list(enumerate(values))):
        ends = int(end - 60 * i)
        found = number(value)
        if found is None:
            rows.refuse("by_minute holds no number")
        elif ends <= told:
            rows.skip("minute told before")
        else:
            rows.add(meter, register, to_ms(ends), Kind.INTERVAL, found / 1e6, interval_ms=60_000)
    minutes[meter, register] = max(told, int(end))
