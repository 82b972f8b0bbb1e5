"""The detector on a shard's history: when a step is judged, what a late reading takes back, and who is missing."""

from __future__ import annotations

import numpy as np
import pytest

from operators.detection.rhythm import NONE, Rhythm
from operators.detection.shard_watch import ShardWatch
from operators.shard import MemorySlots, Shard
from tests.unit.test_shard import HOUR, START, intervals, pieces, registers

SLOT = HOUR // 4
WEEK = 168
AT = WEEK + 72
"""Hour of the first fault: the detector has seen enough."""


def expected(history, end_ms, step_s, zones):
    """The mean of the same time of the last days."""
    per_day = 86_400 // step_s
    middle = np.nanmean(history.reshape(len(history), 7, per_day)[:, :, 0], axis=1)
    return middle[:, None] + 0.1 * np.array([-1.28, -0.84, -0.52, -0.25, 0, 0.25, 0.52, 0.84, 1.28])


def hour_of(text):
    return float((np.datetime64(text[:-1], "ms").astype(int) - START) / HOUR)


class Stream:
    """Readings by the window in which they come, and what is said of them."""

    def __init__(self):
        self.shard, self.watch = Shard(), ShardWatch()
        self.said = []

    def window(self, hour, readings, changed=frozenset()):
        changed = self.shard.apply(pieces(readings)) if readings else set(changed)
        self.said += self.watch.window(self.shard, START + round(hour * HOUR), changed, expected)

    def told(self, status=None):
        return [
            (m["meter_id"], m["kind"], m["status"], hour_of(m["start"]))
            for m in self.said
            if status in (None, m["status"])
        ]

    def restarted(self):
        """The same out of what would be in a checkpoint."""
        other = Stream()
        numbers = range(self.shard.oldest(), self.shard.history.head + 1)
        slots = MemorySlots(self.shard._slots)
        columns = {number: self.shard.column(number) for number in numbers}
        other.shard = Shard.restore(self.shard.names(), self.shard.header(), columns, slots)
        watch = self.watch.watch
        entries = {number: watch.entry(number) for number in watch.numbers()}
        other.watch = ShardWatch.restore(self.watch.header(), watch.base(), entries)
        return other


def load(meters, hours, seed=5):
    """[meters, hours] kWh: a day's shape and noise."""
    r = np.random.default_rng(seed)
    shape = 2 + np.sin(2 * np.pi * np.arange(hours) / 24)
    return shape[None] + r.normal(0, 0.05, (meters, hours))


def hourly(stream, kwh, first, until, silent=()):
    """Each hour one interval of each meter, but of those that are silent; windows of others close all the same."""
    for hour in range(first, until):
        rows = [
            row
            for meter, values in enumerate(kwh)
            if (meter, hour) not in silent
            for row in intervals(f"m{meter}", [hour + 1], values[hour])
        ]
        stream.window(hour + 1, rows)


@pytest.fixture(scope="module")
def quiet():
    """Two meters until `AT`, without a word."""
    stream = Stream()
    hourly(stream, load(2, AT), 0, AT)
    assert stream.said == []
    return stream


def test_a_spike_is_said_when_its_window_closes_and_a_late_reading_takes_it_back(quiet):
    stream, kwh = quiet.restarted(), load(2, AT + 12)
    kwh[0, AT] += 8
    hourly(stream, kwh, AT, AT + 3)
    opened, closed = stream.said
    assert (opened["meter_id"], opened["kind"], opened["status"], opened["end"]) == ("m0", "spike", "open", None)
    assert hour_of(opened["known_at"]) == AT + 1
    assert (opened["tenant_id"], closed["status"]) == ("default", "closed")
    right = intervals("m0", [AT + 1], 2.0)
    stream.window(AT + 4, [(*right[0][:6], 1, right[0][7])])
    (back,) = stream.said[2:]
    assert (back["anomaly_id"], back["status"]) == (opened["anomaly_id"], "retracted")
    assert back["known_at"] > closed["known_at"], "the newest word counts, whatever the order"


def test_a_silent_meter_is_missing_though_a_counter_fills_the_gap_later(quiet):
    stream = Stream()
    counts = load(2, AT + 30).cumsum(axis=1)
    for hour in range(AT + 30):
        rows = registers("other", [START + (hour + 1) * HOUR], [counts[0, hour]])
        if not AT <= hour < AT + 6:
            rows += registers("counter", [START + (hour + 1) * HOUR], [counts[1, hour]])
        stream.window(hour + 1, rows)
    assert [status for *_, status, _ in stream.told()] == ["open", "updated", "closed"]
    assert {(meter, kind, hour) for meter, kind, _, hour in stream.told()} == {("counter", "missing", AT)}
    assert AT + 2 <= hour_of(stream.said[0]["known_at"]) <= AT + 5
    assert hour_of(stream.said[-1]["end"]) == AT + 7, "of the gap's last hour, too, the energy is not known"


