"""Where a site stands when a plan is made: what its meters and devices say, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from operators.control.site import BATTERY, Asset

BEYOND = 0.05
"""A content that is further out of a battery than this share of its capacity is a fault of its meter."""


@dataclass(frozen=True)
class AssetState:
    """A device as it reports itself. What it does not report is None, never zero."""

    power_kw: float | None = None
    content_kwh: float | None = None
    """Battery. Unknown: it is left at rest."""
    done_kwh: float = 0.0
    """Energy that it got in the current window of its needs, at the meter."""
    connected: bool | None = None
    """EV; None: it is as its needs say."""
    ready_by_ms: int | None = None
    """EV that is connected: its departure, epoch ms UTC; with `needs_kwh` this goes before the daily needs."""
    needs_kwh: float | None = None
    """EV that is connected: what it still needs, at the meter."""
    same_for_s: float = math.inf
    """How long it has been on, or off."""
    available: bool = True
    """False: it refuses or does not answer; planned as staying as it is, with no influence."""


@dataclass(frozen=True)
class SiteState:
    """A site as it stands."""

    assets: Mapping[str, AssetState] = field(default_factory=dict)
    month_peak_kw: float = 0.0
    """Highest quarter hour of import in this calendar month so far."""
    load_kw: float | None = None
    """Live load of the current step, without assets and PV."""
    pv_kw: float | None = None
    expected_peaks_kw: tuple[float, ...] = ()
    """Equally likely peaks of the rest of the month, which are there whatever happens today."""
    next_peaks_kw: tuple[float, ...] = ()
    """The same for the month after."""
    grid_limit_kw: float | None = None
    """The grid operator's limit in force (EEBUS LPC, OpenADR)."""

    def of(self, asset: Asset) -> AssetState:
        """A device's state; what is not finite is not known."""
        raw = self.assets.get(asset.asset_id, AssetState())
        content = _finite(raw.content_kwh)
        tolerance = BEYOND * asset.capacity_kwh
        if (
            asset.kind == BATTERY
            and content is not None
            and not -tolerance <= content <= asset.capacity_kwh + tolerance
        ):
            content = None
        return AssetState(
            power_kw=_finite(raw.power_kw),
            content_kwh=content,
            done_kwh=max(0.0, _finite(raw.done_kwh) or 0.0),
            connected=raw.connected,
            ready_by_ms=raw.ready_by_ms,
            needs_kwh=_finite(raw.needs_kwh),
            same_for_s=raw.same_for_s if raw.same_for_s >= 0 else 0.0,
            available=raw.available and (asset.kind != BATTERY or content is not None),
        )


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and abs(value) < 1e12 else None
