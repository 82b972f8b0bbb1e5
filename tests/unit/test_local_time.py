"""Local time and holidays: literal dates, any zone, and what a model sees of them."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.features import CONTEXT_HOURS, FEATURE_SETS, HISTORY_EXTRA, model_inputs
from operators.forecaster import SHIPPED_MODEL, Forecaster, shipped_sha256
from operators.local_time import PlaceError, holiday_flags, is_placed, utc_offset_s

HOUR_MS = 3_600_000


def ms(*moment):
    return np.array([int(datetime(*moment, tzinfo=UTC).timestamp() * 1000)], dtype=np.int64)


def flags(zone, at):
    return holiday_flags(zone, at, utc_offset_s(zone, at))[0].tolist()


@pytest.mark.parametrize(
    ("zone", "moment", "offset"),
    [
        ("Europe/London", (2021, 3, 28, 0, 45), 0),
        ("Europe/London", (2021, 3, 28, 1, 0), 3600),
        ("Australia/Melbourne", (2021, 1, 1), 39_600),
        ("Asia/Kathmandu", (2021, 1, 1), 20_700),
        ("UTC", (2021, 1, 1), 0),
        ("", (2021, 1, 1), 0),
    ],
)
def test_offset_of_literal_moments(zone, moment, offset):
    assert utc_offset_s(zone, ms(*moment)).tolist() == [offset]


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", "Europe/"])
def test_zone_that_does_not_exist(zone):
    with pytest.raises(PlaceError, match="IANA") as error:
        utc_offset_s(zone, ms(2021, 1, 1))
    assert "\n" not in str(error.value)


def test_holidays_of_the_days_around_an_issue():
    # Good Friday 2 April and Easter Monday 5 April 2021, in England; the dates are 27 March to 4 April, …
    assert flags("Europe/London", ms(2021, 4, 3)) == [False] * 6 + [True, False, False]
    # … and 29 March to 6 April when it is issued on Easter Monday.
    assert flags("Europe/London", ms(2021, 4, 5, 12)) == [False] * 4 + [True, False, False, True, False]
    # Issued at 23:30 UTC on Sunday it is Monday in London, by summer time.
    assert flags("Europe/London", ms(2021, 4, 4, 23, 30)) == flags("Europe/London", ms(2021, 4, 5, 12))
    # Christmas and New Year lie in two years.
    assert flags("Europe/Amsterdam", ms(2021, 12, 31, 12)) == [False, True, True] + [False] * 5 + [True]


def test_states_have_their_own_holidays():
    # Melbourne Cup Day 2021 is kept in Victoria only.
    assert flags("Australia/Melbourne", ms(2021, 11, 2, 2))[7]
    assert not flags("Australia/Sydney", ms(2021, 11, 2, 2))[7]


@pytest.mark.parametrize("zone", ["", "UTC", "Etc/UTC", "Etc/GMT+5"])
def test_zone_without_a_country_has_no_holidays(zone):
    assert not any(flags(zone, ms(2021, 12, 25)))
    assert is_placed(zone) == (zone == "Etc/GMT+5")


@given(st.lists(st.integers(0, 4_000_000_000), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_each_row_by_itself_is_the_same(seconds):
    at = np.array(seconds, dtype=np.int64) * 1000
    offset = utc_offset_s("America/New_York", at)
    together = holiday_flags("America/New_York", at, offset)
    for row in range(len(at)):
        part = slice(row, row + 1)
        assert utc_offset_s("America/New_York", at[part])[0] == offset[row]
        assert np.array_equal(holiday_flags("America/New_York", at[part], offset[part])[0], together[row])


def calendar(at, holidays, placed=None):
    zero = np.zeros(len(at), dtype=np.int64)
    inputs, _ = model_inputs(np.ones((len(at), CONTEXT_HOURS)), at, zero, holidays, placed)
    return inputs["extra"][:, HISTORY_EXTRA:]


def test_calendar_columns_of_literal_issues():
    off = np.zeros((2, 9), dtype=bool)
    off[:, 0] = off[:, 7] = True  # the date a week ago, and that of the issue
    found = calendar(np.concatenate((ms(1970, 1, 1), ms(1970, 1, 1, 6))), off)
    assert found[0, :4] == pytest.approx([0, 0, 1, 1], abs=1e-6)  # midnight
    assert found[1, :4] == pytest.approx([1, 0, 0, -1], abs=1e-6)  # six o'clock
    assert found[0, 4:10] == pytest.approx([0, 0, 0, 1, 1, 1], abs=1e-6)  # the year begins
    assert found[0, 10:].tolist() == [1, 0, 0, 0, 0, 0, 0, 1, 1, 1]
    # At six, a quarter of each date lies in the day before: the forecast ends on the next date, a working day.
    assert found[1, 10:] == pytest.approx([0.75, 0, 0, 0, 0, 0, 0.25, 0.75, 1, 0])


def test_meter_without_a_place_has_no_calendar():
    at = np.repeat(ms(2021, 6, 1, 9), 2)
    assert not calendar(at, None).any()
    found = calendar(at, np.ones((2, 9), dtype=bool), np.array([True, False]))
    assert found[0].any()
    assert not found[1].any()


def test_older_feature_set_is_a_part_of_the_newer():
    at, zero = ms(2021, 6, 1, 9), np.zeros(1, dtype=np.int64)
    history = np.random.default_rng(0).random((1, CONTEXT_HOURS))
    old, _ = model_inputs(history, at, zero, np.ones((1, 9), dtype=bool), feature_set="week168-v1")
    new, _ = model_inputs(history, at, zero)
    assert old["extra"].shape[1] == FEATURE_SETS["week168-v1"] == HISTORY_EXTRA
    assert np.array_equal(new["extra"][:, :HISTORY_EXTRA], old["extra"])


def test_forecaster_takes_each_meter_at_its_place():
    forecaster = Forecaster.load(SHIPPED_MODEL, shipped_sha256())
    rng = np.random.default_rng(0)
    history = 1 + rng.random((3, CONTEXT_HOURS * 4))
    at = int(ms(2021, 12, 24, 23, 30)[0])
    zones = ["Europe/London", "", "Australia/Melbourne"]
    together = forecaster.predict(history, at, 900, zones=zones)
    for row, zone in enumerate(zones):
        alone = forecaster.predict(history[row : row + 1], at, 900, zones=zone)
        assert together[row] == pytest.approx(alone[0], rel=1e-5)
    unknown = forecaster.predict(history, at, 900)
    assert together[1] == pytest.approx(unknown[1], rel=1e-5)
    assert not np.allclose(together[0], unknown[0], rtol=1e-3)
    with pytest.raises(PlaceError):
        forecaster.predict(history, at, 900, zones="Mars/Olympus")
