"""What a plan knows of the time ahead: loads with their uncertainty, sun, prices, limits; every number finite.

Inputs come from forecasts and feeds, and may be missing, stale or absurd. What cannot be used is replaced here, by the
same time a day before or by the nearest that is known, and said in `notes`; nothing else reaches the optimiser.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.control.clock import DAY_MS, local
from operators.control.site import Site
from operators.control.tariff import LARGEST_PRICE

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MEDIAN = 4
"""Rows of the 0.5 and the 0.9 quantile."""
PEAK_LEVELS = ((4, 0.5), (7, 0.5))
"""Quantile rows of the load at which a peak is counted, and their weights in its price (docs/decisions/012)."""
LARGEST_KW = 1e6
MOST_SUN = 3.0
"""The sun is not taken to stay brighter than forecast by more than this factor."""
DAY_HOURS = 24
FURTHER_HOURS = 12
"""Looked at beyond the day, in hourly steps, so that the plan does not end with empty batteries."""
STALE_MS = 6 * 3_600_000
"""A forecast that was issued longer ago is not used."""


@dataclass(frozen=True)
class Forecast:
    """Quantiles of mean power by step: nine rows, 0.1 to 0.9."""

    start_ms: int
    """Epoch ms UTC, start of the first step."""
    step_s: int
    load_kw: Floats
    """[9, n] of the site without its controllable assets and without PV."""
    pv_kw: Floats | None = None
    """[9, n], production, positive."""
    issued_at_ms: int = 0
    model_sha256: str = ""


@dataclass(frozen=True)
class Prices:
    """Series of prices on one grid of steps; NaN where not known. Beyond them the day before is repeated."""

    start_ms: int
    step_s: int
    energy: Floats | None = None
    """[n] currency per kWh imported; None: the tariff's."""
    export: Floats | None = None
    """[n] currency per kWh exported; None: the tariff's."""
    carbon: Floats | None = None
    """[n] kg CO2 per kWh imported."""
    import_limit: Floats | None = None
    """[n] kW that the grid operator allows (OpenADR, EEBUS); NaN: no limit."""

    def import_limit_at(self, time_ms: int) -> float | None:
        """The grid operator's limit at a time (epoch ms UTC); None: there is none."""
        step = (time_ms - self.start_ms) // (self.step_s * 1000)
        if self.import_limit is None or not 0 <= step < len(self.import_limit):
            return None
        value = float(self.import_limit[step])
        return value if 0 <= value <= LARGEST_KW else None


@dataclass(frozen=True)
class Outlook:
    """n steps, of whatever lengths, the first of which begins now."""

    start_ms: Ints
    """[n] epoch ms UTC."""
    step_s: Floats
    """[n] seconds."""
    load_kw: Floats
    """[n] median."""
    pv_kw: Floats
    """[n] median of what could be produced."""
    peak_margin_kw: Floats
    """[levels, n] added to the import where a peak is counted."""
    peak_weight: Floats
    """[levels] sum to one."""
    limit_margin_kw: Floats
    """[n] added to the import where a limit is compared."""
    price: Floats
    """[n] currency per kWh imported, carbon's price included."""
    export: Floats
    """[n] currency per kWh exported, never above `price`."""
    carbon: Floats
    """[n] kg CO2 per kWh."""
    month: Ints
    """[n] local calendar month (operators.control.clock)."""
    grid_limit_kw: Floats | None = None
    """[n] the grid operator's limit, infinite where there is none; None: none at all."""
    notes: tuple[str, ...] = field(default=())

    @property
    def hours(self) -> Floats:
        """[n] length of the steps in hours."""
        return self.step_s / 3600.0

    @property
    def end_ms(self) -> int:
        """Epoch ms UTC, end of the last step."""
        return int(self.start_ms[-1] + 1000 * self.step_s[-1])

    def known_now(self, load_kw: float | None, pv_kw: float | None, decay: float) -> Outlook:
        """With what the meters show now: the first step is certain, and the deviation fades step by step.

        Args:
            load_kw: measured load of the current step without assets and PV; None: not measured.
            pv_kw: measured production; None: not measured.
            decay: share of a deviation that is still there an hour later.
        """
        load, pv, margin, limit = self.load_kw, self.pv_kw, self.peak_margin_kw.copy(), self.limit_margin_kw.copy()
        fade = decay ** ((self.start_ms - self.start_ms[0]) / 3_600_000)
        if load_kw is not None and abs(load_kw) <= LARGEST_KW:
            load = load + (load_kw - load[0]) * fade
            margin[:, 0] = limit[0] = 0.0
        if pv_kw is not None and 0 <= pv_kw <= LARGEST_KW:
            # Clouds take a share: what fades is the ratio, and what was dark stays so.
            ratio = min(pv_kw / pv[0], MOST_SUN) if pv[0] > 0 else 1.0
            pv = pv * (1.0 + (ratio - 1.0) * fade)
            pv[0] = pv_kw
        return replace(self, load_kw=load, pv_kw=pv, peak_margin_kw=margin, limit_margin_kw=limit)


