"""From what a plan wants to what is sent: ids, supersession, and no more messages than leases need."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from operators.control_lifecycle.times import iso, parse_ts_ms, step_end_ms

RENEW_AFTER = 0.5
"""Share of a lease after which it is renewed though nothing changed."""
Setpoint = dict[str, Any]


def issue(
    planned: Iterable[Mapping[str, Any]],
    last: Mapping[str, Setpoint],
    now_ms: int,
    deadband_w: float = 0.0,
) -> tuple[list[Setpoint], dict[str, Setpoint]]:
    """What to send, and the new `last`.

    A setpoint that says the same as the asset's last one (value within `deadband_w`, failsafe, mode, priority, end of
    its step) is not sent again before half of that one's lease is over. What is sent begins now at the earliest, ends
    its step when the plan does, carries `issued_at`, supersedes the last one, and has an id made from its content: the
    same run again gives the same ids. A planned one whose step is over is not sent.

    Args:
        planned: contract setpoints, one an asset and type; `setpoint_id`, `supersedes` and `issued_at` are set here.
        last: the one sent last, by `asset_id/type`; JSON.
        now_ms: event time, ms UTC.
        deadband_w: W.
    """
    sent, state = [], dict(last)
    for wanted in planned:
        key = f"{wanted['asset_id']}/{wanted['type']}"
        before = state.get(key)
        end = step_end_ms(wanted)
        if end is not None and end <= now_ms:
            continue
        if before is not None and not _due(before, wanted, now_ms, deadband_w):
            continue
        start = max(parse_ts_ms(wanted["execution_time"]), now_ms)
        made = {
            **wanted,
            "execution_time": iso(start),
            "duration_s": None if end is None else (end - start) / 1000,
            "issued_at": iso(now_ms),
            "supersedes": None if before is None else before["setpoint_id"],
        }
        made["setpoint_id"] = setpoint_id(made)
        sent.append(made)
        state[key] = made
    return sent, state


def setpoint_id(setpoint: Mapping[str, Any]) -> str:
    """32 hex digits of a setpoint's content, its id left out."""
    content = {name: value for name, value in setpoint.items() if name != "setpoint_id"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _due(before: Mapping[str, Any], wanted: Mapping[str, Any], now_ms: int, deadband_w: float) -> bool:
    if any(before.get(name) != wanted.get(name) for name in ("mode", "failsafe", "priority")):
        return True
    if abs(float(before["value_w"]) - float(wanted["value_w"])) > deadband_w:
        return True
    if step_end_ms(before) != step_end_ms(wanted):
        return True
    begun = parse_ts_ms(before["execution_time"])
    return now_ms >= begun + RENEW_AFTER * 1000 * float(before["ttl_s"])
