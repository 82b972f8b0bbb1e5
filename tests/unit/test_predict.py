"""`energyai predict` and `energyai train` on a small file."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pandas as pd
import pytest

from jobs.commands import predict, train
from jobs.errors import UserError
from jobs.models.registering import registry
from operators.forecaster import Forecaster
from operators.serving import drift

HOURS = 24 * 40
START = "2021-03-01"


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(3)
    index = pd.date_range(START, periods=HOURS, freq="h", tz="UTC", name="ts")
    day = 2 + np.sin(np.arange(HOURS) * (2 * np.pi / 24))
    return pd.DataFrame({f"m{i}": day * rng.uniform(0.8, 1.2, HOURS) * (1 + i) for i in range(4)}, index=index)


@pytest.fixture(scope="module")
def file(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("meters") / "meters.csv"
    data.reset_index().to_csv(path, index=False)
    return path


def call(command, capsys, *words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    code = command.run(parser.parse_args([str(word) for word in words]))
    return code, capsys.readouterr().out


def test_forecast_of_a_past_day_beside_what_came(data, file, capsys):
    code, shown = call(predict, capsys, "m1", file, "--at", "2021-03-20", "--json")
    assert code == 0
    found = json.loads(shown)
    assert found["issued_at"] == found["target_start"] == "2021-03-20T00:00:00Z"
    assert list(found["kwh"]) == [f"q{level}0" for level in range(1, 10)]
    assert found["actual_kwh"] == pytest.approx(data["m1"]["2021-03-20"].tolist(), rel=1e-6)
    history = data["m1"][:"2021-03-19T23:00"].to_numpy()[-168:].astype(np.float32)[None]
    forecast = Forecaster.load().predict(history, 1_616_198_400_000, 3600)[0]
    assert found["kwh"]["q50"] == pytest.approx(forecast[4].tolist(), rel=1e-5)


def test_newest_forecast_in_local_time(file, capsys):
    _, shown = call(predict, capsys, "m1", file, "--tz", "Europe/Amsterdam")
    lines = shown.splitlines()
    assert len(lines) == 2 + 24
    assert lines[2].startswith("2021-04-10 02:00")
    assert lines[2].endswith("-")  # not known yet


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["m9"], "m9"),
        (["m1", "--at", "2021-03-03"], "must lie between 2021-03-08T00:00:00Z and 2021-04-10T00:00:00Z"),
        (["m1", "--at", "2021-03-20T00:30"], "end of a step of 60 minutes"),
    ],
)
def test_what_cannot_be_forecast_is_told(file, capsys, words, message):
    with pytest.raises(UserError, match=message) as error:
        call(predict, capsys, words[0], file, *words[1:])
    assert "\n" not in str(error.value)


def test_training_on_a_file(file, tmp_path, capsys):
    out = tmp_path / "model"
    words = [file, "--tz", "Europe/London", "--out", out, "--architecture", "ridge", "--epochs", 1, "--in-memory"]
    code, shown = call(train, capsys, *words, "--steps-per-epoch", 3, "--judge-from", "2021-04-03", "--json")
    assert code == 0
    found = json.loads(shown)
    assert [score["meters"] for score in found["scores"]] == [3, 1, 3, 1]
    card = json.loads((out / "card.json").read_text())
    assert card["data"]["name"] == "meters.csv"
    assert card["data"]["train_until"] == "2021-04-02"
    assert card["training"]["command"].startswith("energyai train meters.csv --tz Europe/London --out model")
    assert "--judge-from 2021-04-03" in card["training"]["command"]
    assert Forecaster.load(out / "forecaster.onnx", card["sha256"]).model_id == card["model_id"]


def test_a_trained_model_is_registered_signed_and_knows_its_inputs(file, tmp_path, capsys, no_settings):
    no_settings.setenv("ENERGYAI_HOME", str(tmp_path / "home"))
    words = [
        file,
        "--out",
        tmp_path / "model",
        "--architecture",
        "ridge",
        "--epochs",
        1,
        "--steps-per-epoch",
        3,
        "--in-memory",
    ]
    code, shown = call(train, capsys, *words, "--register", "--json")
    assert code == 0
    assert json.loads(shown)["version"] == 1
    version = registry().get("forecaster", 1)
    assert version.card()["training"]["command"].startswith("energyai train")
    assert "--register" not in version.card()["training"]["command"]
    assert version.manifest["data_range"] == [version.card()["data"]["from"], version.card()["data"]["train_until"]]
    shares = drift.read_reference(version.model().reference)
    assert shares is not None
    assert all(abs(sum(each) - 1) < 1e-4 for each in shares.values())
    assert shares["missing"][0] > 0.9, "the file has few gaps"


@pytest.mark.parametrize(
    ("words", "message"),
    [(["--until", "2020-01-01"], "--until"), (["--epochs", "0"], "--epochs"), (["--unseen-share", "1"], "below 1")],
)
def test_training_says_what_is_wrong(file, tmp_path, capsys, words, message):
    out = tmp_path / "none"
    with pytest.raises(UserError, match=message):
        call(train, capsys, file, "--out", out, "--architecture", "ridge", "--in-memory", *words)
    assert not out.exists()