def steps(now_ms: int, step_s: int, hours: int = DAY_HOURS, further: int = FURTHER_HOURS) -> tuple[Ints, Floats]:
    """Starts (epoch ms) and lengths (s) of a plan's steps: the rest of the current one, whole ones, hourly ones."""
    size = step_s * 1000
    first = now_ms - now_ms % size
    edges = [now_ms, *range(first + size, first + hours * 3_600_000 + 1, size)]
    coarse = max(size, 3_600_000)
    edges += list(range(edges[-1] + coarse, edges[-1] + further * 3_600_000 + 1, coarse))
    times = np.array(edges, dtype=np.int64)
    return times[:-1], np.diff(times) / 1000.0


def build(site: Site, forecast: Forecast, prices: Prices, now_ms: int, step_s: int = 900) -> Outlook | None:
    """The outlook of a day and a half; None when no load is known to plan with.

    Args:
        site: whose tariff and zone count.
        forecast: what is expected; steps that divide an hour, or whole hours.
        prices: what is known of prices.
        now_ms: epoch ms UTC.
        step_s: seconds of the plan's steps in the first day.
    """
    start_ms, length = steps(now_ms, step_s)
    notes: list[str] = []
    if not -STALE_MS / 6 <= now_ms - forecast.issued_at_ms <= STALE_MS:
        return None
    load = _quantiles(forecast, forecast.load_kw, start_ms, length, "load", notes)
    if load is None:
        return None
    pv = np.zeros_like(load)
    if forecast.pv_kw is not None:
        found = _quantiles(forecast, forecast.pv_kw, start_ms, length, "pv", notes)
        pv = pv if found is None else np.maximum(found, 0.0)
    when = local(start_ms, site.tz)
    energy, export, carbon = price_steps(site, prices, start_ms, length, notes)
    levels = [row for row, _ in PEAK_LEVELS]
    return Outlook(
        start_ms=start_ms,
        step_s=length,
        load_kw=load[MEDIAN],
        pv_kw=pv[MEDIAN],
        peak_margin_kw=np.stack([_margin(load, pv, row) for row in levels]),
        peak_weight=np.array([weight for _, weight in PEAK_LEVELS]),
        limit_margin_kw=_margin(load, pv, round(10 * site.limit_quantile) - 1),
        price=energy,
        export=export,
        carbon=carbon,
        month=when.month,
        grid_limit_kw=_grid_limit(prices, start_ms, length),
        notes=tuple(notes),
    )


