"""Training end to end on a tiny made-up estate, and the parts it is made of."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from models import drawing, importance, train, training
from models.architectures import load, names
from models.augment import augmented
from models.contract import Fit
from models.data_sources import CAMBRIDGE_FILE, load_cambridge
from models.dataset import cut, from_frame, inputs_of, origins, split_unseen
from models.drawing import ROUND, Plan, draws
from models.export import ExportError, export
from models.training import Part
from operators.features import CONTEXT_HOURS, EXTRA, HISTORY_EXTRA, HORIZON_HOURS, WITH_WEATHER
from operators.forecaster import Forecaster
from operators.weather import Weather

HOURS = 24 * 70


def frame(meters=6):
    rng = np.random.default_rng(5)
    index = pd.date_range("2019-12-01", periods=HOURS, freq="h", tz="UTC")
    day = 2 + np.sin(np.arange(HOURS) * (2 * np.pi / 24))
    kwh = day[:, None] * 10.0 ** rng.uniform(0, 2, meters) * rng.uniform(0.9, 1.1, (HOURS, meters))
    kwh[100:110, 0] = 0  # the archive's way of writing a missing reading
    return pd.DataFrame(kwh.astype(np.float32), index=index, columns=[f"b{i}" for i in range(meters)])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("estate")
    frame().to_parquet(folder / CAMBRIDGE_FILE)
    return folder


@pytest.fixture(scope="module")
def series(data):
    return load_cambridge(data)


def run(data, out, seed=0):
    arguments = ["--data", str(data), "--out", str(out), "--seed", str(seed), "--rows", "64"]
    arguments += ["--epochs", "1", "--steps-per-epoch", "30", "--judge-year", "2020"]
    assert train.main(arguments) == 0
    return out


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    return run(data, tmp_path_factory.mktemp("first"))


def test_card_tells_how_the_model_was_made(trained, data):
    card = json.loads((trained / "card.json").read_text())
    forecaster = Forecaster.load(trained / "forecaster.onnx", card["sha256"])
    assert card["model_id"] == forecaster.model_id
    assert card["export_difference"] <= 1e-5
    assert card["data"]["licence"] == "MIT"
    assert (card["data"]["meters"], card["data"]["meters_seen"], len(card["data"]["unseen"])) == (6, 5, 1)
    assert [score["meters"] for score in card["metrics"]] == [5, 1, 5, 1]
    assert card["feature_set"] == forecaster.feature_set
    assert card["export_flips"] == 0
    assert set(card["importance"]) >= {"day -1", "phase of the week", "holidays"}
    assert all(0 <= score["coverage80_calibrated"] <= 1 for score in card["metrics"])
    assert all(score["nrmse"]["model"] > 0 for score in card["metrics"])
    readable = (trained / "MODEL_CARD.md").read_text()
    assert card["sha256"] in readable
    assert card["training"]["command"] in readable
    assert "--seed" not in card["training"]["command"]  # 0 is what it is without
    assert "--steps-per-epoch 30" in card["training"]["command"]


def test_files_hold_no_path_of_the_machine(trained, data):
    for file in trained.iterdir():
        content = file.read_bytes()
        assert str(data).encode() not in content
        assert b"site-packages" not in content
        assert str(trained.parent).encode() not in content


def test_same_seed_same_file_other_seed_other_file(trained, data, tmp_path):
    model = (trained / "forecaster.onnx").read_bytes()
    assert (run(data, tmp_path / "again") / "forecaster.onnx").read_bytes() == model
    assert (run(data, tmp_path / "other", seed=1) / "forecaster.onnx").read_bytes() != model


def test_folder_without_data_is_one_clear_line(tmp_path, capsys):
    assert train.main(["--data", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("train: ")
    assert "--data" in error
    assert "\n" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["--until", "2019"], ["--epochs", "0"], ["--limit-minutes", "0"]])
def test_nothing_to_train_is_told(data, tmp_path, capsys, arguments):
    assert train.main(["--data", str(data), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert "train: " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_interrupted_training_writes_nothing(data, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(drawing, "augmented", interrupted)
    assert train.main(["--data", str(data), "--out", str(tmp_path / "out")]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_limit_ends_training_in_good_order(data, tmp_path):
    arguments = ["--data", str(data), "--out", str(tmp_path), "--limit-minutes", "0.02", "--judge-year", "2020"]
    assert train.main(arguments) == 0
    assert json.loads((tmp_path / "card.json").read_text())["training"]["whole"] is False


def test_export_that_differs_from_its_trainer_is_refused(series):
    network = load("ridge")
    part = Part(series, origins(series, 0, 700))
    network.fit(training.batches([part], 0, 2, 64), Fit(seed=0, steps=2), lambda share, loss: None)
    inputs, _ = inputs_of(cut(series, part.at[:50]), series.zone)
    export(network, inputs)
    predict = network.predict
    network.predict = lambda inputs: predict(inputs) + np.float32(1e-3)
    with pytest.raises(ExportError, match="differs"):
        export(network, inputs)


def test_training_hides_the_calendar_from_a_part_of_the_rows(series):
    (batch,) = training.batches([Part(series, origins(series, 0, 700))], 0, 1, 2000)
    calendar = batch.inputs["extra"][:, HISTORY_EXTRA:]
    assert calendar.shape[1] == EXTRA - HISTORY_EXTRA
    hidden = (calendar == 0).all(axis=1)
    # 30% of the rows, and those whose week was shifted.
    assert 0.3 < hidden.mean() < 0.55


def test_sets_are_drawn_as_often_as_they_have_meters(series):
    unplaced = replace(series.take([0, 1]), zone="")
    parts = [Part(series.take([2, 3, 4, 5]), origins(series, 0, 700)[:10]), Part(unplaced, origins(unplaced, 0, 700))]
    assert [part.meters for part in parts] == [1, 2]
    rows = np.concatenate([batch.inputs["extra"][:, HISTORY_EXTRA:] for batch in training.batches(parts, 0, 20, 60)])
    placed = rows.any(axis=1).mean() / (1 - 0.3) / (1 - 0.18)  # those whose calendar was not hidden or shifted
    assert 0.25 < placed < 0.42


def test_quarter_hours_are_trained_on_as_hours():
    index = pd.date_range("2021-01-01T00:30", periods=15, freq="15min", tz="UTC")
    kwh = np.ones(15)
    kwh[2:5] = np.nan  # all but a quarter of the first whole hour
    kwh[7] = np.nan
    found = training.hourly(from_frame(pd.DataFrame({"m": kwh}, index=index), "UTC", 900))
    assert found.start_ms == int(index[2].timestamp() * 1000)
    assert found.step_s == 3600
    assert found.kwh[0].tolist() == [pytest.approx(np.nan, nan_ok=True), 4.0, 4.0]


def test_split_keeps_meters_out_but_not_the_only_one(series):
    (split,) = training.splits([series], 0, 0.4)
    assert len(split.unseen) == 2
    (whole,) = training.splits([series], 0, 0.0)
    assert whole.unseen == []
    (one,) = training.splits([series.take([0])], 0, 0.5)
    assert one.seen == [0]


def test_importance_finds_the_input_that_counts():
    rng = np.random.default_rng(0)
    window = rng.random((200, CONTEXT_HOURS), dtype=np.float32)
    inputs = {"window": window, "extra": rng.random((200, EXTRA), dtype=np.float32)}

    def predict(given):
        return np.repeat(given["window"][:, None, -HORIZON_HOURS:], 9, axis=1)

    target = window[:, -HORIZON_HOURS:] + np.float32(0.01)
    target[0, 3] = np.nan
    found = importance.permutation(predict, inputs, target)
    assert max(found, key=found.get) == "day -1"
    assert found["day -1"] > 1
    assert all(share == 0 for name, share in found.items() if name != "day -1")


def test_architectures_are_the_files_of_the_folder():
    assert "mlp" in names()
    with pytest.raises(ValueError, match="mlp"):
        load("none")


def test_zero_is_missing_in_the_archive(series):
    assert np.isnan(series.kwh[0, 100:110]).all()
    assert np.isfinite(series.kwh[1:]).all()


def test_local_time_follows_the_zone():
    index = pd.date_range("2019-03-31", periods=4, freq="h", tz="UTC")  # clocks in London go forward at 01:00
    found = from_frame(pd.DataFrame({"m": np.ones(4)}, index=index), "Europe/London")
    assert found.utc_offset_s.tolist() == [0, 3600, 3600, 3600]
    assert found.start_ms == 1_553_990_400_000


def test_windows_end_where_told_and_know_nothing_later(series):
    at = origins(series, 0, 400, stride=5)
    assert at[:, 1].min() >= CONTEXT_HOURS
    assert at[:, 1].max() <= 400 - HORIZON_HOURS
    windows = cut(series, at)
    later = series.kwh.copy()
    for row, (meter, hour) in enumerate(at[:40]):
        changed = later.copy()
        changed[:, hour:] = -1
        other = cut(replace(series, kwh=changed), at[row : row + 1])
        assert np.array_equal(other.history[0], windows.history[row], equal_nan=True)
        assert np.array_equal(windows.target[row], later[meter, hour : hour + HORIZON_HOURS], equal_nan=True)
        assert windows.issued_at_ms[row] == series.start_ms + hour * 3_600_000


def test_quarter_hour_windows():
    index = pd.date_range("2021-01-01", periods=96 * 9, freq="15min", tz="UTC")
    series = from_frame(pd.DataFrame({"m": np.arange(96 * 9)}, index=index), "UTC", 900)
    windows = cut(series, origins(series, 0, 96 * 9))
    assert windows.history.shape == (97, 672)
    assert windows.history[0, -1] + 1 == windows.target[0, 0] == 672
    assert windows.issued_at_ms[0] == series.start_ms + 7 * 86_400_000


def test_split_is_disjoint_whole_and_seeded():
    seen, unseen = split_unseen(81, 3)
    assert sorted(seen + unseen) == list(range(81))
    assert len(unseen) == 16
    assert split_unseen(81, 3) == (seen, unseen)
    assert split_unseen(81, 4) != (seen, unseen)


def test_meters_weigh_the_same_however_long_they_are():
    plan = Plan(seed=0, rows=40, meters=4)
    counts = [len(draws(plan, 0, key, windows)[0]) for key, windows in (("a", 1), ("b", 10), ("c", 100_000))]
    assert counts == [ROUND * 10] * 3
    share = Plan(seed=0, rows=1, meters=ROUND * 5)  # a fifth of a window a round
    assert 150 < sum(len(draws(share, 0, str(i), 7)[0]) for i in range(1000)) < 250


def test_draws_are_a_matter_of_seed_round_and_name():
    plan = Plan(seed=0, rows=40, meters=4)

    def drawn(*args):
        return [values.tolist() for values in draws(*args)]

    first = drawn(plan, 3, "Europe/London|b2", 500)
    assert drawn(plan, 3, "Europe/London|b2", 500) == first
    for other in ((plan, 4, "Europe/London|b2"), (plan, 3, "|b2"), (replace(plan, seed=1), 3, "Europe/London|b2")):
        assert drawn(*other, 500) != first
    assert 0 <= min(first[0]) <= max(first[0]) < 500
    assert 0 <= min(first[1]) <= max(first[1]) < ROUND


@pytest.mark.parametrize("order", [[5, 3, 1, 0, 2, 4], [0, 1, 2, 3, 4, 5]])
def test_batches_do_not_depend_on_where_a_meter_lies(series, order):
    whole = list(training.batches([Part(series, origins(series, 0, 700))], 0, 3, 64))
    halves = [replace(series, zone=""), series]
    taken = [part.take([i for i in order if i % 2 == n]) for n, part in enumerate(halves)]
    split = list(training.batches([Part(each, origins(each, 0, 700)) for each in taken], 0, 3, 64))
    turned = list(training.batches([Part(each, origins(each, 0, 700)) for each in taken[::-1]], 0, 3, 64))
    for one, other in zip(split, turned, strict=True):
        assert np.array_equal(one.target, other.target, equal_nan=True)
        assert all(np.array_equal(one.inputs[name], other.inputs[name]) for name in one.inputs)
    shuffled = series.take(order)
    for one, other in zip(whole, training.batches([Part(shuffled, origins(shuffled, 0, 700))], 0, 3, 64), strict=True):
        assert np.array_equal(one.inputs["window"], other.inputs["window"])


def test_meters_without_any_load_are_told(series):
    idle = replace(series, kwh=np.zeros_like(series.kwh))
    with pytest.raises(ValueError, match="any load"):
        next(training.batches([Part(idle, origins(idle, 0, 700))], 0, 1, 4))


def test_batches_end_after_the_steps_asked_for(series):
    assert len(list(training.batches([Part(series, origins(series, 0, 700))], 0, ROUND + 3, 2))) == ROUND + 3


def test_augmented_windows_keep_their_newest_hour_and_shape(series):
    windows = cut(series, origins(series, 0, HOURS))
    changed = augmented(windows, np.random.default_rng(0))
    assert changed.history.shape == windows.history.shape
    assert changed.target.shape == windows.target.shape
    assert np.array_equal(np.isnan(changed.history[:, -1]), np.isnan(windows.history[:, -1]))
    assert not np.isinf(changed.history).any()
    untouched = augmented(windows, np.random.default_rng(0))
    assert np.array_equal(untouched.history, changed.history, equal_nan=True)


def test_training_with_weather_hides_it_from_a_part_of_the_rows_and_serves_meters_without(series, tmp_path):
    hours = np.arange(HOURS)
    ts = series.start_ms + hours * 3_600_000
    values = np.stack((10 + 8 * np.sin(hours / 50), np.full(HOURS, np.nan)), axis=1)
    # Each hour is foreseen a day and a half before; and measured, which training must not see ahead.
    sky = Weather.of_columns(["default"] * HOURS, ts, ts - 36 * 3_600_000, values)
    wet = replace(series, weather=sky)
    part = Part(wet, origins(wet, 0, 1000))
    (batch,) = training.batches([part], 0, 1, 2000)
    columns = batch.inputs["extra"][:, EXTRA:]
    hidden = (columns == 0).all(axis=1)
    # 30% of those that see a calendar, and all that see none.
    assert 0.5 < hidden.mean() < 0.7
    network = load("mlp")
    network.fit(training.batches([part], 0, 20, 64), Fit(seed=0, steps=20), lambda share, loss: None)
    exported = export(network, inputs_of(cut(wet, part.at[:50]), wet.zone)[0])
    forecaster = Forecaster.from_bytes(exported.content)
    assert forecaster.feature_set == WITH_WEATHER
    windows = cut(wet, part.at[:9])
    of = (windows.history, windows.issued_at_ms, 3600, 0, wet.zone)
    with_weather, without = forecaster.predict(*of, windows.weather), forecaster.predict(*of)
    unknown = forecaster.predict(*of, np.full_like(windows.weather, np.nan))
    assert np.isfinite(without).all()
    assert np.array_equal(without, unknown)
    assert not np.array_equal(with_weather, without)


@pytest.mark.parametrize("name", ["ridge", "random_forest", "lightgbm", "mlp_nhits"])
def test_every_architecture_takes_the_columns_that_there_are(series, name):
    wet = replace(series, weather=Weather())
    part = Part(wet, origins(wet, 0, 1000))
    network = load(name)
    network.fit(training.batches([part], 0, 4, 64), Fit(seed=0, steps=4), lambda share, loss: None)
    inputs, _ = inputs_of(cut(wet, part.at[:20]), wet.zone)
    assert Forecaster.from_bytes(export(network, inputs).content).reads_weather
