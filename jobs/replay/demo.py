"""What `energyai demo` replays: the real homes, and beside them generated meters over the same seven weeks."""

from __future__ import annotations

from pathlib import Path

from jobs.replay import fleet, samples
from jobs.replay.sources import Source, merge

SITE = "demo-street"


def source(folder: Path, sim_meters: int = 20) -> Source:
    """`real-home-…` and `sim-…` readings, merged by delivery time.

    Args:
        folder: where the real readings' package is kept; fetched into it if it is not there.
        sim_meters: how many generated meters; 0 for none.

    Raises:
        ReplayError: the package cannot be had.
    """
    real = samples.source(folder)
    return merge([real, fleet.source(spec(sim_meters))]) if sim_meters else real


def spec(sim_meters: int = 20) -> fleet.FleetSpec:
    """The generated part: to generate it again with its truth and its faults, or to list its meters."""
    return fleet.demo_spec(samples.DEMO_START_MS, samples.DEMO_END_MS, sim_meters)


def site() -> str:
    """The homes as one site with a battery in their street, in shadow mode: YAML for `energyai config apply`."""
    homes = ", ".join(samples.METERS)
    return f"""
sites:
  - site_id: {SITE}
    tz: {samples.TZ}
    limit_kw: 30
    mode: shadow
    tariff:
      currency: USD
      energy: [{{from: "16:00", to: "21:00", price: 0.42}}]
      default_price: 0.27
      export_price: 0.05
      demand_charge_per_kw_month: 9
    settings: {{grid_meters: [{homes}], load_meters: [{homes}]}}
assets:
  - asset_id: {SITE}-battery
    site_id: {SITE}
    type: battery
    min_w: -10000
    max_w: 10000
    capacity_wh: 25000
    efficiency: 0.9
"""


def meters(sim_meters: int = 20) -> list[dict[str, object]]:
    """What the topic `meters` should know of them: `meter_id`, `tz`, and `register_max` (kWh; None: no rollover)."""
    found: list[dict[str, object]] = [
        {"meter_id": meter, "site_id": SITE, "tz": samples.TZ, "register_max": None} for meter in samples.METERS
    ]
    if sim_meters:
        generator = fleet.Generator(spec(sim_meters))
        tops = generator.register_max.tolist()
        found += [
            {"meter_id": meter, "tz": generator.spec.place.tz, "register_max": float(top) or None}
            for meter, top in zip(generator.ids.tolist(), tops, strict=True)
        ]
    return found
