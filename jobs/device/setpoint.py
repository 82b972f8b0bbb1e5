"""One message of `control.setpoints`, read strictly: what is not understood is never acted on."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

POWER = "POWER"
IMPORT_CAPACITY_LIMIT = "IMPORT_CAPACITY_LIMIT"
TYPES = (POWER, IMPORT_CAPACITY_LIMIT)
MAX_HOLD_S = 7 * 86_400
"""The longest minimum duration of a failsafe that is taken."""
LOWEST_PRIORITY = 2**31 - 1
"""Of a setpoint that names none. A lower number is a higher priority, as in OpenADR 3."""


@dataclass(frozen=True)
class Now:
    """A moment on both clocks of a device.

    `wall_ms` is UTC since 1970 and may jump; `mono_s` counts seconds since any fixed moment and never goes back.
    """

    wall_ms: int
    mono_s: float

    @classmethod
    def read(cls) -> Now:
        """The machine's clocks."""
        return cls(time.time_ns() // 1_000_000, time.monotonic())


class SetpointError(ValueError):
    """A message that is no valid setpoint: `code` for programs, `setpoint_id` when it could be read."""

    def __init__(self, code: str, detail: str, setpoint_id: str | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.setpoint_id = setpoint_id


@dataclass(frozen=True)
class Setpoint:
    """A lease on an asset's power: W, import positive; times in ms UTC, spans in ms.

    `duration_ms` None: the plan's step does not expire by itself. `issued_ms` None: the message does not say.
    """

    setpoint_id: str
    asset_id: str
    type: str
    value_w: float
    execution_ms: int
    ttl_ms: int
    duration_ms: int | None
    failsafe_w: float
    failsafe_ms: int
    priority: int
    mode: str
    supersedes: str | None
    issued_ms: int | None

    @property
    def lease_end_ms(self) -> int:
        """Past this it is not followed."""
        return self.execution_ms + self.ttl_ms

    @property
    def step_end_ms(self) -> int | None:
        """When the plan's step is over; None when it never is."""
        return None if self.duration_ms is None else self.execution_ms + self.duration_ms

    def newer_than(self, other: Setpoint) -> bool:
        """Whether this replaces `other`, in whichever order they arrive.

        The later execution time; then the later issue, the one that says it supersedes, and the greater id.
        """
        if self.execution_ms != other.execution_ms:
            return self.execution_ms > other.execution_ms
        if self.issued_ms is not None and other.issued_ms is not None and self.issued_ms != other.issued_ms:
            return self.issued_ms > other.issued_ms
        if other.setpoint_id == self.supersedes or self.setpoint_id == other.supersedes:
            return other.setpoint_id == self.supersedes
        return self.setpoint_id > other.setpoint_id


def parse(message: bytes | str | Mapping[str, Any]) -> Setpoint:
    """The setpoint of a message of `control.setpoints`.

    Raises:
        SetpointError: `not_json`, `missing_field`, `bad_type`, `not_finite`, `bad_ts`, `bad_ttl`, `bad_duration`,
            `bad_mode`, `bad_failsafe`.
    """
    fields = _fields(message)
    name = fields.get("setpoint_id")
    known = name if isinstance(name, str) and name else None
    try:
        return _parsed(fields)
    except SetpointError as error:
        error.setpoint_id = known
        raise


def _fields(message: bytes | str | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(message, Mapping):
        return message
    try:
        found = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise SetpointError("not_json", str(error)) from error
    if not isinstance(found, dict):
        raise SetpointError("not_json", "expected one object")
    return found


def _parsed(fields: Mapping[str, Any]) -> Setpoint:
    kind = _text(fields, "type")
    if kind not in TYPES:
        raise SetpointError("bad_type", f"type {kind!r}: expected one of {', '.join(TYPES)}")
    mode = _text(fields, "mode")
    if mode not in ("live", "shadow"):
        raise SetpointError("bad_mode", f"mode {mode!r}: expected live or shadow")
    ttl = _number(fields, "ttl_s")
    if ttl <= 0:
        raise SetpointError("bad_ttl", f"ttl_s {ttl:g}: a lease lasts some time")
    duration = None if fields.get("duration_s") is None else _number(fields, "duration_s")
    if duration is not None and duration <= 0:
        raise SetpointError("bad_duration", f"duration_s {duration:g}: more than zero, or null for no end")
    failsafe = fields.get("failsafe")
    if not isinstance(failsafe, Mapping):
        raise SetpointError("bad_failsafe", "failsafe: expected an object with value_w and min_duration_s")
    hold = _number(failsafe, "min_duration_s")
    if not 0 <= hold <= MAX_HOLD_S:
        raise SetpointError("bad_failsafe", f"failsafe.min_duration_s {hold:g}: want 0 to {MAX_HOLD_S}")
    supersedes = fields.get("supersedes")
    if supersedes is not None and not isinstance(supersedes, str):
        raise SetpointError("bad_type", "supersedes: expected a setpoint_id or null")
    return Setpoint(
        setpoint_id=_text(fields, "setpoint_id"),
        asset_id=_text(fields, "asset_id"),
        type=kind,
        value_w=_number(fields, "value_w"),
        execution_ms=parse_ts(fields.get("execution_time"), "execution_time"),
        ttl_ms=_ms(ttl),
        duration_ms=None if duration is None else _ms(duration),
        failsafe_w=_number(failsafe, "value_w"),
        failsafe_ms=_ms(hold),
        priority=_priority(fields.get("priority")),
        mode=mode,
        supersedes=supersedes,
        issued_ms=None if fields.get("issued_at") is None else parse_ts(fields["issued_at"], "issued_at"),
    )


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:
        raise SetpointError("missing_field", name)
    if not isinstance(value, str) or not value:
        raise SetpointError("bad_type", f"{name}: expected text, not {value!r}")
    return value


def _number(fields: Mapping[str, Any], name: str) -> float:
    value = fields.get(name)
    if value is None:
        raise SetpointError("missing_field", name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise SetpointError("bad_type", f"{name}: expected a number, not {value!r}")
    # False for NaN too; huge integers never reach float().
    if not abs(value) < 1e12:
        raise SetpointError("not_finite", f"{name} is no usable number")
    return float(value)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _priority(value: Any) -> int:
    if value is None:
        return LOWEST_PRIORITY
    if isinstance(value, bool) or not isinstance(value, int):
        raise SetpointError("bad_type", f"priority: expected a whole number, not {value!r}")
    return value


def parse_ts(value: Any, name: str) -> int:
    """Milliseconds since 1970 of ISO 8601 text with an offset, or of such a number of milliseconds.

    Raises:
        SetpointError: `missing_field` or `bad_ts`.
    """
    if value is None:
        raise SetpointError("missing_field", name)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return value
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise SetpointError("bad_ts", f"{name} {value!r}: expected ISO 8601") from error
    if moment.tzinfo is None:
        raise SetpointError("bad_ts", f"{name} {value!r} has no offset: end it with Z or +02:00")
    return round(moment.timestamp() * 1000)


def iso(wall_ms: int) -> str:
    """ISO 8601 in UTC.

    >>> iso(1_767_225_600_500)
    '2026-01-01T00:00:00.500Z'
    """
    return datetime.fromtimestamp(wall_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