def price_steps(
    site: Site, prices: Prices, start_ms: Ints, step_s: Floats, notes: list[str]
) -> tuple[Floats, Floats, Floats]:
    """Import price with carbon's, export price (never above it), and kg CO2 per kWh of each step: [n] each."""
    tariff = site.tariff
    energy = tariff.import_prices(start_ms, site.tz)
    if prices.energy is not None:
        series = _aligned(prices, prices.energy, start_ms, step_s, LARGEST_PRICE)
        energy = np.where(np.isnan(series), energy, series)
    energy = _filled(energy, "price", notes)
    carbon = np.zeros(len(start_ms))
    if prices.carbon is not None:
        carbon = np.maximum(_filled(_aligned(prices, prices.carbon, start_ms, step_s, 10.0), "carbon", notes), 0.0)
    export = np.full(len(start_ms), tariff.export or 0.0)
    if prices.export is not None:
        series = _aligned(prices, prices.export, start_ms, step_s, LARGEST_PRICE)
        export = np.where(np.isnan(series), export, series)
    total = energy + tariff.carbon * carbon
    # Who could buy and sell at once would do so without end.
    return total, np.minimum(export, total), carbon


def _grid_limit(prices: Prices, start_ms: Ints, step_s: Floats) -> Floats | None:
    if prices.import_limit is None or not (prices.import_limit >= 0).any():
        return None
    within = start_ms < prices.start_ms + len(prices.import_limit) * prices.step_s * 1000
    limit = _aligned(prices, prices.import_limit, start_ms, step_s, LARGEST_KW)
    return np.where(within & (limit >= 0), limit, np.inf)


def _margin(load: Floats, pv: Floats, row: int) -> Floats:
    """How much the net load may exceed its median: errors of load and sun are taken as independent."""
    up = load[row] - load[MEDIAN]
    down = pv[MEDIAN] - pv[2 * MEDIAN - row]
    return np.asarray(np.sign(up) * np.hypot(up, down), dtype=np.float64)


def _quantiles(
    forecast: Forecast, values: Floats, start_ms: Ints, step_s: Floats, name: str, notes: list[str]
) -> Floats | None:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] != 2 * MEDIAN + 1:
        notes.append(f"{name}: not nine quantiles, not used")
        return None
    bad = ~(np.abs(values) <= LARGEST_KW)
    usable = ~bad.any(axis=0)
    if usable.mean() < 0.5:
        notes.append(f"{name}: most of the forecast is missing or absurd, not used")
        return None
    if not usable.all():
        notes.append(
            f"{name}: {int((~usable).sum())} steps of the forecast are missing or absurd, taken from the others"
        )
        where = np.arange(values.shape[1])
        values = np.stack([np.interp(where, where[usable], row[usable]) for row in values])
    values = np.sort(values, axis=0)
    grid = Prices(forecast.start_ms, forecast.step_s)
    return _aligned(grid, values, start_ms, step_s, LARGEST_KW)


def _aligned(grid: Prices, values: Any, start_ms: Ints, step_s: Floats, largest: float) -> Floats:
    """Means of stepwise series ([..., m]) over other steps: [..., n].

    Beyond its end the day before is taken; NaN where nothing is known.
    """
    series = np.asarray(values, dtype=np.float64)
    length = series.shape[-1]
    if not length:
        return np.full((*series.shape[:-1], len(start_ms)), np.nan)
    series = np.where(np.abs(series) <= largest, series, np.nan)
    size = grid.step_s * 1000
    day = max(1, DAY_MS // size)
    pieces = np.maximum(1, np.ceil(step_s * 1000 / size)).astype(np.int64)
    first = (start_ms - grid.start_ms) // size
    total, count = np.zeros((*series.shape[:-1], len(start_ms))), np.zeros((*series.shape[:-1], len(start_ms)))
    for piece in range(int(pieces.max())):
        position = first + piece
        position = position - day * (-(-np.maximum(0, position - (length - 1)) // day))
        there = (piece < pieces) & (position >= 0)
        found = series[..., np.where(there, position, 0)]
        good = there & ~np.isnan(found)
        total += np.where(good, found, 0.0)
        count += good
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)


def _filled(values: Floats, name: str, notes: list[str]) -> Floats:
    known = ~np.isnan(values)
    if known.all():
        return values
    notes.append(f"{name}: not known for {int((~known).sum())} of {len(values)} steps")
    if not known.any():
        return np.zeros_like(values)
    where = np.arange(len(values))
    return np.asarray(np.interp(where, where[known], values[known]), dtype=np.float64)
