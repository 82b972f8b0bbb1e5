"""Decision receipts: what a setpoint was made from, sealed so that a changed one is noticed, and told in words."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from operators.control_lifecycle.times import parse_ts_ms


def seal(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """`inputs` of a setpoint with `sha256`, the digest of everything else in them.

    Raises:
        ValueError: they hold a number that is not finite.
    """
    plain = {name: value for name, value in inputs.items() if name != "sha256"}
    return {**plain, "sha256": _digest(plain)}


def is_sealed(inputs: Mapping[str, Any]) -> bool:
    """Whether the digest fits."""
    plain = {name: value for name, value in inputs.items() if name != "sha256"}
    return inputs.get("sha256") == _digest(plain)


def explain(
    setpoint_id: str, setpoints: Iterable[Mapping[str, Any]], acks: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """Everything known about a setpoint, for `energyai explain`.

    Args:
        setpoint_id: its id.
        setpoints: of the same asset: messages of `control.setpoints`, in any order, repeats allowed.
        acks: of the same asset.

    Returns:
        `setpoint`; `sealed` (None when its inputs carry no digest); `supersedes` (the ids before it, newest first);
        `superseded_by`; `acks` in order of time; `outcome` (the last status, or `unanswered`).

    Raises:
        KeyError: no such setpoint.
    """
    by_id = {str(s["setpoint_id"]): dict(s) for s in setpoints}
    found = by_id[setpoint_id]
    chain: list[str] = []
    before = found.get("supersedes")
    while isinstance(before, str) and before not in chain:
        chain.append(before)
        before = by_id.get(before, {}).get("supersedes")
    mine = {json.dumps(dict(a), sort_keys=True): dict(a) for a in acks if a.get("setpoint_id") == setpoint_id}
    ordered = sorted(mine.values(), key=lambda a: (parse_ts_ms(a["ts"]), _RANK.get(str(a["status"]), 0)))
    inputs = found.get("inputs") or {}
    return {
        "setpoint": found,
        "sealed": is_sealed(inputs) if "sha256" in inputs else None,
        "supersedes": chain,
        "superseded_by": sorted(n for n, s in by_id.items() if s.get("supersedes") == setpoint_id),
        "acks": ordered,
        "outcome": ordered[-1]["status"] if ordered else "unanswered",
    }


_RANK = {"ACCEPTED": 1, "STARTED": 2, "SUCCEEDED": 3, "ABORTED": 3, "REJECTED": 3}


def _digest(plain: Mapping[str, Any]) -> str:
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
