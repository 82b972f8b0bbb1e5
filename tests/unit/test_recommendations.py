"""Recommendations from a small recorded site, of which the right ones are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.reports.recommendations import Recommendation, recommend, told
from jobs.simulation.folder import read

DAYS = 28


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recommendation]:
    folder: Path = tmp_path_factory.mktemp("site")
    hours = pd.date_range("2021-01-04", periods=24 * DAYS, freq="h", tz="UTC")
    load = np.where((hours.hour >= 8) & (hours.hour < 18), 60.0, 20.0) + (hours.hour == 12) * 25.0
    # One night in five somebody turned everything off.
    load = np.where((hours.day % 5 == 0) & (hours.hour < 6), 10.0, load)
    pd.DataFrame({"load_kwh": load, "carbon": 0.3}, index=hours).to_parquet(folder / "series.parquet")
    site = {
        "site_id": "small", "tz": "UTC", "limit_kw": 200,
        "tariff": {"energy": [{"from": "08:00", "to": "18:00", "price": 0.4}], "default_price": 0.15,
                   "demand_charge_per_kw_month": 12, "wear_per_kwh": 0.01},
        "alternatives": [{"name": "dear", "tariff": {"energy": 0.9}}, {"name": "flat", "tariff": {"energy": 0.2}}],
    }  # fmt: skip
    (folder / "site.json").write_text(json.dumps(site))
    return {f"{one.kind}:{one.what}": one for one in recommend(read(folder), site, None)}


def one_of(found: dict[str, Recommendation], kind: str) -> Recommendation:
    (one,) = [value for value in found.values() if value.kind == kind]
    return one


def test_the_cheaper_tariff_is_named_and_the_dearer_is_not(found: dict[str, Recommendation]) -> None:
    tariff = one_of(found, "tariff")
    assert "flat" in tariff.what
    assert tariff.cost is not None
    assert tariff.cost > 0


def test_the_base_load_is_compared_with_the_best_nights(found: dict[str, Recommendation]) -> None:
    base = one_of(found, "base_load")
    assert base.kwh == pytest.approx(10.0 * 8766, rel=0.01)
    assert base.kg_co2 == pytest.approx(base.kwh * 0.3, rel=0.01)


def test_the_limit_is_set_above_the_highest_quarter_hour(found: dict[str, Recommendation]) -> None:
    limit = one_of(found, "contract_limit")
    assert "lower the contract limit from 200 to 90 kW" in limit.what
    assert limit.cost is None


def test_a_battery_pays_and_each_says_how_it_was_computed(found: dict[str, Recommendation]) -> None:
    battery = one_of(found, "battery")
    assert battery.cost is not None
    assert battery.cost > 0
    assert all(one.how for one in found.values())
    assert len(told(list(found.values()), "EUR")) == 2 * len(found)
