"""What Spark's workers do to a meter and to a batch, without Spark."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pandas as pd
import pytest

from jobs.retraining import rows
from jobs.retraining.estate import _packed, _pieces, _unpacked
from jobs.retraining.session import told
from models import training
from models.backtest import Span, backtest
from models.dataset import from_frame
from models.drawing import ROUND, Plan, key_of
from models.estate import InMemory
from operators.features import CONTEXT_HOURS, FEATURE_SET, FEATURE_SETS, HORIZON_HOURS, WITH_WEATHER
from operators.forecaster import Forecaster
from operators.weather import Weather

HOUR_MS = 3_600_000
START = 1_609_459_200_000  # 2021-01-01


def frame(meters=3, days=30):
    rng = np.random.default_rng(2)
    index = pd.date_range("2021-01-01", periods=24 * days, freq="h", tz="UTC")
    kwh = rng.uniform(1, 3, (len(index), meters))
    kwh[100:130, 0] = np.nan
    return pd.DataFrame(kwh, index=index, columns=[f"m{i}" for i in range(meters)])


def as_rows(*sets):
    return pd.DataFrame([rows.series_row(series, i) for series in sets for i in range(len(series.names))])


def steps(*values, zone="UTC"):
    return pd.DataFrame(
        {
            "name": "m",
            "zone": zone,
            "site": "hq",
            "start_ms": [START + int(hour * HOUR_MS) for hour, _ in values],
            "kwh": [kwh for _, kwh in values],
        }
    )


def test_a_meter_survives_its_row():
    series = from_frame(frame(), "Europe/London")
    for i, row in enumerate(as_rows(series).itertuples()):
        back = rows.series_of(row)
        assert (back.names, back.start_ms, back.step_s, back.zone) == ((f"m{i}",), START, 3600, "Europe/London")
        assert np.array_equal(back.kwh[0], series.kwh[i], equal_nan=True)
        assert np.array_equal(back.utc_offset_s, series.utc_offset_s)


def test_steps_in_any_order_make_one_grid():
    found = rows.grouped(steps((3, 4.0), (0, 1.0), (1, 2.0), (1, 2.5), (2, np.nan)), 3600)
    (row,) = found.itertuples()
    assert (row.name, row.start_ms, row.step_s) == ("m", START, 3600)
    assert rows.series_of(row).sites == ("hq",)
    assert rows.series_of(row).kwh[0].tolist() == [1.0, 2.5, pytest.approx(np.nan, nan_ok=True), 4.0]
    quarters = rows.grouped(steps((0.5, 1.0), (0.75, 1.0), (1.25, 2.0)), 900)
    assert quarters["start_ms"].tolist() == [START]  # whole hours, so that hours are the same in any grid
    assert len(rows.series_of(next(quarters.itertuples())).kwh[0]) == 8


def test_a_meter_without_values_is_no_row_and_times_apart_are_told():
    assert rows.grouped(steps((0, np.nan)), 3600).empty
    with pytest.raises(ValueError, match="meter m lie more than 40 years apart"):
        rows.grouped(steps((0, 1.0), (24 * 366 * 41, 1.0)), 3600)


def foreseen() -> Weather:
    """Of the site of the first set: measured hours, and each day's forecast at noon."""
    rng = np.random.default_rng(4)
    hour = np.arange(24 * 30)
    ts = START + np.concatenate((hour, hour)) * HOUR_MS
    issued = np.where(np.arange(len(ts)) < len(hour), ts + HOUR_MS, ts - ts % (24 * HOUR_MS) - 12 * HOUR_MS)
    return Weather.of_columns(np.full(len(ts), "hq"), ts, issued, rng.uniform(0, 20, (len(ts), 2)))


