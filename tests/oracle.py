"""The contract of `meter.readings` in plain Python, written apart from the SQL: what becomes of a record."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

MAX_CHARACTERS = 65_536
LONGEST_ID = 256
FUTURE_MS = 3_600_000
REQUIRED = ("meter_id", "ts", "kind", "value", "unit")
UNITS = {
    "register": {"Wh": 1e-3, "kWh": 1.0, "MWh": 1e3},
    "interval": {"Wh": 1e-3, "kWh": 1.0, "MWh": 1e3},
    "instant": {"W": 1e-3, "kW": 1.0, "MW": 1e3},
}
QUALITIES = ("measured", "estimated", "invalid")
KINDS = tuple(UNITS)
LAST_MS = 253_402_300_799_999
"""The end of the year 9999."""
BIGINT = range(-(2**63), 2**63)
TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?:([Zz])|([+-])(\d\d)(?::?(\d\d))?)",
    re.ASCII,
)


class NotJsonError(ValueError):
    """A record that is no JSON object, or one whose numbers are not finite (`code`)."""

    def __init__(self, code: str = "not_json") -> None:
        super().__init__(code)
        self.code = code


class Number(str):
    """A JSON number as it was written."""

    __slots__ = ()


@dataclass(frozen=True)
class Reading:
    """A record that is a reading, in canonical units."""

    meter_id: str
    register: str
    ts_ms: int
    kind: str
    value: float
    interval_s: float | None
    revision: int
    quality: str
    tenant_id: str

    @property
    def key(self) -> tuple[str, str, int]:
        """What there is one row of."""
        return self.meter_id, self.register, self.ts_ms

    @property
    def rank(self) -> tuple[int, float, int, float, int]:
        """Of two readings of one key the greater stands."""
        return (
            self.revision, self.value, KINDS.index(self.kind), self.interval_s or 0.0, QUALITIES.index(self.quality),
        )  # fmt: skip


def classify(payload: bytes | None, received_ms: int) -> Reading | str:
    """The reading, or the code of the rejected record: the first that fits, in the order of the checks here.

    Args:
        payload: the record's value; None for a tombstone.
        received_ms: when the broker got it, epoch milliseconds.
    """
    content = payload or b""
    if len(content.decode("utf-8", "replace")) > MAX_CHARACTERS:
        return "too_large"
    try:
        fields = parse(content)
    except NotJsonError as error:
        return error.code
    given = {name: value for name, value in fields.items() if value is not None}
    if any(name not in given for name in REQUIRED) or given["meter_id"] == "":
        return "missing_field"
    if given["kind"] == "interval" and "interval_s" not in given:
        return "missing_field"
    if not _types_fit(given):
        return "bad_type"
    return _reading(given, received_ms)


def parse(content: bytes) -> dict[str, Any]:
    """One JSON object (RFC 8259) in UTF-8 with distinct keys; numbers stay text.

    Raises:
        NotJsonError: it is something else.
    """
    beyond = False

    def constant(name: str) -> Number:
        nonlocal beyond
        beyond = True
        return Number(name)

    def distinct(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for name, value in pairs:
            if name in out:
                raise NotJsonError
            out[name] = value
        return out

    try:
        found = json.loads(
            content.decode(), parse_int=Number, parse_float=Number, parse_constant=constant, object_pairs_hook=distinct
        )
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, NotJsonError) else NotJsonError from error
    if not isinstance(found, dict):
        raise NotJsonError
    if beyond:  # JSON has no such numbers; the code says what was meant
        raise NotJsonError("not_finite")
    return found


def _types_fit(given: dict[str, Any]) -> bool:
    texts = all(_is_text(given[name]) for name in ("kind", "unit"))
    ids = all(_is_id(given.get(name, "x")) for name in ("meter_id", "register", "tenant_id"))
    numbers = isinstance(given["value"], Number)
    time = isinstance(given["ts"], Number) or _is_text(given["ts"])
    revision = given.get("revision", Number("0"))
    whole = isinstance(revision, Number) and float(revision).is_integer() and _whole(revision) in BIGINT
    length = given.get("interval_s", Number("1"))
    span = isinstance(length, Number) and 0.001 <= float(length) <= 31_622_400
    return texts and ids and numbers and time and whole and span and given.get("quality", "measured") in QUALITIES


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Number)


def _is_id(value: Any) -> bool:
    return (
        _is_text(value)
        and 1 <= len(value) <= LONGEST_ID
        and all(character >= " " and not "\ud800" <= character <= "\udfff" for character in value)
    )


def _whole(number: Number) -> int:
    return int(number) if re.fullmatch(r"-?\d+", number) else int(float(number))


def _reading(given: dict[str, Any], received_ms: int) -> Reading | str:
    value, kind, unit = float(given["value"]), given["kind"], given["unit"]
    if not math.isfinite(value * 1000 if unit in ("MWh", "MW") else value):  # in canonical units
        return "not_finite"
    if kind not in UNITS:
        return "unknown_kind"
    if unit not in UNITS[kind]:
        return "bad_unit"
    factor = UNITS[kind][unit]
    canonical = value / 1000 if factor < 1 else value * factor
    ts_ms = epoch_ms(given["ts"])
    if ts_ms is None:
        return "bad_ts"
    if ts_ms > received_ms + FUTURE_MS:
        return "ts_in_future"
    interval_s = math.floor(float(given["interval_s"]) * 1000 + 0.5) / 1000 if kind == "interval" else None
    return Reading(
        given["meter_id"], given.get("register", "1-0:1.8.0"), ts_ms, kind, canonical, interval_s,
        _whole(given.get("revision", Number("0"))), given.get("quality", "measured"), given.get("tenant_id", "default"),
    )  # fmt: skip


def epoch_ms(ts: str) -> int | None:
    """Epoch milliseconds of a JSON time from 1970 to 9999: a number of them, or ISO-8601 with an offset; else None."""
    if isinstance(ts, Number):
        number = float(ts)
        return int(number) if 0 <= number <= LAST_MS else None
    found = TIME.fullmatch(ts)
    if found is None:
        return None
    year, month, day, hour, minute = map(int, found.groups()[:5])
    second, fraction = int(found[6] or 0), (found[7] or "0")[:3].ljust(3, "0")
    offset_hours, offset_minutes = int(found[10] or 0), int(found[11] or 0)
    if hour > 23 or minute > 59 or second > 60 or offset_hours > 23 or offset_minutes > 59:
        return None
    try:
        wall = datetime(year, month, day, hour, minute, tzinfo=UTC)
    except ValueError:
        return None
    offset = timedelta(hours=offset_hours, minutes=offset_minutes) * (-1 if found[9] == "-" else 1)
    # A leap second is the first of the next minute, as POSIX time has it.
    since = wall - datetime(1970, 1, 1, tzinfo=UTC) - offset + timedelta(seconds=second)
    ms = since // timedelta(milliseconds=1) + int(fraction)
    return ms if ms >= 0 else None
