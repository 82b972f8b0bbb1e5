"""What energy costs a site: by time of use or by a series of prices, with demand charge, carbon and export price."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from operators.control.clock import in_span, local, minute_of_day, weekdays

Floats = NDArray[np.float64]

LARGEST_PRICE = 100.0
"""Currency per kWh (or kg) beyond which a price is a mistake of units, not a price."""

ENERGY = (
    "energy",
    "energy_per_kwh",
    "energy_price",
    "import_price",
    "import_per_kwh",
    "price",
    "price_per_kwh",
    "rates",
)
EXPORT = ("export_price", "export_per_kwh", "export", "feed_in", "feed_in_per_kwh")
DEMAND = (
    "demand_charge_per_kw_month",
    "capacity_per_kw_month",
    "demand_per_kw_month",
    "demand_charge",
    "demand_charge_per_kw",
    "peak_price_per_kw_month",
)
CARBON = ("carbon_price_per_kg", "carbon_per_kg", "carbon_price", "co2_price_per_kg")
CARBON_TONNE = ("carbon_price_per_t", "carbon_price_per_tonne", "carbon_per_t", "co2_price_per_t")
WEAR = ("wear_per_kwh", "battery_wear_per_kwh")
PRICE_KEYS = ("price", "per_kwh", "price_per_kwh", "rate", "value")
IGNORED = ("currency", "name", "note", "type")


class TariffError(ValueError):
    """A tariff that cannot be understood; one line that names the key and what to write."""


@dataclass(frozen=True)
class Period:
    """A price that holds on some days from one time of day to another, local time."""

    begin: int
    """Minute of the day."""
    end: int
    """Minute of the day, exclusive; not after `begin`: over midnight."""
    days: tuple[int, ...]
    months: tuple[int, ...]
    price: float
    """Currency per kWh."""


@dataclass(frozen=True)
class Tariff:
    """A checked tariff. Prices are in `currency` per kWh, kW (and month) or kg."""

    currency: str = "EUR"
    periods: tuple[Period, ...] = ()
    """The first that fits a time gives its price."""
    flat: float | None = None
    """Where no period fits; None: there a series of prices is needed."""
    export: float | None = None
    demand: float = 0.0
    """Per kW of each calendar month's highest quarter hour of import."""
    carbon: float = 0.0
    """Per kg of CO2."""
    wear: float = 0.0
    """Per kWh through a battery's terminals, either way; an asset's own setting goes before it."""
    notes: tuple[str, ...] = field(default=())
    """Keys that were not understood and are not used."""

    @classmethod
    def read(cls, raw: Mapping[str, Any] | None) -> Self:
        """A tariff from the topic `sites`' JSON. All keys may be missing; docs/control.md lists them.

        Raises:
            TariffError: a value that is no price, or a period that is no period.
        """
        raw = dict(raw or {})
        energy = _first(raw, ENERGY)
        periods: tuple[Period, ...] = ()
        flat: float | None = None
        if isinstance(energy, Mapping):
            energy = energy.get("periods", [{**energy}])
        if isinstance(energy, list | tuple):
            periods = tuple(_period(item, number) for number, item in enumerate(energy, 1))
        elif energy is not None:
            flat = _price("energy", energy)
        default = _first(raw, ("default_price", "default", "otherwise", "off_peak"))
        if default is not None:
            flat = _price("default_price", default)
        tonne = _first(raw, CARBON_TONNE)
        carbon = _first(raw, CARBON)
        export = _first(raw, EXPORT)
        used = {*ENERGY, *EXPORT, *DEMAND, *CARBON, *CARBON_TONNE, *WEAR, *IGNORED}
        used |= {"default_price", "default", "otherwise", "off_peak"}
        return cls(
            currency=str(raw.get("currency") or "EUR"),
            periods=periods,
            flat=flat,
            export=None if export is None else _price("export_price", export),
            demand=_amount(DEMAND[0], _first(raw, DEMAND)),
            carbon=_amount(CARBON[0], carbon) if carbon is not None else _amount(CARBON_TONNE[0], tonne) / 1000,
            wear=_amount(WEAR[0], _first(raw, WEAR)),
            notes=tuple(f"tariff: {key} is not understood and not used" for key in raw if key not in used),
        )

    def import_prices(self, starts_ms: Any, tz: str) -> Floats:
        """Price of each step by time of use.

        Args:
            starts_ms: [n] epoch ms UTC, start of the steps.
            tz: the site's IANA zone; periods are local times.

        Returns:
            [n] currency per kWh; NaN where the tariff says nothing.
        """
        result = np.full(len(starts_ms), np.nan if self.flat is None else self.flat)
        if not self.periods:
            return result
        when = local(starts_ms, tz)
        open_ = np.ones(len(result), dtype=bool)
        for period in self.periods:
            fits = open_ & in_span(when.minute, period.begin, period.end)
            fits &= np.isin(when.weekday, period.days) & np.isin(when.month_of_year, period.months)
            result[fits] = period.price
            open_ &= ~fits
        return result


def _first(raw: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((raw[name] for name in names if raw.get(name) is not None), None)


def _price(name: str, value: Any) -> float:
    if isinstance(value, Mapping):
        value = _first(value, PRICE_KEYS)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TariffError(f"tariff: {name}: {value!r} is no price: write a number, currency per kWh")
    if abs(value) > LARGEST_PRICE:
        raise TariffError(
            f"tariff: {name}: {value:g} per kWh is no usable price: write it per kWh, not per MWh or in cents"
        )
    return float(value)


def _amount(name: str, value: Any) -> float:
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e6:
        raise TariffError(f"tariff: {name}: {value!r} is no usable amount: write a number, 0 or more")
    return float(value)


def _period(item: Any, number: int) -> Period:
    where = f"tariff: energy, entry {number}"
    if not isinstance(item, Mapping):
        raise TariffError(f'{where}: {item!r} is no period: write {{"from": "07:00", "to": "20:00", "price": 0.3}}')
    price = _first(item, PRICE_KEYS)
    if price is None:
        raise TariffError(f"{where}: no price: add one, currency per kWh")
    try:
        begin = minute_of_day(str(_first(item, ("from", "start", "begin")) or "00:00"))
        end = minute_of_day(str(_first(item, ("to", "end", "until")) or "24:00"))
        days = weekdays(item.get("days"))
        months = tuple(int(month) for month in item.get("months") or range(1, 13))
    except (TypeError, ValueError) as error:
        raise TariffError(f"{where}: {error}") from error
    return Period(begin % 1440, end, days, months, _price(f"energy, entry {number}", price))
