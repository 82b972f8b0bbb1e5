"""How a device follows a command: ramps and, for a battery, its content. Which commands break no bound.

A step begins at the device's power; it ramps towards the command and stays there.
"""

from __future__ import annotations

from dataclasses import dataclass

from operators.control.site import BATTERY, Asset

_HALVINGS = 40
_TIGHT = 1e-9


@dataclass(frozen=True)
class Moved:
    """A device after a step."""

    power_kw: float
    """At the end of the step."""
    mean_kw: float
    """Of the step, as a meter sees it."""
    content_kwh: float
    """Battery: at the end of the step; else 0."""
    pieces: tuple[tuple[float, float, float], ...]
    """Power at the end (kW), mean power (kW) and seconds of its parts; power changes its sign only between two."""


def advance(asset: Asset, content_kwh: float, power_kw: float, command_kw: float, step_s: float) -> Moved:
    """Moves a device by a step towards a command.

    Args:
        asset: the device.
        content_kwh: a battery's content at the beginning.
        power_kw: its power at the beginning.
        command_kw: its setpoint.
        step_s: seconds.
    """
    ramp = asset.ramp_kw_per_s
    change = command_kw - power_kw
    ramp_s = min(step_s, abs(change) / ramp) if ramp else 0.0
    end = power_kw + (change if not ramp or ramp_s < step_s else (ramp if change > 0 else -ramp) * step_s)
    pieces = [(power_kw, end, ramp_s), (end, end, step_s - ramp_s)]
    if power_kw * end < 0 and ramp_s > 0:
        # The ramp crosses zero: losses change sides.
        zero_s = ramp_s * abs(power_kw) / abs(end - power_kw)
        pieces[:1] = [(power_kw, 0.0, zero_s), (0.0, end, ramp_s - zero_s)]
    energy = content = 0.0
    parts = []
    for begin, stop, seconds in pieces:
        if seconds <= 0:
            continue
        parts.append((stop, (begin + stop) / 2, seconds))
        kwh = (begin + stop) / 2 * seconds / 3600
        energy += kwh
        content += kwh * asset.one_way if kwh > 0 else kwh / asset.one_way
    mean = energy * 3600 / step_s
    return Moved(end, mean, content_kwh + content if asset.kind == BATTERY else 0.0, tuple(parts))


def fit(asset: Asset, content_kwh: float, power_kw: float, command_kw: float, step_s: float) -> float:
    """The command nearest to `command_kw` that keeps power, and a battery's content, in bounds through the step.

    A battery with a ramp is stopped in time: it must be able to ramp to rest before it is full or empty.

    Args:
        asset, content_kwh, power_kw, step_s: as for `advance`.
        command_kw: what is wanted; not finite: rest.
    """
    wanted = command_kw if abs(command_kw) < 1e12 else 0.0
    wanted = min(max(wanted, asset.min_kw), asset.max_kw)
    reach = asset.ramp_kw_per_s * step_s if asset.ramp_kw_per_s else float("inf")
    wanted = min(max(wanted, power_kw - reach), power_kw + reach)
    if asset.kind != BATTERY or _holds(asset, content_kwh, power_kw, wanted, step_s):
        return wanted
    # Between what is wanted and what drives the content away from the bound lies the last command that holds.
    safe = _retreat(asset, content_kwh, power_kw, wanted, step_s)
    if not _holds(asset, content_kwh, power_kw, safe, step_s):
        return safe
    for _ in range(_HALVINGS):
        middle = (safe + wanted) / 2
        if _holds(asset, content_kwh, power_kw, middle, step_s):
            safe = middle
        else:
            wanted = middle
    return safe


def _retreat(asset: Asset, content: float, power: float, wanted: float, step_s: float) -> float:
    reach = asset.ramp_kw_per_s * step_s if asset.ramp_kw_per_s else float("inf")
    after = advance(asset, content, power, wanted, step_s)
    too_full = after.content_kwh + _braking(asset, after.power_kw) > asset.high_kwh
    rest = 0.0 if (wanted > 0) == too_full else (asset.min_kw if too_full else asset.max_kw)
    return min(max(rest, power - reach), power + reach)


def _holds(asset: Asset, content: float, power: float, command: float, step_s: float) -> bool:
    after = advance(asset, content, power, command, step_s)
    final = after.content_kwh + _braking(asset, after.power_kw)
    # A battery found outside its bounds may stay or come back, never go further.
    low, high = min(asset.low_kwh, content), max(asset.high_kwh, content)
    slack = _TIGHT * max(1.0, asset.capacity_kwh)
    return low - slack <= final <= high + slack


def _braking(asset: Asset, power: float) -> float:
    """Energy that goes in (or out, negative) while the power ramps to zero."""
    if not asset.ramp_kw_per_s:
        return 0.0
    kwh = power * abs(power) / (2 * asset.ramp_kw_per_s) / 3600
    return kwh * asset.one_way if kwh > 0 else kwh / asset.one_way
