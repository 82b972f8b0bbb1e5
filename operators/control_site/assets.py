"""What a site's devices are known to do: by their own reports, or, where none ever reported, as if they obeyed.

The latter only for what is never acted on: a site in shadow has devices on paper, so that it can be seen what would be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from operators.control.devices import advance
from operators.control.site import BATTERY, Asset, Site
from operators.control.state import AssetState
from operators.control.steering import ON_KW, running_window
from operators.control_site.feeds import Report

DIGITS = 6
"""States are rounded as they are written down, so that a plan can be made again from what was written."""
FRESH_MS = 180_000
"""A device that was silent for longer is not known."""
TRAIL_MS = 90 * 60_000
"""Powers are kept so long, minute by minute, to be compared with readings of the site."""
MINUTE_MS = 60_000
LONGEST_HOLD_MS = 900_000
"""A reported power is taken to last so long at most."""


class Devices:
    """State by asset, JSON."""

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self.state: dict[str, dict[str, Any]] = {name: dict(kept) for name, kept in (state or {}).items()}

    def report(self, site: Site, report: Report) -> bool:
        """A device's word; False when it is not of the site, or older than what is known."""
        asset = site.by_id.get(report.asset_id)
        if asset is None:
            return False
        own = self.state.get(report.asset_id)
        if own is not None and own["real"] and report.ts_ms < own["ts"]:
            return False
        if own is None or not own["real"]:
            own = self.state[report.asset_id] = _new(report.ts_ms, real=True)
        if report.power_kw is not None:
            self._power(asset, own, report.power_kw, report.ts_ms, site.tz)
        for name in ("content_kwh", "connected", "needs_kwh", "ready_by_ms"):
            value = getattr(report, name)
            if value is not None:
                own[name] = value
        if report.content_kwh is not None:
            own["content_ts"] = report.ts_ms
        own["ts"] = report.ts_ms
        return True

    def imagine(self, site: Site, now_ms: int, commands_kw: Mapping[str, float]) -> None:
        """Devices that never reported follow their commands up to `now_ms`."""
        for asset in site.assets:
            own = self.state.get(asset.asset_id)
            if own is not None and own["real"]:
                continue
            if own is None:
                own = self.state[asset.asset_id] = _new(now_ms, real=False)
                own |= {"power_kw": 0.0, "content_kwh": asset.initial_kwh, "window": now_ms}
            seconds = (now_ms - own["ts"]) / 1000
            if seconds <= 0:
                continue
            # A gap in time: it would have fallen back.
            command = commands_kw.get(asset.asset_id, 0.0) if seconds * 1000 <= LONGEST_HOLD_MS else 0.0
            moved = advance(asset, own["content_kwh"], own["power_kw"], command, seconds)
            if asset.kind == BATTERY:
                own["content_kwh"] = min(max(moved.content_kwh, 0.0), asset.capacity_kwh)
            self._power(asset, own, moved.mean_kw, now_ms, site.tz)
            own |= {"power_kw": moved.power_kw, "ts": now_ms}

    def keep(self, site: Site) -> None:
        """Forgets what is no asset any more."""
        self.state = {name: own for name, own in self.state.items() if name in site.by_id}

    def now(self, site: Site, now_ms: int, excluded: Mapping[str, int], *, shadow: bool) -> dict[str, AssetState]:
        """As the planner wants it. What is not known, stale or excluded is not available.

        Args:
            site: its assets.
            now_ms: epoch ms UTC.
            excluded: assets to plan without.
            shadow: whether devices on paper count.
        """
        return {
            asset.asset_id: self._state_of(asset, now_ms, asset.asset_id not in excluded, shadow, site.tz)
            for asset in site.assets
        }

    def mean_kw(self, begin_ms: int, end_ms: int, *, real: bool) -> float:
        """Mean power of all devices (or only of those that report, so that a meter sees them) in a time; kW."""
        return sum(_mean(own["trail"], begin_ms, end_ms) for own in self.state.values() if own["real"] or not real)

    def _state_of(self, asset: Asset, now_ms: int, wanted: bool, shadow: bool, tz: str) -> AssetState:
        own = self.state.get(asset.asset_id)
        if own is None or (not own["real"] and not shadow):
            return AssetState(available=False)
        known = not own["real"] or now_ms - own["ts"] <= FRESH_MS
        content = own["content_kwh"]
        if own["real"] and content is not None and now_ms - own["content_ts"] > LONGEST_HOLD_MS:
            content = None
        return AssetState(
            power_kw=_rounded(own["power_kw"]) if known else None,
            content_kwh=_rounded(content) if known else None,
            done_kwh=round(self._done(asset, own, now_ms, tz), DIGITS),
            connected=own["connected"],
            ready_by_ms=own["ready_by_ms"],
            needs_kwh=_rounded(own["needs_kwh"]),
            same_for_s=math.inf if own["since"] is None else max(0.0, (now_ms - own["since"]) / 1000),
            available=wanted and known and own["power_kw"] is not None,
        )

    def _power(self, asset: Asset, own: dict[str, Any], kw: float, ts_ms: int, tz: str) -> None:
        """A power that holds since the report before it (a mean), and its energy in the running window of needs."""
        was, begin = own["power_kw"], own["ts"]
        if was is None or (was > ON_KW) != (kw > ON_KW):
            own["since"] = ts_ms if was is not None else None
        own["power_kw"] = kw
        held = min(ts_ms - begin, LONGEST_HOLD_MS)
        if held > 0:
            _extend(own["trail"], ts_ms - held, ts_ms, kw)
        own["done_kwh"] = self._done(asset, own, ts_ms, tz) + max(0.0, kw) * held / 3_600_000

    def _done(self, asset: Asset, own: dict[str, Any], now_ms: int, tz: str) -> float:
        """Energy in the window of needs that runs; a new window begins with none."""
        if asset.kind == BATTERY or not asset.needs:
            return 0.0
        running = running_window(asset, now_ms, tz)
        start = running.start_ms if running is not None else 0
        if start != own["window"]:
            own["window"], own["done_kwh"] = start, 0.0
        return float(own["done_kwh"])


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS)


def _new(ts_ms: int, *, real: bool) -> dict[str, Any]:
    return {
        "real": real, "ts": ts_ms, "power_kw": None, "content_kwh": None, "content_ts": ts_ms, "connected": None,
        "needs_kwh": None, "ready_by_ms": None, "since": None, "trail": [], "window": 0, "done_kwh": 0.0,
    }  # fmt: skip


def _extend(trail: list[list[float]], begin_ms: int, end_ms: int, kw: float) -> None:
    """One more stretch; those that follow each other within a minute become one, with their mean."""
    last = trail[-1] if trail else None
    if last is not None and last[1] == begin_ms and last[0] // MINUTE_MS == begin_ms // MINUTE_MS:
        mean = (last[2] * (last[1] - last[0]) + kw * (end_ms - begin_ms)) / (end_ms - last[0])
        trail[-1] = [last[0], end_ms, mean]
    else:
        trail.append([begin_ms, end_ms, kw])
    while trail[0][1] < end_ms - TRAIL_MS:
        trail.pop(0)


def _mean(trail: list[list[float]], begin_ms: int, end_ms: int) -> float:
    """Of the whole time; where nothing is known it is zero."""
    total = 0.0
    for begin, end, kw in reversed(trail):
        if end_ms <= begin_ms and begin < end_ms <= end:
            return kw
        if end <= begin_ms:
            break
        total += max(0.0, min(end, end_ms) - max(begin, begin_ms)) * kw
    return total / (end_ms - begin_ms) if end_ms > begin_ms else 0.0
