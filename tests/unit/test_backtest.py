"""Backtests: literal figures, sums in any order, nothing known too early, and the reports."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.backtest import series as energy
from jobs.commands import backtest as command
from jobs.errors import UserError
from jobs.replay.csv_parquet import Options
from models import report
from models.backtest import CALIBRATED, ENSEMBLE, MODEL, REFERENCE, BacktestError, Span, backtest, summary
from models.dataset import from_frame
from models.metrics import Figures, Sums, median, pooled_wql, seasonal_error, worst_decile
from operators.forecaster import SHIPPED_MODEL, Forecaster, shipped_sha256

HOURS = 24 * 35


@pytest.fixture(scope="module")
def forecaster():
    return Forecaster.load(SHIPPED_MODEL, shipped_sha256())


def frame(meters=4, per_hour=1, hours=HOURS):
    rng = np.random.default_rng(7)
    steps = hours * per_hour
    index = pd.date_range("2021-01-01", periods=steps, freq=f"{60 // per_hour}min", tz="UTC")
    day = 2 + np.sin(np.arange(steps) * (2 * np.pi / (24 * per_hour)))
    kwh = day[:, None] * 10.0 ** rng.uniform(0, 2, meters) * rng.uniform(0.8, 1.2, (steps, meters)) / per_hour
    return pd.DataFrame(kwh, index=index, columns=[f"m{i}" for i in range(meters)])


@pytest.fixture(scope="module")
def series():
    return from_frame(frame(), "Europe/London")


@pytest.fixture(scope="module")
def judged(forecaster, series):
    return backtest(forecaster, series, Span())


def test_figures_of_literal_windows():
    target = np.full((2, 24), 4.0)
    target[0, 0] = np.nan
    point = np.full((2, 24), 5.0)
    point[1] = 1.0
    sums = Sums.zeros(3)
    sums.add(np.array([0, 1]), target, point, None)
    found = Figures.of(sums, np.array([2.0, 2.0, 2.0]))
    assert found.nrmse[:2] == pytest.approx([0.25, 0.75])
    assert found.nmae[:2] == pytest.approx([0.25, 0.75])
    assert found.nmbe[:2] == pytest.approx([0.25, -0.75])
    assert found.mase[:2] == pytest.approx([0.5, 1.5])
    # One too high costs 1 - level, three too low 3 x level: with levels averaging one half, half of each, twice.
    assert found.wql[:2] == pytest.approx([0.25, 0.75])
    assert pooled_wql(sums) == pytest.approx((23 * 1 + 24 * 3) / (47 * 4))
    assert np.isnan(found.nrmse[2])  # no window
    assert found.ashrae_passes().tolist() == [False, False, False]
    assert median(found.nrmse) == pytest.approx(0.5)
    assert worst_decile(found.nrmse) == pytest.approx(0.7)
    assert np.isnan(median(np.array([np.nan])))


def test_ashrae_wants_both_limits():
    sums = Sums.zeros(3)
    target = np.full((3, 24), 10.0)
    error = np.array([np.tile([2.0, -2.0], 12), np.full(24, 2.0), np.tile([4.0, -4.0], 12)])
    sums.add(np.arange(3), target, target + error, None)
    # 20% and no bias; 20% and biased by 20%; 40% and no bias.
    assert Figures.of(sums, np.ones(3)).ashrae_passes().tolist() == [True, False, False]


def test_coverage_and_width_of_a_literal_band():
    target = np.concatenate((np.full(18, 5.0), np.full(6, 50.0)))[None]
    quantiles = np.linspace(1, 9, 9)[None, :, None] * np.ones((1, 9, 24))
    sums = Sums.zeros(1)
    sums.add(np.array([0]), target, quantiles[:, 4], quantiles)
    found = Figures.of(sums, np.ones(1))
    assert found.coverage80[0] == 0.75
    assert found.width80[0] == pytest.approx(8 / target.mean())
    assert sums.below[0].tolist() == [0, 0, 0, 0, 18, 18, 18, 18, 18]
    assert sums.lead_squared[0, [0, 23]].tolist() == [0, 45.0**2]


@given(st.permutations(range(12)), st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_sums_do_not_depend_on_order_or_parts(order, size):
    rng = np.random.default_rng(1)
    meter = rng.integers(0, 3, 12)
    target = rng.random((12, 96))
    target[rng.random(target.shape) < 0.2] = np.nan
    quantiles = np.sort(rng.random((12, 9, 96)), axis=1)
    whole, parts = Sums.zeros(3), Sums.zeros(3)
    whole.add(meter, target, quantiles[:, 4], quantiles)
    for start in range(0, 12, size):
        rows = np.array(order[start : start + size])
        parts.add(meter[rows], target[rows], quantiles[rows, 4], quantiles[rows])
    for field in fields(Sums):
        assert getattr(parts, field.name) == pytest.approx(getattr(whole, field.name), rel=1e-12)


def test_seasonal_error_of_a_literal_series():
    kwh = np.array([[1.0] * 168 + [4.0] * 168, [np.nan] * 336])
    found = seasonal_error(kwh, 168)
    assert found[0] == 3.0
    assert np.isnan(found[1])


def test_model_beats_the_baselines_where_there_is_a_rhythm(judged, series):
    group = summary("all", [(judged, np.ones(4, dtype=bool))])
    rows = {row.forecaster: row for row in group.rows}
    assert list(rows) == ["previous week", ENSEMBLE, REFERENCE, MODEL, CALIBRATED]
    assert rows[MODEL].nrmse < rows[REFERENCE].nrmse
    assert rows[REFERENCE].ratio == 1
    assert rows[ENSEMBLE].wql_ratio == 1
    assert rows[REFERENCE].wql is None
    assert rows[MODEL].nrmse == rows[CALIBRATED].nrmse
    assert group.meters == 4
    assert group.windows == judged.windows.sum() == 4 * len(range(168, HOURS - 23, 25))


class Recorder:
    """A forecaster that keeps what it was asked and what it said."""

    def __init__(self, forecaster):
        self.forecaster, self.issues, self.said = forecaster, [], []

    def predict(self, history, issued_at_ms, *rest):
        self.issues.append(issued_at_ms)
        self.said.append(self.forecaster.predict(history, issued_at_ms, *rest))
        return self.said[-1]


def test_nothing_from_the_issue_on_is_known_to_the_forecast(forecaster, series):
    """Leakage: with other values from a time on, the forecasts issued by then are the same, and the later ones not."""
    moment = 400
    changed = series.kwh.copy()
    changed[:, moment:] *= 3
    one, other = Recorder(forecaster), Recorder(forecaster)
    backtest(one, series, Span(stride_h=1))
    backtest(other, replace(series, kwh=changed), Span(stride_h=1))
    until = series.start_ms + moment * 3_600_000
    before = np.concatenate(one.issues) <= until
    said, again = np.concatenate(one.said), np.concatenate(other.said)
    assert 0 < before.sum() < len(before)
    assert np.array_equal(said[before], again[before])
    assert (said[~before] != again[~before]).any(axis=(1, 2)).all()


def test_meter_without_load_and_meter_without_context_are_left_out(forecaster):
    data = frame(3)
    data["m1"] = 0.0
    data["m2"] = np.nan
    judged = backtest(forecaster, from_frame(data, "UTC"), Span())
    group = summary("all", [(judged, np.ones(3, dtype=bool))])
    assert group.meters == 1
    assert summary("none", [(judged, np.array([False, True, True]))]) is None
    assert [row["meter"] for row in report.meter_rows([judged])] == ["m0"]


def test_baseline_without_error_has_no_ratio(forecaster):
    data = frame(1)
    data["m0"] = 2.0 + np.sin(np.arange(HOURS) * (2 * np.pi / 24))
    judged = backtest(forecaster, from_frame(data, "UTC"), Span())
    group = summary("all", [(judged, np.ones(1, dtype=bool))])
    assert np.isnan(group.rows[-1].ratio)
    found = report.as_json({"model_id": "mlp"}, [group], [judged])
    assert json.loads(json.dumps(found, allow_nan=False))["meters"][0]["ratio"] is None
    assert "nan" not in report.page({"model_id": "mlp"}, [group], [judged])


def test_quarter_hours_are_judged_by_their_own_steps(forecaster):
    judged = backtest(forecaster, from_frame(frame(2, 4, 24 * 14), "Europe/Amsterdam", 900), Span(stride_h=24))
    assert judged.windows.tolist() == [7, 7]
    assert judged.sums[MODEL].count.tolist() == [7 * 96, 7 * 96]
    assert judged.sums[MODEL].lead_count[0].tolist() == [7 * 4] * 24


def test_span_without_a_window_is_told(forecaster, series):
    with pytest.raises(BacktestError, match="widen it"):
        backtest(forecaster, series, Span(start_ms=series.start_ms + (HOURS - 3) * 3_600_000))


class Tags(HTMLParser):
    VOID = frozenset(("meta", "circle", "rect", "line", "polyline"))

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        assert not any(name in ("src", "href") for name, _ in attrs)  # it needs nothing else
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_report_is_one_whole_page(judged):
    named = replace(judged, names=("<b>&", "m1", "m2", "m3"))
    group = summary("all meters", [(named, np.ones(4, dtype=bool))])
    page = report.page({"model_id": "mlp"}, [group], [named])
    tags = Tags()
    tags.feed(page)
    assert not tags.open
    assert tags.seen.count("svg") == 5
    assert tags.seen.count("table") == 2
    assert "&lt;b&gt;&amp;" in page


def write(path, data):
    data.rename_axis("ts").reset_index().to_csv(path, index=False)
    return path


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "meters.csv", frame())


def call(capsys, *words):
    import argparse

    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    code = command.run(parser.parse_args([str(word) for word in words]))
    return code, capsys.readouterr()


def test_command_on_a_file(file, tmp_path, capsys):
    page = tmp_path / "report.html"
    code, shown = call(capsys, file, "--tz", "Europe/London", "--html", page, "--unseen", "m1,m3")
    assert code == 0
    assert "seen meters: 2 meters" in shown.out
    assert "unseen meters: 2 meters" in shown.out
    html = page.read_text()
    assert html.startswith("<!doctype html>")
    assert [html.count(f"<td>{known}</td>") for known in ("seen", "unseen")] == [2, 2]
    code, shown = call(capsys, file, "--json", "--no-calibration")
    found = json.loads(shown.out)
    assert {row["forecaster"] for row in found["groups"][0]["rows"]} == {"previous week", ENSEMBLE, REFERENCE, MODEL}
    assert len(found["meters"]) == 4
    own = found["meters"][0]
    assert set(own[MODEL]) == {"nrmse", "nmae", "nmbe", "mase", "wql", "coverage80", "width80"}
    assert set(own["previous week"]) == set(own[REFERENCE]) == {"nrmse", "nmae", "nmbe", "mase"}
    assert "wql" in own[ENSEMBLE]
    assert own[MODEL]["nrmse"] > 0


def test_command_takes_the_unseen_meters_of_a_card(file, tmp_path, capsys):
    card = tmp_path / "card.json"
    card.write_text(json.dumps({"data": {"unseen": ["m0"]}}))
    _, shown = call(capsys, file, "--unseen", card)
    assert "unseen meters: 1 meters" in shown.out
    card.write_text("{}")
    with pytest.raises(UserError, match="names no unseen meters"):
        call(capsys, file, "--unseen", card)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "2030-01-01"], "widen it"),
        (["--stride-h", "0"], "1 or more"),
        (["--tz", "Mars/Olympus"], "Mars/Olympus"),
        (["--html", "/nowhere/at/all.html"], "cannot be written"),
    ],
)
def test_command_says_what_is_wrong(file, capsys, words, message):
    with pytest.raises(UserError, match=message) as error:
        call(capsys, file, *words)
    assert "\n" not in str(error.value)


def test_files_become_sets_by_step(tmp_path):
    write(tmp_path / "hours.csv", frame(2))
    write(tmp_path / "quarters.csv", frame(1, 4, 24 * 10).rename(columns={"m0": "q0"}))
    sets = energy.from_files(tmp_path, Options(), "")
    assert [(found.step_s, found.names) for found in sets] == [(3600, ("m0", "m1")), (900, ("q0",))]
    assert sets[0].kwh[:, 0] == pytest.approx(frame(2).to_numpy()[0])
    assert sets[0].start_ms == int(frame(2).index[0].timestamp() * 1000)


def test_fine_intervals_are_added_up_and_thin_steps_are_missing(tmp_path):
    data = frame(1, 12, 24 * 9)  # five minutes
    data.iloc[:2] = np.nan  # a third is left
    data.iloc[3] = np.nan  # two thirds are left
    (found,) = energy.from_files(write(tmp_path / "fine.csv", data), Options(), "")
    assert found.step_s == 900
    assert np.isnan(found.kwh[0, 0])
    assert found.kwh[0, 1] == pytest.approx(np.nansum(data.to_numpy()[3:6]) * 1.5)
    assert found.kwh[0, 2] == pytest.approx(data.to_numpy()[6:9].sum())


def test_counters_are_refused(tmp_path):
    path = tmp_path / "counter.csv"
    path.write_text(
        "meter_id,ts,value,kind\n" + "".join(f"a,2021-01-0{i}T00:00:00Z,{i},register\n" for i in range(1, 9))
    )
    with pytest.raises(UserError, match="--database-url"):
        energy.from_files(path, Options(), "")


def test_too_little_data_is_told(tmp_path, capsys):
    with pytest.raises(UserError, match="168 hours"):
        call(capsys, write(tmp_path / "short.csv", frame(1, 1, 100)))
