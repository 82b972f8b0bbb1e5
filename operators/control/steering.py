"""From what is wanted of a device now to a command that it can hold: minimum run and rest, needs, bounds, content."""

from __future__ import annotations

from functools import lru_cache

from operators.control.devices import fit
from operators.control.policies import need_now
from operators.control.site import Asset, Window
from operators.control.state import AssetState

ON_KW = 1e-6
_HOUR_MS = 3_600_000


def steady(asset: Asset, own: AssetState, wanted_kw: float, hold_s: float) -> float:
    """The command nearest to what is wanted that breaks no bound; on or off no sooner than the device may.

    Args:
        asset: the device.
        own: as it stands; a power that is not known counts as none.
        wanted_kw: kW.
        hold_s: how long the command will hold.
    """
    power = own.power_kw or 0.0
    if asset.switched:
        on = power > ON_KW
        if on and wanted_kw <= ON_KW and own.same_for_s < asset.min_run_s:
            wanted_kw = power
        elif not on and wanted_kw > ON_KW and own.same_for_s < asset.min_rest_s:
            wanted_kw = 0.0
        elif wanted_kw > ON_KW:
            wanted_kw = max(wanted_kw, asset.on_kw)
    return fit(asset, own.content_kwh or 0.0, power, wanted_kw, hold_s)


def running_window(asset: Asset, time_ms: int, tz: str) -> Window | None:
    """The window of a device's daily needs that runs at a time (epoch ms UTC); of several the one that began first."""
    if not asset.needs:
        return None
    return next((w for w in _windows(asset, time_ms // _HOUR_MS, tz) if w.start_ms <= time_ms < w.end_ms), None)


@lru_cache(maxsize=4096)
def _windows(asset: Asset, hour: int, tz: str) -> tuple[Window, ...]:
    """Those that touch an hour: calendars are slow to ask."""
    return tuple(asset.windows(hour * _HOUR_MS, (hour + 1) * _HOUR_MS, tz))


def needed(asset: Asset, own: AssetState, window: Window | None, wanted_kw: float, hold_s: float) -> float:
    """What is wanted, and no more than the device's need leaves; kW."""
    if own.needs_kwh is not None:
        return min(wanted_kw, max(own.needs_kwh, 0.0) * 3600.0 / hold_s)
    if not asset.needs:
        return wanted_kw
    return min(wanted_kw, need_now(window, asset, own.done_kwh, hold_s))
