"""A site as the planner sees it: limit, tariff, and devices, in kW and kWh. `site_json` reads it from its message."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from zoneinfo import ZoneInfo

import pandas as pd

from operators.control.clock import DAY_MS, at_minute
from operators.control.tariff import Tariff

BATTERY, EV, FLEXIBLE = "battery", "ev", "flexible_load"
KINDS = (BATTERY, EV, FLEXIBLE)
LIMIT_QUANTILE = 0.7
"""Above it a plan saves the battery for what seldom comes, and lacks it at the peak (decision 012)."""
FAILSAFE_MIN_S = 900.0
DEFAULT_SHED_COST = 2.0
"""Currency per kWh that a load without a daily need forgoes."""


@dataclass(frozen=True)
class Window:
    """A time in which an asset needs energy."""

    start_ms: int
    """Epoch ms UTC."""
    end_ms: int
    kwh: float
    """At the meter."""


@dataclass(frozen=True)
class Need:
    """Energy that an asset needs on some days between two times of day (an EV: until it leaves)."""

    begin: int
    """Minute of the local day."""
    end: int
    """Minute of the day; not after `begin`: of the next day."""
    days: tuple[int, ...]
    """Days on which it begins."""
    kwh: float
    """At the meter."""


@dataclass(frozen=True)
class Asset:
    """A controllable device. Power is positive when it draws from the site."""

    asset_id: str
    kind: str
    min_kw: float
    max_kw: float
    ramp_kw_per_s: float | None = None
    capacity_kwh: float = 0.0
    """Battery only."""
    efficiency: float = 1.0
    """Battery: of a full cycle, half of the loss on the way in and half on the way out."""
    priority: int = 0
    """A greater number is shed later."""
    low_kwh: float = 0.0
    """Battery: lowest content."""
    high_kwh: float = 0.0
    """Battery: highest content."""
    initial_kwh: float = 0.0
    wear: float = 0.0
    """Battery: currency per kWh through its terminals, either way."""
    needs: tuple[Need, ...] = ()
    shed_cost: float = DEFAULT_SHED_COST
    min_run_s: float = 0.0
    min_rest_s: float = 0.0
    on_kw: float = 0.0
    """Least power while on, of a load with a minimum run or rest."""

    @property
    def one_way(self) -> float:
        """Battery: share of the energy that arrives, each way."""
        return math.sqrt(self.efficiency)

    @property
    def switched(self) -> bool:
        """It is on or off, for at least some time."""
        return self.min_run_s > 0 or self.min_rest_s > 0

    @property
    def crumb_kwh(self) -> float:
        """A need that is smaller is none: a switched load does not start for less than half a quarter hour."""
        return self.on_kw / 8 if self.switched else 1e-6

    def windows(self, start_ms: int, end_ms: int, tz: str) -> list[Window]:
        """Its daily needs whose windows touch [start_ms, end_ms), in the order of time."""
        zone = ZoneInfo(tz)
        first = pd.Timestamp(start_ms - DAY_MS, unit="ms", tz="UTC").tz_convert(zone).normalize()
        found = []
        for day in pd.date_range(first, periods=(end_ms - start_ms) // DAY_MS + 4, freq="D"):
            for need in self.needs:
                if day.weekday() not in need.days:
                    continue
                end = need.end if need.end > need.begin else need.end + 1440
                window = Window(at_minute(day, need.begin, zone), at_minute(day, end, zone), need.kwh)
                if window.start_ms < end_ms and window.end_ms > start_ms:
                    found.append(window)
        return sorted(found, key=lambda window: window.start_ms)


@dataclass(frozen=True)
class Site:
    """A checked site."""

    site_id: str
    tz: str
    limit_kw: float | None
    """Agreed import capacity, mean of a quarter hour."""
    tariff: Tariff
    assets: tuple[Asset, ...]
    mode: str = "shadow"
    export_limit_kw: float | None = None
    limit_quantile: float = LIMIT_QUANTILE
    """Of the load's forecast, with which plans keep the limit."""
    failsafe_min_s: float = FAILSAFE_MIN_S
    """A device that fell back stays there so long at least."""
    tenant_id: str = "default"
    notes: tuple[str, ...] = field(default=())
    """What was left out or not understood, for the person who configures."""

    @cached_property
    def by_id(self) -> dict[str, Asset]:
        """Its assets by their ids."""
        return {asset.asset_id: asset for asset in self.assets}

    def of_kind(self, *kinds: str) -> tuple[Asset, ...]:
        """Its assets of some kinds, in their order."""
        return tuple(asset for asset in self.assets if asset.kind in kinds)
