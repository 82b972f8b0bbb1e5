"""Proves what devices are told: an independent second look, in few lines, that shares no code with what it checks.

It takes specifications and numbers only. Whatever made the commands, a violation found here means: do not send them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TOLERANCE_KW = 1e-6
TOLERANCE_KWH = 1e-6


@dataclass(frozen=True)
class Spec:
    """What a device can do. Power in kW (drawing is positive), energy in kWh, ramp in kW per second."""

    asset_id: str
    min_kw: float
    max_kw: float
    ramp_kw_per_s: float | None = None
    low_kwh: float | None = None
    """None: it stores nothing."""
    high_kwh: float | None = None
    efficiency: float = 1.0
    """Of a full cycle."""
    min_run_s: float = 0.0
    min_rest_s: float = 0.0


@dataclass(frozen=True)
class Violation:
    """One bound broken at one step (its number, from 0) by `amount`, in the bound's unit."""

    kind: str
    """`not_finite`, `power`, `ramp`, `content`, `run`, `rest` or `limit`."""
    asset_id: str
    step: int
    amount: float


def check_device(
    spec: Spec,
    power_kw: Sequence[float],
    step_s: Sequence[float],
    before_kw: float = 0.0,
    content_kwh: float = 0.0,
    mean_kw: Sequence[float] | None = None,
    same_for_s: float = math.inf,
) -> list[Violation]:
    """Violations of one device's bounds.

    Args:
        spec: the device.
        power_kw: [n] power at the end of each step (or of the whole step).
        step_s: [n] seconds.
        before_kw: power before the first step.
        content_kwh: of a battery, at the beginning.
        mean_kw: [n] mean power of each step, where it differs from `power_kw` because of ramps.
        same_for_s: how long it has been on or off at the beginning.
    """
    found: list[Violation] = []
    # What was outside at the beginning may come back, not go further.
    low, high = spec.low_kwh, spec.high_kwh
    one_way = math.sqrt(spec.efficiency)
    last, on, held = before_kw, before_kw > TOLERANCE_KW, same_for_s
    for k, (power, seconds) in enumerate(zip(power_kw, step_s, strict=True)):
        mean = power if mean_kw is None else mean_kw[k]
        if not (math.isfinite(power) and math.isfinite(mean)):
            found.append(Violation("not_finite", spec.asset_id, k, math.inf))
            continue
        over = max(spec.min_kw - power, power - spec.max_kw)
        if over > TOLERANCE_KW:
            found.append(Violation("power", spec.asset_id, k, over))
        if spec.ramp_kw_per_s and abs(power - last) > spec.ramp_kw_per_s * seconds + TOLERANCE_KW:
            found.append(Violation("ramp", spec.asset_id, k, abs(power - last) - spec.ramp_kw_per_s * seconds))
        last = power
        if low is not None and high is not None:
            kwh = mean * seconds / 3600
            allowed = min(low, content_kwh), max(high, content_kwh)
            content_kwh += kwh * one_way if kwh > 0 else kwh / one_way
            beyond = max(allowed[0] - content_kwh, content_kwh - allowed[1])
            if beyond > TOLERANCE_KWH * max(1.0, high):
                found.append(Violation("content", spec.asset_id, k, beyond))
        if (power > TOLERANCE_KW) != on:
            least = spec.min_run_s if on else spec.min_rest_s
            if held < least - 1e-6:
                found.append(Violation("run" if on else "rest", spec.asset_id, k, least - held))
            on, held = not on, 0.0
        held += seconds
    return found


def check_limit(import_kw: Sequence[float], limit_kw: Sequence[float], site_id: str = "") -> list[Violation]:
    """Steps whose import is above the limit (kW; infinite: none). An import that is not finite is a violation."""
    found = []
    for k, (power, limit) in enumerate(zip(import_kw, limit_kw, strict=True)):
        if not math.isfinite(power):
            found.append(Violation("not_finite", site_id, k, math.inf))
        elif power > limit + TOLERANCE_KW:
            found.append(Violation("limit", site_id, k, power - limit))
    return found
