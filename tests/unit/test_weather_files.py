"""Weather files for training, and a model trained with one from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jobs.backtest.series import SeriesError
from jobs.backtest.weather import from_file
from jobs.cli import main
from operators.features import CONTEXT_HOURS
from operators.forecaster import Forecaster

HOURS = 24 * 40
INDEX = pd.date_range("2021-01-01", periods=HOURS, freq="h", tz="UTC")


@pytest.fixture
def sky() -> pd.DataFrame:
    """Each hour measured, and foreseen a day and a half before."""
    celsius = 10 + 8 * np.sin(np.arange(HOURS) / 30)
    foreseen = pd.DataFrame({"ts": INDEX, "issued_at": INDEX - pd.Timedelta("36h"), "temperature_c": celsius})
    measured = pd.DataFrame({"ts": INDEX, "issued_at": INDEX + pd.Timedelta("1h"), "temperature_c": celsius + 1})
    return pd.concat([foreseen, measured])


@pytest.mark.parametrize("name", ["sky.csv", "sky.parquet"])
def test_a_file_is_the_weather_as_it_was_known(tmp_path: Path, sky: pd.DataFrame, name: str) -> None:
    path = tmp_path / name
    sky.to_csv(path, index=False) if name.endswith("csv") else sky.to_parquet(path, index=False)
    at = INDEX[500]
    found = from_file(path).known(["default"], np.array([at.value // 1_000_000], np.int64))[0, :, 0]
    celsius = (10 + 8 * np.sin(np.arange(HOURS) / 30)).astype(np.float32)
    assert np.allclose(found[:CONTEXT_HOURS], celsius[500 - CONTEXT_HOURS : 500] + 1)
    assert np.allclose(found[CONTEXT_HOURS:], celsius[500:524])


def test_without_times_of_issue_rows_are_measurements(tmp_path: Path, sky: pd.DataFrame) -> None:
    path = tmp_path / "sky.csv"
    sky.iloc[:HOURS].drop(columns="issued_at").assign(site_id="hq").to_csv(path, index=False)
    found = from_file(path).known(["hq"], np.array([INDEX[500].value // 1_000_000], np.int64))[0, :, 0]
    assert np.isfinite(found[:CONTEXT_HOURS]).all()
    assert np.isnan(found[CONTEXT_HOURS:]).all()


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (pd.DataFrame({"ts": INDEX[:3]}), "must have columns"),
        (pd.DataFrame({"ts": ["soon"], "temperature_c": [1]}), "must be times"),
        (pd.DataFrame({"ts": [INDEX[0], None], "temperature_c": [1, 2]}), "must be times"),
        (pd.DataFrame({"ts": [INDEX[0] + pd.Timedelta("5min")], "temperature_c": [1]}), "start of an hour"),
    ],
)
def test_other_files_are_told(tmp_path: Path, frame: pd.DataFrame, says: str) -> None:
    frame.to_csv(tmp_path / "sky.csv", index=False)
    with pytest.raises(SeriesError, match=says):
        from_file(tmp_path / "sky.csv")
    with pytest.raises(SeriesError, match="cannot be read"):
        from_file(tmp_path / "none.csv")


def test_the_command_trains_judges_and_predicts_with_weather(
    tmp_path: Path, sky: pd.DataFrame, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    kwh = rng.uniform(1, 2, (HOURS, 3)) + np.sin(np.arange(HOURS) * np.pi / 12)[:, None] / 2
    pd.DataFrame(kwh, index=INDEX, columns=["a", "b", "c"]).to_parquet(tmp_path / "energy.parquet")
    sky.to_parquet(tmp_path / "sky.parquet", index=False)
    data = [str(tmp_path / "energy.parquet"), "--timestamps", "start", "--weather", str(tmp_path / "sky.parquet")]
    short = ["--rows", "64", "--epochs", "1", "--steps-per-epoch", "10", "--in-memory", "--json"]
    assert main(["train", *data, "--out", str(tmp_path / "out"), *short]) == 0
    card = json.loads((tmp_path / "out/card.json").read_text())
    assert card["feature_set"] == "week168-v3"
    assert "weather" in card["importance"]
    assert "--weather sky.parquet" in card["training"]["command"]
    assert str(tmp_path) not in card["training"]["command"]
    assert "reads the weather" in (tmp_path / "out/MODEL_CARD.md").read_text()
    capsys.readouterr()
    model = tmp_path / "out/forecaster.onnx"
    at = ["--at", "2021-01-20", "--model", str(model), "--json"]
    made = []
    for words in (data, data[:-2]):
        assert main(["predict", "a", *words, *at]) == 0
        made.append(json.loads(capsys.readouterr().out)["kwh"]["q50"])
    assert made[0] != made[1]
    history = kwh[19 * 24 - CONTEXT_HOURS : 19 * 24, :1].T.astype(np.float32)
    issued = int(pd.Timestamp("2021-01-20", tz="UTC").value // 1_000_000)
    assert Forecaster.load(model).predict(history, issued, 3600)[0, 4] == pytest.approx(made[1], rel=1e-5)
