"""What a site could do, out of its recorded year: battery size, contract limit, tariff, base load, worst hours.

Each is a counterfactual on the same series that `energyai simulate` reads: this much energy, cost and carbon a year,
and how it was computed. A battery's worth is what perfect foresight would save with it, and, of the one that is
proposed, what the planner itself does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.simulation.folder import SLOT_S, Case
from jobs.simulation.run import Outcome, simulate
from operators.control.clock import local
from operators.control.site import BATTERY, Asset, Site
from operators.control.tariff import Tariff
from operators.forecaster import Forecaster

Floats = NDArray[np.float64]
Progress = Callable[[str], None]

SIZES = ((0.1, 2.0), (0.1, 4.0), (0.25, 2.0), (0.25, 4.0), (0.5, 2.0), (0.5, 4.0))
"""Batteries that are tried: power as a share of the highest load, and hours at that power."""
EFFICIENCY = 0.9
WORTH_IT = 0.5
"""The largest battery is proposed of which each kWh saves at least this share of what the best one's does."""
NIGHT = (1 * 60, 5 * 60)
LIMIT_MARGIN = 1.05
WORST_HOURS = 20
SHAVED_HOURS = 5
YEAR_S = 365.25 * 86_400
HOUR = SLOT_S / 3600


@dataclass(frozen=True)
class Recommendation:
    """One thing to do. Per year; negative saves nothing but costs."""

    kind: str
    what: str
    kwh: float
    """Less energy imported."""
    cost: float | None
    """Less paid, in the tariff's currency; None: the site's tariff has no price for it."""
    kg_co2: float
    how: str


def recommend(
    case: Case, raw_site: Mapping[str, Any], model: Forecaster | None, say: Progress = lambda text: None
) -> list[Recommendation]:
    """Recommendations for a recorded case, the one that saves most first.

    Args:
        case: from `jobs.simulation.folder.read`.
        raw_site: its site.json; `alternatives` is a list of `{"name", "tariff"}` to compare with.
        model: for the planner on the proposed battery; None: foresight alone.
        say: told what is being computed.

    Raises:
        TariffError: an alternative that is no tariff.
        SolverError: foresight's optimum cannot be found.
    """
    yearly = YEAR_S / (len(case.start_ms) * SLOT_S)
    say("the site as it is")
    base, trace = simulate(case, ["none"], None, lambda name, done: None)["none"]
    found = [
        *_battery(case, base, yearly, model, say),
        *_limit(case, trace.import_kw, yearly),
        *_tariffs(case, raw_site, trace.import_kw, yearly),
        _base_load(case, yearly),
        _worst(case, trace.import_kw, yearly),
    ]
    return sorted(found, key=lambda one: -(one.cost or 0.0))


def _battery(case: Case, base: Outcome, yearly: float, model: Forecaster | None, say: Progress) -> list[Recommendation]:
    """The battery beyond which another kWh saves little."""
    highest = float(case.load_kw.max())
    tried: list[tuple[float, float, Case, Outcome]] = []
    for share, hours in SIZES:
        say(f"a battery of {share:.0%} of the highest load and {hours:g} hours")
        kw = share * highest
        with_it = replace(case, site=_with_battery(case.site, kw, kw * hours))
        outcome = simulate(with_it, ["foresight"], None, lambda name, done: None)["foresight"][0]
        tried.append((kw, kw * hours, with_it, outcome))
    per_kwh = [(base.cost - outcome.cost) / kwh for _, kwh, _, outcome in tried]
    best = max(per_kwh)
    if best <= 0:
        return []
    good = [one for one, worth in zip(tried, per_kwh, strict=True) if worth >= WORTH_IT * best]
    kw, kwh, chosen, outcome = max(good, key=lambda one: base.cost - one[3].cost)
    how = f"perfect foresight on the recorded series saves {(base.cost - outcome.cost) * yearly:,.0f} a year with it"
    if model is not None:
        say("the planner with the battery that is proposed")
        outcome = simulate(chosen, ["energyai"], model, lambda name, done: None)["energyai"][0]
        how += "; the figures are what the planner, which does not know the future, saves (energyai simulate)"
    how += f"; of {len(SIZES)} sizes the largest whose kWh each save {WORTH_IT:.0%} of the best one's"
    how += "; wear counted, purchase not"
    return [
        Recommendation(
            "battery",
            f"add a battery of {kw:.0f} kW and {kwh:.0f} kWh",
            (base.import_kwh - outcome.import_kwh) * yearly,
            (base.cost - outcome.cost) * yearly,
            (base.kg_co2 - outcome.kg_co2) * yearly,
            how,
        )
    ]


def _limit(case: Case, import_kw: Floats, yearly: float) -> list[Recommendation]:
    peaks = _month_peaks(case, import_kw)
    wanted = float(np.ceil(peaks.max() * LIMIT_MARGIN))
    have = case.site.limit_kw
    if have is None or abs(have - wanted) < 0.02 * wanted:
        return []
    over = int((import_kw > have + 1e-6).sum())
    word = "lower" if have > wanted else "raise"
    how = (
        f"highest quarter hour {peaks.max():.1f} kW with {LIMIT_MARGIN - 1:.0%} above it; the agreed {have:g} kW were "
        f"exceeded in {over} quarter hours; what a kW of capacity costs is not in the tariff"
    )
    return [
        Recommendation(
            "contract_limit", f"{word} the contract limit from {have:g} to {wanted:g} kW", 0.0, None, 0.0, how
        )
    ]


