"""What the generated meters really use and feed in: occupancy, weather, sun and batteries, 96 slots a day at a time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SLOTS = 96
SLOT_MS = 900_000
DAY_MS = SLOTS * SLOT_MS

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Archetype:
    """A kind of building; loads are shares of the meter's own scale."""

    name: str
    scale_kw: tuple[float, float]
    """Range of the load at full occupancy, log-uniform."""
    base: float
    """Load with nobody there."""
    hours: tuple[float, ...]
    """Occupancy at hours 0, 2, … 24 of a working day, 0..1."""
    saturday: float
    sunday: float
    """Occupancy on Saturdays, and on Sundays and holidays, as a share of a working day's."""
    heating: float
    """Load for each kelvin below 16 °C outdoors."""
    cooling: float
    """Load for each kelvin above 20 °C outdoors."""
    noise: float
    """Spread of the logarithm of the load."""
    solar: float = 0.0
    """Panels, kWp for each kW of scale."""
    battery_h: float = 0.0
    """Battery, kWh for each kW of scale."""


ARCHETYPES = (
    Archetype(
        "office",
        (20, 150),
        0.25,
        (0, 0, 0, 0.1, 0.8, 1, 0.9, 1, 0.95, 0.5, 0.15, 0.05, 0),
        0.2,
        0.05,
        0.006,
        0.02,
        0.05,
    ),
    Archetype(
        "school", (15, 80), 0.15, (0, 0, 0, 0.2, 0.9, 1, 1, 0.8, 0.3, 0.15, 0.05, 0, 0), 0.05, 0.0, 0.012, 0.005, 0.07
    ),
    Archetype(
        "home", (0.8, 2.5), 0.2, (0.1, 0, 0, 0.4, 0.5, 0.3, 0.4, 0.3, 0.5, 1, 1, 0.6, 0.1), 1.1, 1.2, 0.015, 0.02, 0.35
    ),
    Archetype("shop", (5, 30), 0.3, (0, 0, 0, 0.1, 0.6, 0.95, 1, 1, 1, 0.9, 0.4, 0.1, 0), 1.0, 0.3, 0.005, 0.02, 0.08),
    Archetype(
        "factory",
        (60, 300),
        0.2,
        (0.1, 0.1, 0.2, 1, 1, 1, 0.8, 1, 1, 0.9, 0.9, 0.4, 0.1),
        0.3,
        0.05,
        0.002,
        0.004,
        0.12,
    ),
    Archetype(
        "datacentre",
        (80, 400),
        0.85,
        (0.9, 0.9, 0.9, 0.9, 1, 1, 1, 1, 1, 1, 0.95, 0.9, 0.9),
        1.0,
        1.0,
        0.0,
        0.008,
        0.02,
    ),
    Archetype(
        "solarhome",
        (0.8, 2.5),
        0.2,
        (0.1, 0, 0, 0.4, 0.5, 0.3, 0.4, 0.3, 0.5, 1, 1, 0.6, 0.1),
        1.1,
        1.2,
        0.015,
        0.02,
        0.35,
        2.5,
    ),
    Archetype(
        "batteryhome",
        (0.8, 2.5),
        0.2,
        (0.1, 0, 0, 0.4, 0.5, 0.3, 0.4, 0.3, 0.5, 1, 1, 0.6, 0.1),
        1.1,
        1.2,
        0.015,
        0.02,
        0.35,
        3.0,
        4.0,
    ),
)
HOLIDAYS = frozenset({(1, 1), (5, 1), (12, 25), (12, 26)})
"""(month, day) of days without work: a simple common calendar, no country's own."""


@dataclass(frozen=True)
class Place:
    """Where the fleet is: one region, one weather."""

    latitude: float = 48.0
    longitude: float = 9.0
    tz: str = "Europe/Berlin"
    mean_c: float = 10.0
    swing_c: float = 9.5
    """Half the difference of the warmest and the coldest day's mean."""


