"""Recorded series through the detector, with the shipped model; and the score of the bench."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from jobs.anomalies.run import detect
from jobs.cli import main
from models.dataset import MeterSeries
from operators.detection.events import Events, Kind
from operators.detection.next_step import next_step
from operators.features import CONTEXT_HOURS
from operators.forecaster import Forecaster
from tests.bench.faults import Fault, clean, inject, score

START_MS = 1_767_225_600_000
AT = 24 * 17 + 10


@pytest.fixture(scope="module")
def forecaster():
    return Forecaster.load()


def office(meters=2, hours=24 * 19, seed=0):
    rng = np.random.default_rng(seed)
    hour = np.arange(hours)
    kwh = 20 + 15 * ((hour % 24 >= 8) & (hour % 24 < 18)) + rng.normal(0, 0.8, (meters, hours))
    return MeterSeries(tuple(f"m{n}" for n in range(meters)), START_MS, kwh, np.zeros(hours, np.int64), 3600, "")


@pytest.mark.parametrize(("step_s", "zone"), [(900, "Europe/Berlin"), (3600, "Europe/Berlin"), (900, "")])
def test_the_next_step_is_the_first_of_the_whole_forecast(forecaster, step_s, zone):
    history = np.random.default_rng(1).uniform(1, 3, (9, CONTEXT_HOURS * 3600 // step_s))
    history[0, 5:40] = np.nan
    end = np.full(9, START_MS + 900_000 * 13 // (3600 // step_s) * (3600 // step_s))
    end = end // (step_s * 1000) * (step_s * 1000)
    whole = forecaster.predict(history, end, step_s, 0, zone or None)[:, :, 0]
    np.testing.assert_allclose(next_step(forecaster, history, end, step_s, zone), whole, rtol=1e-5)


def test_a_spike_in_recorded_series_and_no_look_ahead(forecaster):
    series = office()
    series.kwh[1, AT] += 60
    events = detect(forecaster, series)
    at = START_MS + (AT + 1) * 3_600_000
    assert (1, Kind.SPIKE) in list(zip(events.meter, events.kind, strict=True))
    changed = office()
    changed.kwh[1, AT] += 60
    changed.kwh[:, AT + 1 :] = 0
    other = detect(forecaster, changed)
    for name in Events.__dataclass_fields__:
        one, two = (getattr(e, name)[e.at_ms <= at] for e in (events, other))
        np.testing.assert_array_equal(one, two)


def test_the_command(tmp_path, capsys):
    series = office()
    series.kwh[1, AT] += 60
    index = pd.date_range("2026-01-01", periods=series.kwh.shape[1], freq="h", tz="UTC", name="ts")
    path = tmp_path / "data.parquet"
    pd.DataFrame(series.kwh.T, index=index, columns=list(series.names)).to_parquet(path)
    assert main(["detect", str(path), "--timestamps", "start", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["meter_id"], row["kind"]) for row in found["anomalies"] if row["kind"] == "spike"] == [("m1", "spike")]
    assert main(["detect", str(path), "--alarms-a-day", "3"]) == 2
    assert "--alarms-a-day" in capsys.readouterr().err


def test_faults_are_seeded_and_lie_apart():
    kwh = office(1, 24 * 63).kwh[0]
    assert clean(kwh, 1)
    one, faults = inject(kwh, 1, 24 * 28, np.random.default_rng(3), 0)
    again, _ = inject(kwh, 1, 24 * 28, np.random.default_rng(3), 0)
    np.testing.assert_array_equal(one, again)
    inside = np.zeros(len(kwh), bool)
    for fault in faults:
        inside[fault.first : fault.stop] = True
    np.testing.assert_array_equal(one[~inside], kwh[~inside])
    assert not inside[: 24 * 28].any()
    assert all(b.first - a.stop >= 4 * 24 for a, b in pairwise(faults))
    flat = kwh.copy()
    flat[100:110] = flat[100]
    assert not clean(flat, 1)


def test_the_score_counts_events():
    faults = [Fault(0, "drop", 100, 110), Fault(0, "spike", 200, 201), Fault(1, "stuck", 100, 120)]
    opened = [(0, 10), (0, 101), (0, 105), (0, 111), (0, 112), (1, 150), (0, 202)]
    figures = score(opened, faults, 50, (2, 298), 1).figures()
    assert (figures["faults"], figures["recall"], figures["precision"]) == (3, 0.667, 0.5)
    assert figures["delay_steps"] == 1.5
    assert figures["false_a_meter_day"] == round(2 / (2 * 248 / 24), 4)