def _tariffs(case: Case, raw_site: Mapping[str, Any], import_kw: Floats, yearly: float) -> list[Recommendation]:
    """Every alternative that costs less, with the load as it is."""
    now = _bill(case, import_kw, case.price, case.export, case.site.tariff)
    offers = [
        (str(one.get("name") or f"alternative {k}"), Tariff.read(one.get("tariff")))
        for k, one in enumerate(raw_site.get("alternatives") or [], 1)
    ]
    found = []
    for name, tariff in offers:
        price = tariff.import_prices(case.start_ms, case.site.tz)
        price = np.where(np.isfinite(price), price, case.price)
        export = np.full(len(price), tariff.export) if tariff.export is not None else case.export
        cost = _bill(case, import_kw, price, export, tariff)
        if cost < now:
            bills = f"{cost * yearly:,.0f} instead of {now * yearly:,.0f} a year"
            how = f"the recorded imports and exports billed by it: {bills}"
            found.append(Recommendation("tariff", f"change to {name}", 0.0, (now - cost) * yearly, 0.0, how))
    return found


def _base_load(case: Case, yearly: float) -> Recommendation:
    """Nights as low as the best tenth of them."""
    when = local(case.start_ms, case.site.tz)
    night = (when.minute >= NIGHT[0]) & (when.minute < NIGHT[1]) & case.known
    day = case.start_ms // 86_400_000
    numbers, where = np.unique(day[night], return_inverse=True)
    means = np.bincount(where, case.load_kw[night]) / np.maximum(np.bincount(where), 1)
    usual, best = (float(np.quantile(means, q)) for q in (0.5, 0.1)) if len(numbers) else (0.0, 0.0)
    kwh = (usual - best) * YEAR_S / 3600
    how = (
        f"load from 01:00 to 05:00: {usual:.1f} kW in the median night, {best:.1f} kW in the best tenth; the "
        "difference in all hours, at the mean price and carbon"
    )
    cost = kwh * float(case.cost_price.mean())
    return Recommendation(
        "base_load",
        f"bring the base load from {usual:.1f} to {best:.1f} kW",
        kwh,
        cost,
        kwh * float(case.carbon.mean()),
        how,
    )


def _worst(case: Case, import_kw: Floats, yearly: float) -> Recommendation:
    """What the highest hours of each month cost, and when they are."""
    demand = case.site.tariff.demand
    saved, kwh, kg = 0.0, 0.0, 0.0
    for month in np.unique(case.month):
        inside = case.month == month
        power = np.sort(import_kw[inside])[::-1]
        level = float(power[min(SHAVED_HOURS * 4, len(power) - 1)])
        over = np.maximum(import_kw[inside] - level, 0.0) * HOUR
        saved += (float(power[0]) - level) * demand + float((over * case.cost_price[inside]).sum())
        kwh += float(over.sum())
        kg += float((over * case.carbon[inside]).sum())
    cost = import_kw * HOUR * case.cost_price
    hours = np.argsort(-cost)[: WORST_HOURS * 4]
    when = local(case.start_ms[hours], case.site.tz)
    usual = int(np.median(when.minute))
    how = (
        f"in each month the import above the level that is exceeded in {SHAVED_HOURS} hours, with its demand charge; "
        f"the {WORST_HOURS} dearest hours cost {float(cost[hours].sum()):,.0f} together, around "
        f"{usual // 60:02d}:{usual % 60:02d} local time"
    )
    return Recommendation(
        "worst_hours", f"avoid what is above the {SHAVED_HOURS} highest hours' level of each month", kwh * yearly,
        saved * yearly, kg * yearly, how,
    )  # fmt: skip


def _bill(case: Case, import_kw: Floats, price: Floats, export: Floats, tariff: Tariff) -> float:
    bought, sold = np.maximum(import_kw, 0.0) * HOUR, np.maximum(-import_kw, 0.0) * HOUR
    energy = float((bought * price - sold * export).sum())
    return (
        energy
        + tariff.demand * float(_month_peaks(case, import_kw).sum())
        + tariff.carbon * float((bought * case.carbon).sum())
    )


def _month_peaks(case: Case, import_kw: Floats) -> Floats:
    return np.array([max(0.0, float(import_kw[case.month == month].max())) for month in np.unique(case.month)])


def _with_battery(site: Site, kw: float, kwh: float) -> Site:
    name = "proposed-battery"
    battery = Asset(
        name, BATTERY, -kw, kw, capacity_kwh=kwh, efficiency=EFFICIENCY, high_kwh=kwh, initial_kwh=kwh / 2,
        wear=site.tariff.wear,
    )  # fmt: skip
    return replace(site, assets=(*site.assets, battery))


def as_dicts(found: list[Recommendation]) -> list[dict[str, Any]]:
    """For JSON."""
    return [
        {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(one).items()}
        for one in found
    ]


def told(found: list[Recommendation], currency: str) -> list[str]:
    """For a person."""
    lines = []
    for one in found:
        cost = "not priced" if one.cost is None else f"{one.cost:,.0f} {currency}"
        lines.append(f"{one.what}: {cost}, {one.kwh:,.0f} kWh, {one.kg_co2:,.0f} kg CO2 a year")
        lines.append(f"    {one.how}")
    return lines
