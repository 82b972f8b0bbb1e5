"""A site's surroundings as the planner wants them: which meters count, forecasts summed, what demand response says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.control.clock import DAY_MS
from operators.control.outlook import Forecast, Prices
from operators.control.site import Site
from operators.control.site_json import SiteError, read_site
from operators.control_lifecycle.dr_book import DrBook
from operators.control_lifecycle.timeline import WHOLE_SITE, SiteConstraints, constraints
from operators.control_site.feeds import MeterForecast
from operators.control_site.past import Past

SLOT_S = 900
DAYS_KNOWN = 3
"""Prices and limits are laid out for yesterday, today and tomorrow: what is missing today is taken from yesterday."""
DIGITS = 6


@dataclass(frozen=True)
class Place:
    """A site and its meters, as the topics `sites` and `meters` have them."""

    raw: Mapping[str, Any]
    site: Site
    grid_meters: tuple[str, ...]
    """At the connection: together they measure the import."""
    load_meters: tuple[str, ...]
    """Together they measure the load without the devices; empty: nothing does, and it is worked out."""

    @property
    def forecast_meters(self) -> tuple[str, ...]:
        """Whose forecasts are summed."""
        return self.load_meters or self.grid_meters


def place_of(raw: Mapping[str, Any], meters: Mapping[str, Mapping[str, Any]]) -> Place:
    """A site that can be controlled.

    `settings.grid_meters` and `settings.load_meters` name meters; without them the grid's are the site's electricity
    meters that have no parent in it.

    Args:
        raw: a message of topic `sites`.
        meters: messages of topic `meters`, by id.

    Raises:
        SiteError: it contradicts itself, or has no meter.
    """
    site = read_site(raw)
    settings = raw.get("settings") if isinstance(raw.get("settings"), Mapping) else {}
    names = _names(raw.get("meters"))
    load = _names((settings or {}).get("load_meters"))
    grid = _names((settings or {}).get("grid_meters"))
    if not grid:
        parents = {name: meters.get(name, {}).get("parent_meter_id") for name in names}
        electric = [n for n in names if meters.get(n, {}).get("commodity") in (None, "electricity")]
        grid = tuple(name for name in electric if parents[name] not in names and name not in load)
    if not grid:
        raise SiteError("no electricity meter: give the site one, or name them in settings.grid_meters")
    return Place(raw, site, grid, load)


def summed(
    forecasts: Mapping[str, MeterForecast], meters: Iterable[str], past: Past, *, without_devices: bool
) -> Forecast | None:
    """The load's forecast out of its meters'; None when one of them has none.

    Quantiles are added as they are: high ones are reached together, which is on the safe side.

    Args:
        forecasts: the newest by meter.
        meters: to be summed.
        past: for what the devices usually take.
        without_devices: the meters measure the devices too: take off what they usually take.
    """
    wanted = list(meters)
    if not wanted or any(meter not in forecasts for meter in wanted):
        return None
    parts = [forecasts[meter] for meter in wanted]
    step_s = min(part.step_s for part in parts)
    start = max(part.start_ms for part in parts)
    start += -start % (step_s * 1000)
    rows = []
    for part in parts:
        fine = np.repeat(part.kw, part.step_s // step_s, axis=1)
        rows.append(fine[:, (start - part.start_ms) // (step_s * 1000) :])
    n = min(row.shape[1] for row in rows)
    if n <= 0:
        return None
    load = np.asarray(sum(row[:, :n] for row in rows))
    if without_devices:
        load = load - past.usual_devices_kw(start + np.arange(n, dtype=np.int64) * step_s * 1000, step_s)
    issued = min(part.issued_at_ms for part in parts)
    return Forecast(
        start, step_s, np.round(load, DIGITS), issued_at_ms=issued, model_sha256=parts[0].model_sha256
    )  # fmt: skip


def signals(book: DrBook, place: Place, now_ms: int) -> tuple[Prices, SiteConstraints | None]:
    """What demand response says of prices, carbon and limits; the rest is the tariff's.

    Args:
        book: all events.
        place: the site; its groups are the site's `settings.groups`.
        now_ms: epoch ms UTC.
    """
    start = now_ms - now_ms % (SLOT_S * 1000) - DAY_MS
    if not book.events():
        return Prices(start, SLOT_S), None
    settings = place.raw.get("settings")
    groups = _names(settings.get("groups")) if isinstance(settings, Mapping) else ()
    found = constraints(
        book, place.site.site_id, start, SLOT_S, DAYS_KNOWN * 96, assets=list(place.site.by_id), groups=groups
    )
    limit = found.import_limit_kw
    whole = found.dispatch_w.get(WHOLE_SITE)
    if whole is not None:
        # A dispatch of the whole site is a limit on what it draws.
        limit = np.fmin(limit, np.maximum(whole, 0.0) / 1000)
    series = [found.price, found.export_price, found.kg_co2_per_kwh, limit]
    return Prices(start, SLOT_S, *(_known(values) for values in series)), found


def dispatched(found: SiteConstraints | None, site: Site, now_ms: int) -> dict[str, float]:
    """Assets that an event dispatches now, kW, within their bounds."""
    if found is None:
        return {}
    step = (now_ms - found.start_ms) // (found.step_s * 1000)
    result = {}
    for name, watts in found.dispatch_w.items():
        asset = site.by_id.get(name)
        if asset is not None and 0 <= step < len(watts) and np.isfinite(watts[step]):
            result[name] = min(max(float(watts[step]) / 1000, asset.min_kw), asset.max_kw)
    return result


def in_shadow(site: Site) -> Site:
    """The same, never acted on."""
    return replace(site, mode="shadow")


def _known(values: NDArray[np.float64]) -> NDArray[np.float64] | None:
    return np.round(values, DIGITS) if np.isfinite(values).any() else None


def _names(value: Any) -> tuple[str, ...]:
    entries: Sequence[Any] = value if isinstance(value, list | tuple) else [] if value is None else [value]
    return tuple(dict.fromkeys(str(entry) for entry in entries if isinstance(entry, str) and entry))