def test_a_gap_whose_readings_come_late_was_none(quiet):
    stream, kwh = quiet.restarted(), load(2, AT + 8)
    hourly(stream, kwh, AT, AT + 5, silent={(1, AT + i) for i in range(5)})
    assert stream.told() == [("m1", "missing", "open", AT)]
    late = [row for i in range(5) for row in intervals("m1", [AT + i + 1], kwh[1, AT + i])]
    stream.window(AT + 6, late)
    assert stream.told("retracted") == [("m1", "missing", "retracted", AT)]


def test_nobody_of_the_shard_is_heard_of_and_time_goes_on(quiet):
    stream = quiet.restarted()
    for quarter in range(1, 25):
        stream.window(AT + quarter / 4, [])
    assert sorted(stream.told("open")) == [("m0", "missing", "open", AT), ("m1", "missing", "open", AT)]


def test_who_reports_once_a_day_is_not_missing_in_between():
    stream, kwh = Stream(), load(1, AT + 96)
    kwh[0, AT + 30] += 8
    for hour in range(AT + 96):
        rows = intervals("often", [hour + 1], load(1, AT + 96, seed=8)[0, hour])
        if hour % 24 == 23:
            rows += [row for h in range(hour - 23, hour + 1) for row in intervals("daily", [h + 1], kwh[0, h])]
        stream.window(hour + 1, rows)
    assert stream.told() == [("daily", "spike", "closed", AT + 30)], "begun and over in one window: one word"


def test_quarter_hours_are_judged_as_such():
    stream = Stream()
    r = np.random.default_rng(3)
    for quarter in range(4 * (AT + 4)):
        kwh = 1 + r.normal(0, 0.05) + (5 if quarter == 4 * AT + 1 else 0)
        stream.window((quarter + 1) / 4, intervals("q", [(quarter + 1) / 4], kwh, SLOT))
    assert stream.told() == [("q", "spike", "open", AT + 0.25), ("q", "spike", "closed", AT + 0.25)]


@pytest.mark.parametrize("at", [AT + 1, AT + 9])
def test_a_restart_changes_nothing(quiet, at):
    kwh = load(2, AT + 48)
    kwh[0, AT] += 8
    silent = {(1, AT + 5 + i) for i in range(5)}

    def late(stream):
        stream.window(AT + 12, intervals("m1", [AT + 7], kwh[1, AT + 6]))

    whole = quiet.restarted()
    hourly(whole, kwh, AT, AT + 12, silent)
    late(whole)
    hourly(whole, kwh, AT + 12, AT + 48, silent)
    first = quiet.restarted()
    hourly(first, kwh, AT, at, silent)
    second = first.restarted()
    hourly(second, kwh, at, AT + 12, silent)
    late(second)
    hourly(second, kwh, AT + 12, AT + 48, silent)
    assert first.said + second.said == whole.said
    assert second.watch.header() == whole.watch.header()
    assert second.watch.watch.state.to_bytes() == whole.watch.watch.state.to_bytes()


def test_a_rhythm_is_the_middle_of_the_last_gaps():
    rhythm = Rhythm.empty(1)
    assert rhythm.patience_ms(np.array([SLOT])).tolist() == [SLOT], "nothing is known"
    for at in (0, 24, 48, 72, 73, 97):
        rhythm = rhythm.hear(np.array([at * HOUR]), at * HOUR)
    assert rhythm.patience_ms(np.array([SLOT])).tolist() == [30 * HOUR]
    assert rhythm.hear(np.array([97 * HOUR]), 200 * HOUR).heard_ms.tolist() == [97 * HOUR], "no news"
    assert rhythm.hear(np.array([NONE]), 200 * HOUR).heard_ms.tolist() == [97 * HOUR]
    grown = rhythm.grown(2)
    assert (grown.heard_ms.tolist(), grown.patience_ms(np.full(2, SLOT)).tolist()) == (
        [97 * HOUR, NONE],
        [30 * HOUR, SLOT],
    )


def test_a_step_in_which_no_reading_ended_is_missing_though_its_energy_is_known():
    stream = Stream()
    for quarter in (*range(1, 200), 203, 204):
        stream.window(quarter / 4, registers("c", [START + quarter * SLOT], [0.5 * quarter]))
    end = START + 201 * SLOT
    kwh, read = stream.shard.step(np.array([0]), end, 900)
    assert (kwh.tolist(), read.tolist()) == ([0.5], [False])
    kept = {end_ms: kwh.tolist() for _, end_ms, _, kwh in stream.watch.watch.kept()}
    assert kept[START + 199 * SLOT] == [0.5]
    np.testing.assert_array_equal(kept[end], [np.nan])
