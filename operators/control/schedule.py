"""What a solved program says, and the same made exact: without the solver's tolerances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from operators.control.site import BATTERY, Asset
from operators.control.solver import Floats
from operators.control.state import SiteState


@dataclass(frozen=True)
class Schedule:
    """A solved program, in the outlook's n steps."""

    power_kw: dict[str, Floats]
    """By asset: [n] kW, positive draws."""
    curtailed_kw: Floats
    """[n] of production."""
    import_kw: Floats
    """[n] at the median load, negative is export."""
    missing_kwh: dict[str, float]
    """By relaxed constraint (`RELAXED`): how much is not kept."""
    objective: float


def net_power(schedule: Schedule) -> Floats:
    """[n] sum of all devices' powers, kW."""
    return np.asarray(sum(schedule.power_kw.values(), start=np.zeros(len(schedule.import_kw))))


def exact(asset: Asset, state: SiteState, power: Floats, step_s: Floats) -> Floats:
    """The schedule without the solver's tolerances, step by step."""
    clipped = np.clip(power, asset.min_kw, asset.max_kw)
    if asset.switched:
        clipped = np.where(clipped < asset.on_kw / 2, 0.0, np.maximum(clipped, asset.on_kw))
    own = state.of(asset)
    if asset.kind != BATTERY:
        last = own.power_kw
        if not asset.ramp_kw_per_s or last is None:
            return clipped
        result = np.empty_like(clipped)
        for k, (wanted, seconds) in enumerate(zip(clipped.tolist(), step_s.tolist(), strict=True)):
            reach = asset.ramp_kw_per_s * seconds
            last = result[k] = min(max(wanted, last - reach), last + reach)
        return result
    content, last = own.content_kwh, own.power_kw or 0.0
    if content is None or not own.available:
        return np.zeros_like(clipped)
    low, high = min(asset.low_kwh, content), max(asset.high_kwh, content)
    result = np.empty_like(clipped)
    for k, (wanted, seconds) in enumerate(zip(clipped.tolist(), step_s.tolist(), strict=True)):
        hours = seconds / 3600
        least = max(asset.min_kw, (low - content) * asset.one_way / hours)
        most = min(asset.max_kw, (high - content) / (asset.one_way * hours))
        value = min(max(wanted, least), most)
        if asset.ramp_kw_per_s:
            reach = asset.ramp_kw_per_s * seconds
            value = min(max(value, last - reach), last + reach)
        kwh = value * hours
        content += kwh * asset.one_way if kwh > 0 else kwh / asset.one_way
        last = result[k] = value
    return result
