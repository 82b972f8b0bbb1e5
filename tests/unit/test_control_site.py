"""Sites and tariffs from the topic's JSON: liberal in what is left out, strict in what contradicts itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from operators.control.clock import minute_of_day, weekdays
from operators.control.site_json import SiteError, read_site
from operators.control.tariff import Tariff, TariffError
from tests.unit.control_support import battery, site


def ms(*times: str) -> list[int]:
    return [int(pd.Timestamp(time, tz="UTC").value // 1_000_000) for time in times]


def test_the_contracts_own_keys_are_enough() -> None:
    here = read_site(
        {
            "site_id": "hq",
            "tz": "Europe/Berlin",
            "meters": ["main"],
            "limit_kw": 50,
            "tariff": {},
            "mode": "live",
            "assets": [
                {
                    "asset_id": "b", "type": "battery", "min_w": -4200, "max_w": 4200, "ramp_w_per_s": 50,
                    "capacity_wh": 10_000, "efficiency": 0.9, "priority": 2,
                },
                {"asset_id": "e", "type": "ev", "min_w": 0, "max_w": 11_000, "capacity_wh": 60_000, "efficiency": None},
                {"asset_id": "f", "type": "flexible_load", "min_w": None, "max_w": 3_000},
            ],
        }
    )  # fmt: skip
    b, e, f = here.assets
    assert (b.min_kw, b.max_kw, b.ramp_kw_per_s, b.high_kwh, b.initial_kwh) == (-4.2, 4.2, 0.05, 10.0, 5.0)
    assert [(n.begin, n.end, n.kwh) for n in e.needs] == [(18 * 60, 7 * 60, 30.0)]
    assert (f.min_kw, f.max_kw, f.needs) == (0.0, 3.0, ())
    assert (here.mode, here.limit_kw, here.notes) == ("live", 50.0, ())


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"tz": "Mars/Base"}, "no time zone 'Mars/Base'"),
        ({"limit_kw": float("nan")}, "limit_kw: nan is no number"),
        ({"limit_kw": -1}, "limit_kw: -1 is outside"),
        ({"limit_kw": True}, "limit_kw: True is no number"),
        ({"tariff": [1]}, "tariff: [1] is not an object"),
        ({"tariff": {"energy": "dear"}}, "energy: 'dear' is no price"),
        ({"assets": {}}, "assets: expected a list"),
        ({"assets": ["b"]}, "entry 1: expected an object"),
        ({"assets": [{"asset_id": "b", "type": "boiler"}]}, "type 'boiler'"),
        ({"assets": [battery(), battery()]}, "asset_id is there twice"),
        ({"assets": [battery(capacity_wh=None)]}, "asset battery: capacity_wh is missing"),
        ({"assets": [battery(min_w=20_000)]}, "min_w 20000 and max_w 10000 do not fit"),
        ({"assets": [battery(efficiency=1.2)]}, "efficiency: 1.2 is outside"),
        ({"assets": [battery(soc_min=0.8, soc_max=0.2)]}, "soc_min 0.8 is not below"),
        ({"assets": [{"asset_id": "e", "type": "ev"}]}, "max_w is missing"),
        (
            {"assets": [{"asset_id": "e", "type": "ev", "max_w": 1, "energy_wh": 5, "ready_by": "7.30"}]},
            "no time of day",
        ),
        ({"mode": "auto"}, "use shadow or live"),
    ],
)
def test_what_contradicts_itself_is_refused_in_one_line(raw: dict[str, Any], says: str) -> None:
    with pytest.raises(SiteError) as caught:
        read_site({"site_id": "hq", **raw})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_problems_are_said_at_once() -> None:
    with pytest.raises(SiteError, match=r"limit_kw.*; asset battery: efficiency|asset battery.*limit_kw"):
        read_site({"limit_kw": -1, "assets": [battery(efficiency=2)]})


def test_prices_by_time_of_use_are_local_and_the_first_that_fits_counts() -> None:
    tariff = Tariff.read(
        {
            "energy": [
                {"from": "07:00", "to": "20:00", "days": "mon-fri", "price": 0.4},
                {"from": "20:00", "to": "07:00", "price": 0.2},
            ],
            "default_price": 0.3,
        }
    )
    # Friday and Saturday in July: Berlin is two hours ahead.
    times = ms("2021-07-02T04:59", "2021-07-02T05:00", "2021-07-02T18:00", "2021-07-03T10:00")
    assert tariff.import_prices(times, "Europe/Berlin").tolist() == [0.2, 0.4, 0.2, 0.3]


@pytest.mark.parametrize(
    ("raw", "price", "demand", "carbon"),
    [
        ({"energy_per_kwh": 0.31, "capacity_per_kw_month": 9.5}, 0.31, 9.5, 0.0),
        ({"energy": 0.2, "demand_charge_per_kw_month": 4, "carbon_price_per_kg": 0.1}, 0.2, 4.0, 0.1),
        ({"price": {"price": 0.1}, "carbon_price_per_t": 80}, 0.1, 0.0, 0.08),
    ],
)
def test_names_that_others_use_are_understood(raw: dict[str, Any], price: float, demand: float, carbon: float) -> None:
    tariff = Tariff.read(raw)
    assert tariff.import_prices([0], "UTC").tolist() == [price]
    assert (tariff.demand, tariff.carbon, tariff.notes) == (demand, carbon, ())


def test_what_is_not_understood_is_said_and_no_price_is_nan() -> None:
    tariff = Tariff.read({"standing_charge": 12})
    assert tariff.notes == ("tariff: standing_charge is not understood and not used",)
    assert np.isnan(tariff.import_prices([0, 1], "UTC")).all()


@pytest.mark.parametrize(
    "raw", [{"energy": 250}, {"energy": [{"price": None}]}, {"energy": [3]}, {"demand_charge": -1}]
)
def test_prices_of_other_units_are_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(TariffError, match="tariff: "):
        Tariff.read(raw)


def test_daily_needs_are_local_and_go_over_midnight_and_clock_changes() -> None:
    ev = {"asset_id": "e", "type": "ev", "max_w": 1, "energy_wh": 9_000, "arrives": "18:00", "ready_by": "06:30",
          "days": "mon-fri"}  # fmt: skip
    asset = site(ev).assets[0]
    start, end = ms("2021-10-29T00:00", "2021-11-01T12:00")
    found = [(w.start_ms, w.end_ms) for w in asset.windows(start, end, "Europe/Berlin")]
    # Thursday evening's and Friday evening's; none at the weekend (the clock changes on Sunday).
    assert found == [
        tuple(ms("2021-10-28T16:00", "2021-10-29T04:30")),
        tuple(ms("2021-10-29T16:00", "2021-10-30T04:30")),
    ]


def test_days_and_times() -> None:
    assert weekdays("weekends") == (5, 6)
    assert weekdays([0, "Tuesday"]) == (0, 1)
    assert minute_of_day("24:00") == 1440
    for wrong in ("24:01", "7h", "12:60", ""):
        with pytest.raises(ValueError, match="time of day"):
            minute_of_day(wrong)
    with pytest.raises(ValueError, match="no day"):
        weekdays("someday")
