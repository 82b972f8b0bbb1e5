"""A site's limit in the running quarter hour: the demand guard (`operators/demand_guard.py`) on its live meters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from operators.control_site.feeds import MeterForecast
from operators.control_site.live import SLOT_MS, LiveMeters
from operators.demand_guard import Floats, Guards, Outlook, look

HOUR_MS = 3_600_000
NAME = "LimitLikelyExceeded"


def watch(
    guards: Guards, live: LiveMeters, meters: Sequence[str], limit_kw: float, quantiles_kwh: Floats
) -> tuple[Guards, Outlook] | None:
    """What the meters' newest readings mean for the limit; None when they say nothing new.

    Args:
        guards: of this one site.
        live: its meters.
        meters: at the connection, together they measure the import.
        limit_kw: of a quarter hour's mean; NaN: none.
        quantiles_kwh: [9] forecast of the running quarter hour's import, NaN where there is none.
    """
    now_ms = live.passed(meters)
    power = live.power(meters, now_ms)
    since_ms = int(guards.now_ms[0])
    if power is None or now_ms <= since_ms:
        return None
    slot_ms = (now_ms - 1) // SLOT_MS * SLOT_MS
    inside_kwh, covered_ms = live.slot(meters, slot_ms)
    # What was not measured of it is taken to have been as what was.
    inside_kwh *= (now_ms - slot_ms) / covered_ms if covered_ms else 0.0
    since_ms = max(since_ms, slot_ms - SLOT_MS) if since_ms >= 0 else slot_ms
    known_kwh = float(guards.kwh[0]) if int(guards.slot_ms[0]) == slot_ms else 0.0
    before_kwh = power.kw * max(slot_ms - since_ms, 0) / HOUR_MS
    made, outlook = look(
        replace(guards, now_ms=np.array([since_ms])),
        np.array([now_ms]),
        np.array([inside_kwh - known_kwh + before_kwh]),
        np.array([limit_kw]),
        quantiles_kwh[None],
    )
    # The meters' own sum, in place of one spread evenly over the border of two quarter hours.
    return replace(made, kwh=np.array([inside_kwh])), outlook


def running(forecasts: Mapping[str, MeterForecast], meters: Iterable[str], slot_ms: int, devices_kw: float) -> Floats:
    """Quantiles of a quarter hour's import, kWh: the meters' forecasts and the devices; [9], NaN where one is missing.

    Quantiles are added as they are: high ones are reached together, which warns early rather than late.
    """
    total = np.full(9, devices_kw / 4)
    for meter in meters:
        known = forecasts.get(meter)
        step = -1 if known is None else (slot_ms - known.start_ms) // (known.step_s * 1000)
        if known is None or not 0 <= step < known.kw.shape[1]:
            return np.full(9, np.nan)
        total = total + known.kw[:, step] / 4
    return total


def told(outlook: Outlook, guards: Guards, limit_kw: float) -> str:
    """For people: what is to be expected, how likely, how long there is to act."""
    chance, kw, left_s = (float(each[0]) for each in (outlook.chance, outlook.mean_kw, outlook.left_s))
    if float(guards.kwh[0]) * 4 > limit_kw:
        return f"the quarter hour has used more than the limit of {limit_kw:g} kW allows; {kw:.1f} kW at its end"
    how = f"{chance:.0%}, {left_s:.0f} s left"
    return f"the quarter hour will reach {kw:.1f} kW, above the limit of {limit_kw:g} kW ({how})"


def saved(guards: Guards) -> dict[str, Any]:
    """For a state of JSON."""
    values = {each.name: getattr(guards, each.name)[0].item() for each in fields(Guards)}
    return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}


def restored(state: Mapping[str, Any] | None) -> Guards:
    """What `saved` gave; None begins anew."""
    begun = Guards.empty(1)
    if not state:
        return begun
    values = {each.name: np.nan if state[each.name] is None else state[each.name] for each in fields(Guards)}
    return Guards(**{name: np.array([value], getattr(begun, name).dtype) for name, value in values.items()})