@pytest.mark.parametrize("weather", [None, foreseen()], ids=["without weather", "with weather"])
def test_workers_make_the_batches_that_memory_makes(weather):
    sent = rows.Sent.of(weather).weather()
    assert (sent is None) == (weather is None)
    sets = [from_frame(frame(), "Europe/London"), from_frame(frame(2).rename(columns={"m0": "x", "m1": "y"}), "")]
    sets[0] = replace(sets[0], sites=("hq", "elsewhere", "hq"))
    sets = [replace(series, weather=weather) for series in sets]
    until = START + 28 * 24 * HOUR_MS
    estate = InMemory.of(sets, until, 0, 0.0)
    expected = list(estate.batches(7, 5, 64))
    plan = Plan(7, 64, 5)
    drawn = pd.concat(
        [rows.drawn(row, plan, 0, until, weather=sent) for row in as_rows(*sets).sample(frac=1).itertuples()]
    )
    drawn = drawn.sample(frac=1, random_state=1)  # as a shuffle does
    columns = expected[0].inputs["extra"].shape[1]
    assert columns == FEATURE_SETS[FEATURE_SET if weather is None else WITH_WEATHER]
    for number, batch in enumerate(expected):
        (made,) = rows.made(drawn[drawn["batch"] == number], plan, 0)
        assert made["rows"] == len(batch.target)
        assert made["window"] == batch.inputs["window"].tobytes()
        assert made["extra"] == batch.inputs["extra"].tobytes()
        assert np.array_equal(
            np.frombuffer(made["target"], "<f4").reshape(-1, HORIZON_HOURS), batch.target, equal_nan=True
        )


def test_windows_to_train_on_do_not_depend_on_the_grid_around_a_meter():
    alone = from_frame(frame(1), "UTC")
    wide = frame(1).reindex(pd.date_range("2020-12-20", "2021-02-20", freq="h", tz="UTC"))
    padded = from_frame(wide, "UTC")
    until = START + 60 * 24 * HOUR_MS
    one, other = training.trainable(alone, until), training.trainable(padded, until)
    shift = (alone.start_ms - padded.start_ms) // HOUR_MS
    assert len(one) > 100
    assert np.array_equal(one[:, 1] + shift, other[:, 1])
    assert one[:, 1].min() >= CONTEXT_HOURS
    (row,) = as_rows(padded).itertuples()
    assert rows.count_of(row, until) == len(one)


def test_meters_kept_out_are_known_by_name_and_zone():
    kept = rows.Kept(frozenset({key_of("m1", "Europe/London")}))
    seen = [
        kept.sees(row) for row in as_rows(from_frame(frame(), "Europe/London"), from_frame(frame(), "")).itertuples()
    ]
    assert seen == [True, False, True, True, True, True]


def test_judged_sums_survive_the_way_to_the_driver():
    judged = backtest(Forecaster.load(), from_frame(frame(2, 12), "UTC"), Span())
    back = _unpacked(_packed(judged))
    assert (back.names, back.first_ms, back.last_ms, back.banded) == (
        judged.names,
        judged.first_ms,
        judged.last_ms,
        judged.banded,
    )
    assert list(back.sums) == list(judged.sums)
    for name, sums in judged.sums.items():
        assert all(np.array_equal(value, getattr(back.sums[name], part)) for part, value in vars(sums).items())


def test_pieces_cover_each_round_once_and_begin_with_what_is_needed():
    assert list(islice(_pieces(3), 3)) == [(0, 0, 3), (0, 3, ROUND), (1, 0, ROUND)]
    assert list(islice(_pieces(ROUND + 1), 3)) == [(0, 0, ROUND), (1, 0, 1), (1, 1, ROUND)]


def test_what_a_piece_leaves_out_another_has():
    (row, *_) = as_rows(from_frame(frame(1), "")).itertuples()
    plan, until = Plan(0, 8, 1), START + 28 * 24 * HOUR_MS
    whole = rows.drawn(row, plan, 0, until)
    parts = [rows.drawn(row, plan, 0, until, *borders) for borders in ((0, 7), (7, ROUND))]
    assert len(whole) == sum(map(len, parts)) == 8 * ROUND
    assert set(parts[0]["batch"]) <= set(range(7))


def test_errors_of_workers_are_told_by_their_last_words():
    trace = "An exception was thrown from a worker:\nTraceback (most recent call last):\nValueError: meter m: no"
    assert told(RuntimeError(trace)) == "meter m: no"
    assert told(RuntimeError("[PATH_NOT_FOUND] none\nmore")) == "[PATH_NOT_FOUND] none"
    assert told(RuntimeError("")) == "RuntimeError"
