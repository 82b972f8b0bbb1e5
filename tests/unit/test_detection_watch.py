"""The watch: anomalies spoil no later forecast, late readings take events back, state survives a restart."""

from __future__ import annotations

import numpy as np
import pytest

from operators.detection.events import Events, Status
from operators.detection.watch import Watch
from tests.unit.detection_support import HOUR_MS, START_MS, days, told

CONTEXT = 168
NOISE = 0.3


class Fleet:
    """Meters whose forecast is the mean of the same hour of the week's days."""

    def __init__(self, kwh, watch=None, hour=0):
        self.kwh, self.watch, self.hour = kwh, watch or Watch(), hour
        self.said = []
        self.asked = 0

    def predict(self, history, meters):
        self.asked += len(history)
        middle = np.nanmean(history.reshape(len(history), 7, 24)[:, :, 0], axis=1)
        levels = np.array([-1.28, -0.84, -0.52, -0.25, 0, 0.25, 0.52, 0.84, 1.28])
        return middle[:, None] + NOISE * levels

    def run(self, until):
        rows = np.arange(len(self.kwh))
        for hour in range(self.hour, until):
            history = np.full((len(self.kwh), CONTEXT), np.nan)
            known = self.kwh[:, max(0, hour + 1 - CONTEXT) : hour + 1]
            history[:, CONTEXT - known.shape[1] :] = known
            issued = np.full((len(self.kwh), 3), np.nan)
            if hour + 1 >= CONTEXT:
                issued = self.predict(history, rows)[:, [0, 4, 8]]
            end = np.full(len(rows), START_MS + (hour + 1) * HOUR_MS)
            self.said.append(self.watch.step(rows, end, 3600, history, issued, self.predict))
        self.hour = until
        return self

    @property
    def events(self):
        return Events.none().joined(*self.said)


AT = 24 * 25 + 3


def spiked(size=40.0):
    kwh, _ = days(3, 24 * 32, seed=4, noise=NOISE)
    kwh[1, AT] += size
    return kwh


def test_a_spike_is_not_expected_again():
    fleet = Fleet(spiked()).run(24 * 32)
    assert told(fleet.events) == [(1, "spike", AT)]
    same_hour = [START_MS + (AT + 24 * day) * HOUR_MS for day in range(1, 7)]
    assert not set(fleet.watch.state.start_ms.tolist()) & set(same_hour)


def test_a_late_reading_takes_an_event_back_and_only_that():
    fleet = Fleet(spiked()).run(AT + 5)
    end = np.array([START_MS + (AT + 1) * HOUR_MS])
    clean = days(3, 24 * 32, seed=4, noise=NOISE)[0]
    back = fleet.watch.revise(np.array([1]), end, clean[1, [AT]])
    assert told(back, Status.RETRACTED) == [(1, "spike", int((back.at_ms[0] - START_MS) // HOUR_MS - 1))]
    assert (back.kind[0], back.start_ms[0]) == (0, START_MS + AT * HOUR_MS)
    never = Fleet(clean).run(AT + 5)
    np.testing.assert_array_equal(fleet.watch.state.kind, never.watch.state.kind)
    np.testing.assert_allclose(fleet.watch.state.counts, never.watch.state.counts, atol=0.5)
    assert len(fleet.watch.revise(np.array([1]), end, clean[1, [AT]])) == 0


def test_a_gap_that_is_filled_later_is_retracted_and_a_late_spike_is_said():
    clean = days(3, 24 * 32, seed=4, noise=NOISE)[0]
    kwh = clean.copy()
    kwh[0, AT : AT + 5] = np.nan
    fleet = Fleet(kwh).run(AT + 5)
    assert [kind for _, kind, _ in told(fleet.events)] == ["missing"]
    ends = START_MS + (AT + 1 + np.arange(5)) * HOUR_MS
    values = clean[0, AT : AT + 5].copy()
    values[2] += 40
    said = fleet.watch.revise(np.zeros(5, np.int64), ends, values)
    assert [kind for _, kind, _ in told(said, Status.RETRACTED)] == ["missing"]
    assert told(said, Status.CLOSED) == [(0, "spike", AT + 3)]


def test_what_is_no_longer_kept_stays():
    fleet = Fleet(spiked()).run(AT + 48)
    end = np.array([START_MS + (AT + 1) * HOUR_MS])
    assert len(fleet.watch.revise(np.array([1]), end, np.array([10.0]))) == 0
    assert 24 <= len(fleet.watch.numbers()) <= 24 + 6


@pytest.mark.parametrize("at", [AT - 20, AT + 1, AT + 6])
def test_state_survives_a_restart(at):
    kwh = spiked()
    kwh[2, AT : AT + 6] = np.nan
    whole = Fleet(kwh).run(24 * 28)
    first = Fleet(kwh).run(at)
    entries = {number: first.watch.entry(number) for number in first.watch.numbers()}
    watch = Watch.restore(first.watch.header(), first.watch.base(), entries)
    assert watch.state.to_bytes() == first.watch.state.to_bytes()
    second = Fleet(kwh, watch, at).run(24 * 28)
    assert second.watch.header() == whole.watch.header()
    assert told(first.events) + told(second.events) == told(whole.events)


def test_state_of_another_version_is_refused():
    watch = Fleet(spiked()).run(3).watch
    header = watch.header()
    with pytest.raises(ValueError, match="version"):
        Watch.restore(header.replace(b'{"version":1', b'{"version":7', 1), watch.base(), {})


def test_new_meters_come_after_the_old_ones():
    kwh, _ = days(2, 10)
    watch = Fleet(kwh[:1]).run(5).watch
    assert len(watch.state) == 1
    assert len(Fleet(kwh, watch, 5).run(10).watch.state) == 2
