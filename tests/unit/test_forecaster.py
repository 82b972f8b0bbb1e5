"""The shipped model behind its loader: what is promised for any meter, and clear errors for a bad file."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from operators.features import CONTEXT_HOURS, to_phases
from operators.forecaster import CHUNK_ROWS, SHIPPED_MODEL, Forecaster, ModelError, shipped_sha256

ISSUED = 1_760_000_400_000
anything = st.floats(allow_nan=True, allow_infinity=True, width=64)


@pytest.fixture(scope="module")
def forecaster():
    return Forecaster.load(SHIPPED_MODEL, shipped_sha256())


def meters(count, per_hour=1, seed=0):
    rng = np.random.default_rng(seed)
    day = 1 + np.sin(np.arange(CONTEXT_HOURS * per_hour) * (2 * np.pi / (24 * per_hour)))
    level = 10.0 ** rng.uniform(-3, 4, (count, 1))
    return level * (0.3 + day + 0.2 * rng.standard_normal((count, CONTEXT_HOURS * per_hour)))


def relative_difference(one, other, history):
    return float((np.abs(one - other) / np.nanmean(np.abs(history), axis=1)[:, None, None]).max())


def test_card_matches_the_model(forecaster):
    card = json.loads(SHIPPED_MODEL.with_name("card.json").read_text())
    assert (card["sha256"], card["model_id"]) == (forecaster.sha256, forecaster.model_id)
    assert card["training"]["whole"]
    assert card["export_difference"] <= 1e-5


@pytest.mark.parametrize(("step_s", "per_hour"), [(3600, 1), (1800, 2), (900, 4)])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_any_history_gives_finite_ordered_quantiles(forecaster, step_s, per_hour, data):
    history = data.draw(arrays(np.float64, (2, CONTEXT_HOURS * per_hour), elements=anything))
    forecast = forecaster.predict(history, ISSUED, step_s)
    assert forecast.shape == (2, 9, 24 * per_hour)
    assert forecast.dtype == np.float32
    assert np.isfinite(forecast).all()
    assert (np.diff(forecast, axis=1) >= 0).all()


@given(gaps=arrays(np.bool_, (4, CONTEXT_HOURS)), sign=st.sampled_from([1.0, -1.0]))
@settings(max_examples=50, deadline=None)
def test_any_pattern_of_gaps_stays_near_the_meter(forecaster, gaps, sign):
    history = np.where(gaps, np.nan, sign * meters(4))
    forecast = forecaster.predict(history, ISSUED, 3600)
    assert (np.diff(forecast, axis=1) >= 0).all()
    assert (np.abs(forecast).max(axis=(1, 2)) <= 10 * np.abs(meters(4)).max(axis=1)).all()


@pytest.mark.parametrize("step_s", [3600, 900])
def test_dead_meter_is_forecast_as_zero(forecaster, step_s):
    history = np.zeros((2, CONTEXT_HOURS * 3600 // step_s))
    history[1] = np.nan
    assert not forecaster.predict(history, ISSUED, step_s).any()


@given(exponent=st.integers(-20, 40), factor=st.floats(0.5, 2.0))
@settings(max_examples=40, deadline=None)
def test_forecast_scales_with_the_meter(forecaster, exponent, factor):
    history = meters(5, seed=3)
    scaled = history * factor * 2.0**exponent
    one = forecaster.predict(history, ISSUED, 3600).astype(np.float64) * factor * 2.0**exponent
    assert relative_difference(one, forecaster.predict(scaled, ISSUED, 3600), scaled) < 2e-5


@pytest.mark.parametrize(("step_s", "per_hour"), [(3600, 1), (900, 4)])
def test_rows_do_not_depend_on_their_batch(forecaster, step_s, per_hour):
    count = CHUNK_ROWS + 37
    history = meters(count, per_hour)
    history[::5, 7:30] = np.nan
    issued = ISSUED + np.arange(count) * 3_600_000
    whole = forecaster.predict(history, issued, step_s)
    for size in (1, 2, 3, 7, 8, 64, 200):
        rows = slice(count - size - 5, count - 5)
        part = forecaster.predict(history[rows], issued[rows], step_s)
        assert relative_difference(part, whole[rows], history[rows]) <= 1e-6
    # One row alone would take other matrix kernels; it is padded, and then the very same.
    assert np.array_equal(forecaster.predict(history[:1], issued[:1], step_s), whole[:1])
    order = np.random.default_rng(1).permutation(count)
    shuffled = forecaster.predict(history[order], issued[order], step_s)
    assert relative_difference(shuffled, whole[order], history[order]) <= 1e-6


def test_same_call_same_answer(forecaster):
    history = meters(100)
    again = Forecaster.load().predict(history, ISSUED, 3600)
    assert np.array_equal(forecaster.predict(history, ISSUED, 3600), again)


def test_quarter_hours_are_four_hourly_phases(forecaster):
    history = meters(3, per_hour=4)
    quarter = forecaster.predict(history, ISSUED, 900, 3600)
    phase_times = np.repeat(ISSUED, 12) + np.tile([-2_700_000, -1_800_000, -900_000, 0], 3)
    hourly = forecaster.predict(to_phases(history, 4), phase_times, 3600, 3600)
    for meter in range(3):
        for phase in range(4):
            expected = hourly[4 * meter + phase] / 4
            assert quarter[meter, :, phase::4] == pytest.approx(expected, rel=1e-5)


def test_quarter_hours_of_a_steady_meter_add_up_to_its_hours(forecaster):
    hourly = meters(6)
    quarter = forecaster.predict(np.repeat(hourly / 4, 4, axis=1), ISSUED, 900)
    total = quarter.reshape(6, 9, 24, 4).sum(axis=3)
    # The phases' issues lie up to 45 minutes apart, which moves the phase of the week a little.
    assert relative_difference(total, forecaster.predict(hourly, ISSUED, 3600), hourly) < 0.05


def test_unknown_time_zone_changes_little(forecaster):
    history = meters(200)
    known = forecaster.predict(history, ISSUED, 3600, 36_000)
    unknown = forecaster.predict(history, ISSUED, 3600, 0)
    assert np.mean(np.abs(known - unknown) / np.abs(history).mean(axis=1)[:, None, None]) < 0.1


def test_one_time_for_all_or_one_each(forecaster):
    history = meters(3)
    each = forecaster.predict(history, np.full(3, ISSUED), 3600, np.zeros(3, dtype=np.int64))
    assert np.array_equal(forecaster.predict(history, ISSUED, 3600), each)


def test_no_meters(forecaster):
    assert forecaster.predict(np.empty((0, CONTEXT_HOURS * 4)), ISSUED, 900).shape == (0, 9, 96)


@pytest.mark.parametrize(("columns", "step_s"), [(167, 3600), (168, 900), (168, 0), (168, 7000)])
def test_shape_that_does_not_fit_is_refused(forecaster, columns, step_s):
    with pytest.raises(ValueError, match="168 hours"):
        forecaster.predict(np.ones((1, columns)), ISSUED, step_s)


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match="name an ONNX file") as error:
        Forecaster.load(tmp_path / "none.onnx")
    assert "none.onnx" in one_line(error)


def test_flipped_bit_fails_the_checksum(tmp_path):
    content = bytearray(SHIPPED_MODEL.read_bytes())
    content[len(content) // 2] ^= 1
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="SHA-256") as error:
        Forecaster.load(path, shipped_sha256())
    assert "restore it" in one_line(error)


@pytest.mark.parametrize("content", [b"", b"not a model", SHIPPED_MODEL.read_bytes()[:5000]])
def test_damaged_file_without_a_checksum(tmp_path, content):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not a usable ONNX model") as error:
        Forecaster.load(path)
    one_line(error)


def test_model_for_other_features_is_refused(tmp_path):
    model = onnx.load(str(SHIPPED_MODEL))
    next(entry for entry in model.metadata_props if entry.key == "feature_set").value = "week168-v0"
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="week168-v0") as error:
        Forecaster.load(path)
    one_line(error)


def test_checksum_in_capitals_is_the_same():
    assert Forecaster.load(SHIPPED_MODEL, shipped_sha256().upper()).sha256 == shipped_sha256()
