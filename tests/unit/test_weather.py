"""Weather as it was known at a time: the newest report by then, and nothing later."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators import weather
from operators.features import (
    CALENDAR,
    CONTEXT_HOURS,
    FEATURE_SETS,
    HISTORY_EXTRA,
    WEATHER_HOURS,
    WITH_WEATHER,
    model_inputs,
)
from operators.weather import HOUR_MS, Report, Weather, WeatherError

NOON = 470_000 * HOUR_MS
AT = np.array([NOON], np.int64)


def report(hour: int, issued_h: float, celsius: float = 0.0, sun: float = math.nan, site: str = "hq") -> Report:
    return Report(site, NOON + hour * HOUR_MS, int(NOON + issued_h * HOUR_MS), (celsius, sun))


def known(*reports: Report, site: str = "hq") -> np.ndarray:
    return weather.of_reports(reports).known([site], AT)[0]


def test_the_newest_report_by_the_time_of_issue_counts_whatever_came_later() -> None:
    found = known(
        report(3, -30, 5.0), report(3, -6, 7.0), report(3, 0.001, 9.0), report(-2, -10, 1.0), report(-2, -1, 2.0)
    )
    assert found.shape == (WEATHER_HOURS, 2)
    assert found[CONTEXT_HOURS + 3, 0] == 7.0
    assert found[CONTEXT_HOURS - 2, 0] == 2.0
    assert np.isfinite(found).sum() == 2
    assert not np.isfinite(known(report(3, -6, 7.0), site="elsewhere")).any()


def test_a_part_that_a_newer_report_does_not_tell_stays() -> None:
    found = known(report(0, -6, 7.0, 300.0), report(0, -3, math.nan, 200.0))
    assert found[CONTEXT_HOURS].tolist() == [7.0, 200.0]


reports = st.lists(
    st.builds(
        report,
        st.integers(-170, 26),
        st.integers(-200, 40).map(lambda quarter: quarter / 4),
        st.floats(-30, 40, width=32),
        st.one_of(st.just(math.nan), st.floats(0, 1000, width=32)),
        st.sampled_from(["hq", "annex"]),
    ),
    max_size=30,
)


@given(reports, reports, st.randoms())
def test_nothing_issued_later_and_no_order_changes_an_input(earlier: list[Report], later: list[Report], order) -> None:  # type: ignore[no-untyped-def]
    by_then = [each for each in earlier if each.issued_ms <= NOON]
    after = [replace(each, issued_ms=max(each.issued_ms, NOON + 1)) for each in later]
    mixed = [*by_then, *after, *by_then[:3]]
    order.shuffle(mixed)
    live = Weather()
    for number, each in enumerate(mixed):
        live.add(each)
        if number % 7 == 0:
            live.known(["hq"], AT)  # what was asked for before must not matter either
    history, sites = np.ones((2, CONTEXT_HOURS)), ["hq", "annex"]
    at = np.repeat(AT, 2)

    def inputs(of: Weather) -> np.ndarray:
        made, _ = model_inputs(
            history, at, np.zeros(2, np.int64), feature_set=WITH_WEATHER, weather=of.known(sites, at)
        )
        return made["extra"]

    wanted = inputs(weather.of_reports(by_then))
    assert np.isfinite(wanted).all()
    assert np.array_equal(inputs(live), wanted)
    assert np.array_equal(inputs(weather.of_arrays(weather.to_arrays(live))), wanted)
    live.forget(NOON - CONTEXT_HOURS * HOUR_MS)
    assert np.array_equal(inputs(live), wanted)


def test_columns_of_the_weather() -> None:
    hours = np.arange(-CONTEXT_HOURS, 24)
    ts = NOON + hours * HOUR_MS
    values = np.stack((np.where(hours < 0, 12.0, 17.0), np.where(hours < 0, 100.0, 400.0)), axis=1)
    found = Weather.of_columns(["hq"] * len(hours), ts, np.minimum(ts + HOUR_MS, NOON), values).known(["hq"], AT)
    one = np.ones((1, CONTEXT_HOURS)), AT, np.zeros(1, np.int64)
    extra = model_inputs(*one, feature_set=WITH_WEATHER, weather=found)[0]["extra"][0, HISTORY_EXTRA + CALENDAR :]
    ahead = [0.5] * 24 + [0.5] * 4 + [0.0] * 7 + [np.float32(5 / 12)] + [1.0] * 4 + [1.0] * 3
    assert extra.tolist() == pytest.approx(ahead)
    without = model_inputs(*one, feature_set=WITH_WEATHER)[0]["extra"][0]
    assert len(without) == FEATURE_SETS[WITH_WEATHER]
    assert not without[HISTORY_EXTRA + CALENDAR :].any()


def test_hours_that_no_forecast_asks_for_are_forgotten() -> None:
    found = weather.of_reports([report(-300, -299), report(5, -1, site="annex")])
    found.forget(NOON - 200 * HOUR_MS)
    assert found.sites == ["annex"]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b"[]", "JSON object"),
        (b'{"ts": 0', "JSON object"),
        (b'{"ts": 1800000, "temperature_c": 1}', "start of an hour"),
        (b'{"ts": "2026-01-01T00:00:00", "temperature_c": 1}', "offset"),
        (b'{"ts": 0, "temperature_c": "1"}', "number"),
        (b'{"ts": 0, "temperature_c": 1e300}', "number"),
        (b'{"ts": 0, "site_id": 7, "temperature_c": 1}', "texts"),
        (b'{"ts": 0}', "says nothing"),
        (None, "JSON object"),
    ],
)
def test_what_is_no_weather_is_said(message: bytes | None, says: str) -> None:
    with pytest.raises(WeatherError, match=says):
        Report.of_message(message)
