"""Every architecture keeps the contract: trained on little, exported, and the same as its export."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from models import architectures, training
from models.contract import Fit, NotTrainedError
from models.dataset import cut, from_frame, inputs_of, origins
from models.ensemble import Ensemble
from models.export import ExportError, export
from models.hourly_rows import base, columns, table
from models.training import Part
from operators.features import CONTEXT_HOURS, DAY_CHANGE, EXTRA, HORIZON_HOURS
from operators.forecaster import Forecaster

HOURS = 24 * 40
SMALL = {
    "mlp": {"width": 16, "blocks": 1},
    "nhits": {"width": 16},
    "lightgbm": {"trees": 4},
    "random_forest": {"trees": 3},
}


@pytest.fixture(scope="module")
def part():
    rng = np.random.default_rng(5)
    index = pd.date_range("2019-12-01", periods=HOURS, freq="h", tz="UTC")
    day = 2 + np.sin(np.arange(HOURS) * (2 * np.pi / 24))
    kwh = day[:, None] * 10.0 ** rng.uniform(0, 2, 5) * rng.uniform(0.8, 1.2, (HOURS, 5))
    series = from_frame(pd.DataFrame(kwh, index=index), "Europe/London")
    return Part(series, origins(series, 0, HOURS))


def small(name):
    made = architectures.load(name)
    for key, value in SMALL.get(name, {}).items():
        setattr(made, key, value)
    return made


def fit(architecture, part):
    told = []
    how = Fit(seed=0, steps=4)
    assert architecture.fit(training.batches([part], 0, 4, 100), how, lambda share, loss: told.append(share))
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)
    return architecture


@pytest.mark.parametrize(
    "name", [name for name in architectures.names() if "_" not in name or name in ("mean_day_week", "random_forest")]
)
def test_export_runs_and_is_what_was_trained(name, part, tmp_path):
    architecture = fit(small(name), part)
    inputs, _ = inputs_of(cut(part.series, part.at[::20]), part.series.zone)
    exported = export(architecture, inputs)
    assert exported.flips == 0
    assert exported.model_id.startswith(f"{name}-week168-v2-")
    forecaster = Forecaster.from_bytes(exported.content)
    windows = cut(part.series, part.at[:3])
    forecast = forecaster.predict(windows.history, windows.issued_at_ms, 3600, 0, "Europe/London")
    assert forecast.shape == (3, 9, HORIZON_HOURS)
    assert (np.diff(forecast, axis=1) >= 0).all()


@pytest.mark.parametrize("name", ["ridge", "mlp", "nhits", "lightgbm", "random_forest", "seasonal_naive"])
def test_untrained_is_told(name):
    with pytest.raises(NotTrainedError, match="fit first"):
        architectures.load(name).to_onnx()


def test_ensemble_is_the_mean_of_its_members(part):
    members = [small("ridge"), small("mean_day_week"), small("nhits")]
    whole = fit(Ensemble("three", members), part)
    inputs, _ = inputs_of(cut(part.series, part.at[::40]), part.series.zone)
    expected = np.mean([member.predict(inputs) for member in members], axis=0)
    assert whole.predict(inputs) == pytest.approx(expected, abs=1e-6)
    assert export(whole, inputs).difference <= 1e-5


def test_flipped_rows_are_counted_and_too_many_are_refused(part):
    forest = fit(small("random_forest"), part)
    inputs, _ = inputs_of(cut(part.series, np.resize(part.at, (2000, 2))), part.series.zone)
    predict = forest.predict

    def flipping(rows):
        def changed(given):
            forecast = predict(given)
            forecast[:rows] += np.float32(0.1)
            return forecast

        return changed

    forest.predict = flipping(1)
    assert export(forest, inputs).flips == pytest.approx(1 / 2000)
    forest.predict = flipping(10)
    with pytest.raises(ExportError, match="of the rows"):
        export(forest, inputs)


def test_file_that_is_too_large_is_refused(part, monkeypatch):
    ridge = fit(small("ridge"), part)
    monkeypatch.setattr(type(ridge), "limits", type(ridge.limits)(size=100))
    inputs, _ = inputs_of(cut(part.series, part.at[:50]), part.series.zone)
    with pytest.raises(ExportError, match="make it smaller"):
        export(ridge, inputs)


def test_rows_by_hour_of_a_literal_window():
    window = np.arange(CONTEXT_HOURS, dtype=np.float32)[None]
    extra = np.full((1, EXTRA), 0.5, dtype=np.float32)
    rows = table({"window": window, "extra": extra})
    assert rows.shape == (HORIZON_HOURS, columns(EXTRA))
    assert rows[3, :7].tolist() == [3, 27, 51, 75, 99, 123, 147]  # the same hour of each day
    assert rows[0, 7:11].tolist() == [143, 145, 0, 1]  # beside it yesterday and, at the edge, a week ago
    assert rows[23, 11:14].tolist() == [167, 166, 165]  # the newest hours
    assert rows[5, 14:21].tolist() == [11.5 + 24 * day for day in range(7)]
    assert rows[:, -1].tolist() == list(range(24))
    assert base(window)[0, :2].tolist() == [72, 73]


def test_band_of_a_naive_forecast_is_that_of_its_errors(part):
    naive = fit(small("seasonal_naive"), part)
    inputs, _ = inputs_of(cut(part.series, part.at[:200]), part.series.zone)
    forecast = naive.predict(inputs)
    unit = np.exp(inputs["extra"][:, DAY_CHANGE])
    width = (forecast[:, -1] - forecast[:, 0]) / unit[:, None]
    assert width.std(axis=0) == pytest.approx(0, abs=1e-4)  # in units of the meter's change it is one band
    assert (width > 0.5).all()
