"""The detector: each kind is found early and ends, quiet meters stay quiet, and only the past counts."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.detection.detector import Settings
from operators.detection.events import Events, Status
from operators.detection.state import State
from tests.unit.detection_support import HOUR_MS, START_MS, days, run, told

HOURS = 24 * 20
AT = 24 * 16 + 9


def faulty(kind, meters=1):
    kwh, band = days(meters, HOURS)
    part = slice(AT, AT + 6)
    if kind == "spike":
        kwh[0, AT] += 12
    elif kind == "drop":
        kwh[0, part] = 0
    elif kind == "stuck":
        kwh[0, part] = kwh[0, AT - 1]
        band[0, part] = kwh[0, AT - 1] + np.array([-0.4, 0, 0.4])
    elif kind == "level_shift":
        kwh[0, AT : AT + 30] += 6
    elif kind == "missing":
        kwh[0, part] = np.nan
    return kwh, band


@pytest.mark.parametrize(
    ("kind", "within"), [("spike", 0), ("drop", 0), ("stuck", 4), ("level_shift", 4), ("missing", 2)]
)
def test_each_kind_is_found_and_ends(kind, within):
    state, events = run(*faulty(kind))
    found = [(name, hour) for _, name, hour in told(events) if AT <= hour < AT + 8]
    assert kind in [name for name, _ in found]
    assert min(hour for _, hour in found) - AT <= min(within, 2 if kind != "stuck" else 4)
    assert state.kind[0] == -1
    opened = {(k, s) for k, s, x in zip(events.kind, events.start_ms, events.status, strict=True) if x == Status.OPEN}
    closed = {(k, s) for k, s, x in zip(events.kind, events.start_ms, events.status, strict=True) if x == Status.CLOSED}
    assert opened == closed


def test_an_event_says_what_was_seen_and_expected():
    _, events = run(*faulty("spike"))
    row = int(np.flatnonzero(events.at_ms == START_MS + (AT + 1) * HOUR_MS)[0])
    assert events.start_ms[row] == START_MS + AT * HOUR_MS
    assert events.end_ms[row] == START_MS + (AT + 1) * HOUR_MS
    assert events.lower_kwh[row] < events.expected_kwh[row] < events.upper_kwh[row] < events.observed_kwh[row]
    assert 0 <= events.score[row] < 1e-4
    message = events.messages(["b2"], "model")[row]
    assert (message["meter_id"], message["kind"], message["end"]) == ("b2", "spike", None)
    assert message["anomaly_id"] == events.messages(["b2"], "model")[row + 1]["anomaly_id"]


def test_quiet_meters_say_little():
    kwh, band = days(50, 24 * 20, seed=3)
    _, events = run(kwh, band)
    assert len(told(events)) / (50 * 20) <= 0.02


def test_zero_of_each_night_is_a_habit():
    kwh, band = days(1, 24 * 30, seed=1)
    night = np.arange(24 * 30) % 24 < 6
    kwh[0, night], band[0, night] = 0.0, 0.0
    _, events = run(kwh, band)
    assert not told(events)


def test_nothing_before_enough_was_seen_but_what_cannot_be():
    kwh, band = days(1, 40)
    kwh[0, 20] = 60.0
    assert not told(run(kwh, band)[1])
    assert told(run(kwh, band, max_kw=np.array([50.0]))[1]) == [(0, "spike", 20)]


def test_another_length_of_step_starts_anew():
    kwh, band = days(1, 24 * 10)
    state, _ = run(kwh, band)
    after, _ = run(kwh[:, :1], band[:, :1], state=state, step_s=900)
    assert (after.step_s[0], after.known[0]) == (900, 1)


def columns(state):
    for field in fields(state):
        value = getattr(state, field.name)
        yield from columns(value) if hasattr(value, "__dataclass_fields__") else [value]


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000), data=st.data())
def test_no_meter_depends_on_another_or_on_the_split(seed, data):
    kwh, band = hostile(seed)
    state, events = run(kwh, band)
    order = np.array(data.draw(st.permutations(range(len(kwh)))))
    part = order[: data.draw(st.integers(1, len(kwh)))]
    own, own_events = run(kwh[part], band[part])
    for mine, all_ in zip(columns(own), columns(state), strict=True):
        np.testing.assert_array_equal(mine, all_[part])
    assert sorted(told(own_events.of_meters(part))) == sorted(row for row in told(events) if row[0] in part)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(80, 200))
def test_the_future_changes_nothing(seed, cut):
    kwh, band = hostile(seed)
    other, other_band = hostile(seed + 1)
    changed = np.concatenate((kwh[:, :cut], other[:, cut:]), axis=1)
    changed_band = np.concatenate((band[:, :cut], other_band[:, cut:]), axis=1)
    before = START_MS + cut * HOUR_MS
    one, two = run(kwh, band)[1], run(changed, changed_band)[1]
    for name in Events.__dataclass_fields__:
        a, b = (getattr(events, name)[events.at_ms <= before] for events in (one, two))
        np.testing.assert_array_equal(a, b)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_nothing_but_numbers_comes_out(seed):
    state, events = run(*hostile(seed))
    for column in columns(state):
        if column is not state.last_kwh:
            assert np.isfinite(column).all()
    assert ((events.score >= 0) & (events.score <= 1)).all()
    assert (events.start_ms < events.end_ms).all()


def hostile(seed, meters=5, hours=220):
    """Gaps, zeros, repeats, huge values, bands without width, missing forecasts."""
    rng = np.random.default_rng(seed)
    kwh, band = days(meters, hours, seed)
    kwh, band = kwh.copy(), band.copy()
    for value in (np.nan, 0.0, 1e12, -1e6, 3.0, np.inf):
        kwh[rng.random(kwh.shape) < 0.02] = value
    band[rng.random(kwh.shape) < 0.05] = np.nan
    band[rng.random(kwh.shape) < 0.05] = 0.0
    kwh[0] = 0.0
    return kwh, band


def test_state_survives_a_checkpoint():
    kwh, band = hostile(1)
    state, _ = run(kwh, band)
    again = State.from_bytes(state.to_bytes())
    for mine, other in zip(columns(again), columns(state), strict=True):
        np.testing.assert_array_equal(mine, other)
    with pytest.raises(ValueError, match="version"):
        State.from_bytes(state.to_bytes().replace(b'"version":1', b'"version":9'))
    with pytest.raises(ValueError, match="damaged"):
        State.from_bytes(state.to_bytes()[:-8])


def test_alarms_follow_the_wanted_rate():
    kwh, band = days(40, 24 * 40, seed=5)
    often = len(told(run(kwh, band, Settings(alarms_a_day=0.5))[1]))
    seldom = len(told(run(kwh, band, Settings(alarms_a_day=0.001))[1]))
    assert often > 10 * max(seldom, 1)
