"""Comparing two databases' rows: nothing is overlooked, and what production has learned since is left out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.errors import UserError
from jobs.job_settings import JobSettings
from jobs.tables import stopping
from jobs.verify import check, tables
from jobs.verify.compare import Table, Tally, differences, paired, relative
from jobs.verify.recording import Recording

TABLE = Table("t", ("k",), ("text", "kwh"), {"kwh": 1e-6})
NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@given(st.sets(st.integers(0, 50)), st.sets(st.integers(0, 50)))
def test_every_row_is_in_one_pair(left: set[int], right: set[int]) -> None:
    pairs = list(paired([(k, "l") for k in sorted(left)], [(k, "r") for k in sorted(right)], 1))
    assert {a[0] for a, _ in pairs if a} == left
    assert {b[0] for _, b in pairs if b} == right
    assert {a[0] for a, b in pairs if a and b} == left & right
    assert len(pairs) == len(left | right)


@pytest.mark.parametrize(
    ("left", "right", "names", "largest"),
    [
        ((1, "a", 5.0), (1, "a", 5.0), set(), 0.0),
        ((1, "a", 5.0), (1, "b", 5.0), {"text"}, 0.0),
        ((1, "a", 1.0), (1, "a", 1.0 + 1e-7), set(), 1e-7),
        ((1, "a", 1.0), (1, "a", 1.01), {"kwh"}, 0.01 / 1.01),
        ((1, "a", None), (1, "a", 1.0), {"kwh"}, float("inf")),
        ((1, "a", None), (1, "a", None), set(), 0.0),
    ],
)
def test_differences_of_a_row(left: Any, right: Any, names: set[str], largest: float) -> None:
    found, by = differences(TABLE, left, right)
    assert found.keys() == names
    assert by == pytest.approx(largest, rel=1e-6)


def test_arrays_are_measured_by_their_greatest_number() -> None:
    assert relative("{100,0.001}", "{100,0.002}") == pytest.approx(1e-5)
    assert relative("{1,2}", "{1}") == float("inf")
    assert relative("{}", "{}") == 0
    assert relative("{NaN}", "{1}") == float("inf")
    assert relative(1e-9, 2e-9) == pytest.approx(1e-6), "below 1 Wh as if of 1 Wh"


def test_rows_of_one_side_are_counted_and_the_first_kept() -> None:
    tally = Tally()
    pairs = paired([(1, "a", 1.0), (2, "a", 1.0)], [(k, "a", 1.0) for k in range(2, 20)], 1)
    check._rows(TABLE, pairs, tally, lambda a, b: False)
    assert (tally.production, tally.replay, tally.missing, tally.extra, tally.different) == (2, 18, 1, 17, 0)
    assert not tally.equal
    assert [row["what"] for row in tally.first] == ["missing"] + 4 * ["extra"]


def reading(ts: datetime, received: datetime, value: float = 1.0, revision: int = 0, interval: Any = None) -> Any:
    """A row of `reading` of meter m."""
    return ("m", "r", ts, "register", value, "kWh", interval, revision, "measured", "default", received)


def test_a_reading_since_is_left_out_and_the_energy_that_it_changes() -> None:
    since, tally = check.Since(arrived=NOON), Tally()
    old = [reading(NOON - 5 * HOUR, NOON - 5 * HOUR), reading(NOON - 4 * HOUR, NOON - 4 * HOUR)]
    late = reading(NOON - 2 * HOUR, NOON + HOUR)
    check._readings(paired([*old, late], old, 3), tally, since)
    assert tally.equal
    assert (tally.production, tally.replay, tally.left_out) == (3, 2, 1)
    hourly = tables.ENERGY[1]
    assert not since.covers(hourly, ("m", NOON - 5 * HOUR, 1.0, 1, 1.0), None)
    assert since.covers(hourly, ("m", NOON - 4 * HOUR, 1.0, 1, 1.0), None), "from the reading before it"
    assert since.covers(tables.ENERGY[2], ("m", NOON.replace(hour=0), 1.0, 1, 1.0), None)
    assert not since.covers(hourly, ("another", NOON, 1.0, 1, 1.0), None)


def test_a_reading_revised_since_is_left_out_and_one_that_differs_is_not() -> None:
    ts = NOON - 5 * HOUR
    for production, equal in ((reading(ts, ts, 2.0, revision=1), True), (reading(ts, ts, 2.0), False)):
        tally = Tally()
        check._readings(paired([production], [reading(ts, ts)], 3), tally, check.Since(arrived=NOON))
        assert tally.equal == equal
    tally = Tally()
    check._readings(paired([reading(ts, ts, 2.0, revision=1)], [reading(ts, ts)], 3), tally, check.Since())
    assert tally.different == 1, "nothing came since"


def test_forecasts_that_may_know_more_are_left_out() -> None:
    since = check.Since(settled=NOON)
    assert since.covers(tables.FORECAST, ("m", NOON + HOUR), None)
    assert not since.covers(tables.FORECAST, ("m", NOON), None)
    assert not check.Since().covers(tables.FORECAST, ("m", NOON), None)


def test_a_recording_says_where_to_stop_and_what_is_left() -> None:
    taken = Recording("meter.readings", {0: 5, 1: 0}, {0: 10, 1: 0}, 0, 0)
    assert (taken.records, taken.deleted, taken.until_offsets()) == (5, 5, "0:10,1:0")
    assert taken.left({}) == 5
    assert taken.left({0: 8}) == 2
    assert taken.left({0: 12, 1: 4}) == 0


def test_a_job_stops_at_the_offsets_it_is_told(no_settings: pytest.MonkeyPatch) -> None:
    addresses = ["--kafka", "h:9092", "--database-url", "postgresql://h/d"]
    assert stopping(JobSettings.parse(addresses, "")) == ""
    assert "'latest-offset'" in stopping(JobSettings.parse([*addresses, "--until-complete"], ""))
    told = JobSettings.parse([*addresses, "--until-complete", "--until-offsets", "0:10,1:0"], "")
    assert "'partition:0,offset:10;partition:1,offset:0'" in stopping(told)
    with pytest.raises(UserError, match="expected PARTITION:OFFSET"):
        JobSettings.parse([*addresses, "--until-offsets", "ten"], "")


def test_a_run_beside_production_writes_elsewhere(no_settings: pytest.MonkeyPatch) -> None:
    settings = JobSettings("h:9092", "postgresql://h/d", topic_prefix="a.", output_prefix="verify-1.")
    assert settings.output_topic("forecasts") == "verify-1.a.forecasts"
    assert settings.name("energyai-ingest") == "verify-1.energyai-ingest"