class LoadModel:
    """True energy of n meters, day by day and in that order; the same seed gives the same days."""

    def __init__(self, seed: int, meters: int, start_ms: int, place: Place) -> None:
        self.seed = seed
        self.start_ms = start_ms
        self.place = place
        self.kind = np.arange(meters) % len(ARCHETYPES)
        rng = np.random.default_rng([seed, 1])
        low, high = (np.array([a.scale_kw[side] for a in ARCHETYPES])[self.kind] for side in (0, 1))
        self.scale = low * (high / low) ** rng.random(meters)
        self.shift_h = rng.normal(0, 0.4, meters)
        self.habit = rng.uniform(0.85, 1.15, (3, meters))
        self.drift = rng.normal(0, 0.0004, meters)
        self.battery_kwh = self._of("battery_h") * self.scale
        self.stored_kwh = self.battery_kwh * 0.5
        self.noise = np.zeros(meters)
        self.anomaly_c = 0.0
        self.cloud = 0.0
        self.rest_wh = np.zeros((2, meters))

    def _of(self, name: str) -> Floats:
        of_meters: Floats = np.array([getattr(a, name) for a in ARCHETYPES], dtype=np.float64)[self.kind]
        return of_meters

    @property
    def feeds_in(self) -> NDArray[np.bool_]:
        """Which meters have panels, and so an export register."""
        return self._of("solar") > 0

    def day(self, day: int, factor: Floats) -> NDArray[np.int64]:
        """Energy of day number `day` (they must be asked for in order).

        Args:
            day: counted from the start.
            factor: [meters, 96], what the load is multiplied by (anomalies).

        Returns:
            int64 [2, meters, 96]: import and export of each slot, Wh.
        """
        rng = np.random.default_rng([self.seed, 2, day])
        first = self.start_ms + day * DAY_MS
        local = pd.to_datetime(first + np.arange(SLOTS) * SLOT_MS, unit="ms", utc=True).tz_convert(self.place.tz)
        temperature, sun = self._weather(first, rng)
        load = self._load(day, local, temperature, rng) * factor
        solar = self._of("solar")[:, None] * self.scale[:, None] * sun[None, :]
        net = self._battery(load - solar)
        return self._whole_wh(np.stack([np.maximum(net, 0), np.maximum(-net, 0)]) * 250.0)

    def _weather(self, first_ms: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Outdoor temperature (°C) and panel output (share of peak) of each slot."""
        place = self.place
        days = first_ms / DAY_MS
        of_year = 2 * np.pi * (days % 365.2425) / 365.2425
        hour = (first_ms / 3_600_000 + np.arange(SLOTS) / 4 + 0.125 + place.longitude / 15) % 24
        before, self.anomaly_c = self.anomaly_c, 0.8 * self.anomaly_c + rng.normal(0, 2.0)
        self.cloud = 0.6 * self.cloud + rng.normal(0, 1.0)
        cover = 1 / (1 + np.exp(-(self.cloud + np.repeat(rng.normal(0, 0.7, 24), 4))))
        temperature = (
            place.mean_c
            - place.swing_c * np.cos(of_year - 0.35)
            - (5 - 3 * cover) * np.cos(2 * np.pi * (hour - 3) / 24)
            + np.linspace(before, self.anomaly_c, SLOTS)
        )
        # Cooper (1969) for the declination; output grows a little faster than the sine of the sun's height.
        declination = np.radians(23.45) * np.sin(2 * np.pi * (284 + days % 365.2425 + 1) / 365)
        latitude = np.radians(place.latitude)
        height = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(
            2 * np.pi * (hour - 12) / 24
        )
        return temperature, 0.9 * np.maximum(height, 0) ** 1.15 * (1 - 0.75 * cover**2)

    def _load(self, day: int, local: pd.DatetimeIndex, temperature: Floats, rng: np.random.Generator) -> Floats:
        hours = np.arange(13) * 2
        face = np.asarray(local.hour + local.minute / 60, dtype=np.float64)
        off = np.array([(m, d) in HOLIDAYS for m, d in zip(local.month, local.day, strict=True)])
        weekday = np.asarray(local.dayofweek)
        share = np.ones((len(self.kind), SLOTS))
        share = np.where(weekday == 5, self._of("saturday")[:, None], share)
        share = np.where((weekday == 6) | off, self._of("sunday")[:, None], share)
        curves = np.empty_like(share)
        for index, archetype in enumerate(ARCHETYPES):
            mine = self.kind == index
            curves[mine] = np.interp((face[None, :] - self.shift_h[mine, None]) % 24, hours, archetype.hours)
        base, heating, cooling = self._of("base"), self._of("heating"), self._of("cooling")
        load = base[:, None] * self.habit[0][:, None] + (1 - base[:, None]) * share * curves * self.habit[1][:, None]
        weather = heating[:, None] * np.maximum(16 - temperature, 0) + cooling[:, None] * np.maximum(
            temperature - 20, 0
        )
        load += weather * (0.4 + 0.6 * share * curves) * self.habit[2][:, None]
        shocks = rng.normal(0, 1, (SLOTS, len(self.kind)))
        noise = np.empty_like(load)
        for slot in range(SLOTS):
            self.noise = 0.85 * self.noise + np.sqrt(1 - 0.85**2) * shocks[slot]
            noise[:, slot] = self.noise
        spread = self._of("noise")[:, None]
        trend = 1 + self.drift[:, None] * (day + np.arange(SLOTS) / SLOTS)
        out: Floats = self.scale[:, None] * load * np.exp(spread * noise - spread**2 / 2) * trend
        return out

    def _battery(self, net_kw: Floats) -> Floats:
        """Net power at the meter with the battery taking surplus and covering need, 94% efficient in charging."""
        owners = self.battery_kwh > 0
        if not owners.any():
            return net_kw
        out = net_kw.copy()
        limit = self.battery_kwh[owners] / 2
        stored = self.stored_kwh[owners]
        for slot in range(SLOTS):
            want = np.clip(net_kw[owners, slot], -limit, limit)
            given = np.where(
                want > 0,
                np.minimum(want, stored * 4),
                -np.minimum(-want, (self.battery_kwh[owners] - stored) * 4 / 0.94),
            )
            stored = stored - np.where(given > 0, given, given * 0.94) / 4
            out[owners, slot] -= given
        self.stored_kwh[owners] = stored
        return out

    def _whole_wh(self, wh: Floats) -> NDArray[np.int64]:
        """Whole Wh, as meters count: the fractions are carried on, so that nothing is lost over time."""
        total = np.cumsum(wh, axis=2) + self.rest_wh[:, :, None]
        floor = np.floor(total)
        self.rest_wh = total[:, :, -1] - floor[:, :, -1]
        return np.diff(floor, axis=2, prepend=0).astype(np.int64)
