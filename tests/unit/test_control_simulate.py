"""`energyai simulate`: folders as people have them, and policies that know only what they may."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jobs import cli
from jobs.errors import UserError
from jobs.simulation.controllers import EnergyAI
from jobs.simulation.folder import Case, read
from jobs.simulation.forecasts import Forecasts
from jobs.simulation.run import _run, as_dict, simulate
from operators.forecaster import Forecaster
from tests.unit.control_support import battery

DAYS = 9


@pytest.fixture(scope="module")
def model() -> Forecaster:
    return Forecaster.load()


def series(days: int = DAYS, step: str = "1h", seed: int = 0) -> pd.DataFrame:
    index = pd.date_range("2021-03-20", periods=int(pd.Timedelta(days=days) / pd.Timedelta(step)), freq=step, tz="UTC")
    hours = index.hour + index.minute / 60
    share = pd.Timedelta(step) / pd.Timedelta("1h")
    noise = np.random.default_rng(seed).normal(0, 2, len(index))
    load = 40 + 25 * np.clip(np.sin((hours - 7) / 24 * 2 * np.pi), 0, None) * (index.weekday < 5) + noise
    return pd.DataFrame(
        {
            "load_kwh": load * share,
            "price": 0.2 + 0.1 * np.sin((hours - 12) / 24 * 2 * np.pi),
            "carbon": 0.2 + 0.05 * np.cos(hours / 24 * 2 * np.pi),
            "pv_kwh": 8 * np.clip(np.sin((hours - 6) / 24 * 2 * np.pi), 0, None) * share,
        },
        index=index,
    )


def folder(path: Path, frame: pd.DataFrame | None = None, **site: Any) -> Path:
    path.mkdir(exist_ok=True)
    message = {
        "site_id": "hq",
        "tz": "Europe/London",
        "limit_kw": 75,
        "tariff": {
            "currency": "GBP",
            "demand_charge_per_kw_month": 10,
            "carbon_price_per_kg": 0.1,
            "export_price": 0.05,
        },
        "assets": [battery(ramp_w_per_s=200)],
        **site,
    }
    (path / "site.json").write_text(json.dumps(message))
    (series() if frame is None else frame).to_parquet(path / "series.parquet")
    return path


def test_all_policies_run_and_the_last_line_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assets = [
        battery(ramp_w_per_s=200),
        {"asset_id": "ev", "type": "ev", "max_w": 11_000, "energy_wh": 20_000, "priority": 3},
        {
            "asset_id": "pump",
            "type": "flexible_load",
            "max_w": 4_000,
            "energy_wh": 8_000,
            "min_run_s": 3600,
            "min_rest_s": 1800,
        },
    ]
    picture = tmp_path / "out.svg"
    code = cli.main(["simulate", str(folder(tmp_path / "f", assets=assets)), "--json", "--plot", str(picture)])
    out = capsys.readouterr().out
    assert code == 0
    found = json.loads(out.strip().splitlines()[-1])
    assert len(out.strip().splitlines()) == 1
    assert list(found) == ["none", "rule", "foresight", "energyai"]
    for name, one in found.items():
        assert {"cost", "peak_kw", "kg_co2", "bound_violations", "limit_exceeded_share"} <= set(one)
        assert one["bound_violations"] == 0, name
        assert one["unmet_kwh"] == pytest.approx(0.0, abs=0.2), name
    assert found["foresight"]["cost"] <= min(one["cost"] for one in found.values()) + 1e-6
    assert found["energyai"]["cost"] < found["none"]["cost"]
    assert found["energyai"]["limit_exceeded_share"] <= 0.01
    assert picture.read_text().startswith("<?xml")


def test_energyai_knows_nothing_of_what_comes(tmp_path: Path, model: Forecaster) -> None:
    case = read(folder(tmp_path))
    changed = 8 * 96
    later = np.arange(len(case.start_ms)) >= changed
    other = replace(
        case,
        load_kw=np.where(later, 3.0, case.load_kw),
        pv_kw=np.where(later, 20.0, case.pv_kw),
        # Prices are known a day ahead.
        price=np.where(np.arange(len(later)) >= changed + 96, 5.0, case.price),
    )
    one, two = (_run(c, EnergyAI(c, Forecasts(c, model)), lambda done: None).asset_kw["battery"] for c in (case, other))
    assert one[:changed].tolist() == two[:changed].tolist()
    assert one[changed:].tolist() != two[changed:].tolist()


def test_the_bill_adds_up(tmp_path: Path) -> None:
    case = read(
        folder(
            tmp_path,
            pd.DataFrame(
                {"load_kwh": [10.0, 30.0, 20.0, 20.0]},
                index=pd.date_range("2021-01-01", periods=4, freq="1h", tz="UTC"),
            ),
            assets=[],
            tariff={"energy": 0.5, "demand_charge_per_kw_month": 2},
        )
    )
    (outcome, trace) = simulate(case, ["none"], None, lambda name, done: None)["none"]
    assert (outcome.energy_cost, outcome.demand_cost, outcome.cost) == pytest.approx((40.0, 60.0, 100.0))
    assert (outcome.peak_kw, outcome.import_kwh, outcome.limit_exceeded_share) == pytest.approx((30.0, 80.0, 0.0))
    assert len(trace.import_kw) == 16
    assert json.loads(json.dumps(as_dict(outcome), allow_nan=False))["cost"] == 100.0


def same(one: Case, two: Case) -> None:
    assert one.start_ms.tolist() == two.start_ms.tolist()
    for field in ("load_kw", "pv_kw", "price", "carbon"):
        assert getattr(one, field) == pytest.approx(getattr(two, field)), field


def test_one_file_or_one_a_series_csv_or_parquet_any_order(tmp_path: Path) -> None:
    frame = series(3)
    one = read(folder(tmp_path / "one", frame))
    several = folder(tmp_path / "several", frame)
    (several / "series.parquet").unlink()
    for name in frame:
        shuffled = frame[[name]].sample(frac=1, random_state=1)
        if name == "price":
            shuffled.to_parquet(several / f"{name}.parquet")
        else:
            shuffled.rename_axis("timestamp").rename(columns={name: "value"}).to_csv(several / f"{name}.csv")
    same(one, read(several))


@pytest.mark.parametrize("step", ["15min", "30min", "5min"])
def test_other_steps_give_the_same_energy(tmp_path: Path, step: str) -> None:
    case = read(folder(tmp_path, series(2, step)))
    assert case.load_kw.sum() / 4 == pytest.approx(series(2, step)["load_kwh"].sum())
    assert len(case.start_ms) == 192
    assert case.step_s == max(900, int(pd.Timedelta(step).total_seconds()))


def test_half_hourly_prices_of_an_hourly_load_are_kept(tmp_path: Path) -> None:
    path = folder(tmp_path, series(2)[["load_kwh"]])
    series(2, "30min")[["price"]].to_csv(path / "price.csv")
    case = read(path)
    assert case.price[:4].tolist() == pytest.approx(np.repeat(series(2, "30min")["price"].to_numpy()[:2], 2).tolist())


def test_gaps_are_filled_for_the_bill_and_unknown_to_the_forecaster(tmp_path: Path) -> None:
    frame = series()
    frame.loc[frame.index[200:210], "load_kwh"] = np.nan
    case = read(folder(tmp_path, frame.drop(index=frame.index[100])))
    assert int((~case.known).sum()) == 44
    assert np.isfinite(case.load_kw).all()
    assert case.load_kw[800] == pytest.approx(case.load_kw[800 - 672])
    assert any("11 of 216 steps are missing" in note for note in case.notes)


def test_units_of_carbon_are_seen(tmp_path: Path) -> None:
    frame = series(2)
    frame["carbon"] *= 1000
    assert read(folder(tmp_path, frame)).carbon == pytest.approx(read(folder(tmp_path / "kg", series(2))).carbon)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "no folder"),
        (lambda path: path.mkdir(), "no site.json"),
        (lambda path: (path.mkdir(), (path / "site.json").write_text("{")), "not readable as JSON"),
        (lambda path: (path.mkdir(), (path / "site.json").write_text("[]")), "expected one object"),
        (lambda path: (path.mkdir(), (path / "site.json").write_text("{}")), "no CSV or Parquet file"),
        (lambda path: folder(path, series(2)[["price"]]), "no load in its files"),
        (lambda path: folder(path, series(4, "2h")), "steps of 7200 s"),
        (lambda path: folder(path, limit_kw=-5), "limit_kw"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_with_what_to_do(tmp_path: Path, make: Any, says: str) -> None:
    make(tmp_path / "f")
    with pytest.raises(UserError) as caught:
        read(tmp_path / "f")
    assert says in str(caught.value)
    assert caught.value.exit_code == 2


def test_wrong_arguments_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["simulate", str(tmp_path), "--policies", "magic"]) == 2
    assert cli.main(["simulate", str(folder(tmp_path / "f")), "--plot", "x.txt"]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert errors[0] == "error: no policy magic: choose from none, rule, foresight, energyai"
    assert errors[1].startswith("error: --plot x.txt: end the name in .svg")
