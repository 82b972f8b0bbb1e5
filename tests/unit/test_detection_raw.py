"""The fast path: power that cannot be, or that never was, out of single readings."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from operators.detection.raw import LEARN_MS, Past, powers
from operators.readings import Kind

MINUTE = 60_000
HOUR = 60 * MINUTE


def look(rows, limit=(50.0, np.nan), past=None):
    """rows: (series, ts_ms, kind, value, interval_ms)."""
    series, ts, kind, value, interval = (np.array(column) for column in zip(*rows, strict=True))
    past = past or Past.empty(len(limit))
    return powers(series, ts, kind.astype(np.int8), value.astype(float), interval, np.array(limit, float), past)


def over(found):
    return np.flatnonzero(found.over).tolist()


def hours_of(kw, n, first=0):
    """Hourly intervals of series 0."""
    return [(0, first + (i + 1) * HOUR, Kind.INTERVAL, kw, HOUR) for i in range(n)]


def test_each_kind_of_reading_and_its_limit():
    found, _ = look(
        [
            (0, MINUTE, Kind.REGISTER, 100.0, 0),
            (0, 2 * MINUTE, Kind.REGISTER, 100.5, 0),
            (0, 3 * MINUTE, Kind.REGISTER, 102.5, 0),
            (0, 4 * MINUTE, Kind.INSTANT, 51.0, 0),
            (0, 5 * MINUTE, Kind.INTERVAL, 0.9, MINUTE),
            (1, 6 * MINUTE, Kind.INSTANT, 1e9, 0),
            (0, 7 * MINUTE, Kind.INSTANT, -60.0, 0),
            (0, 8 * MINUTE, Kind.INSTANT, np.nan, 0),
        ]
    )
    assert over(found) == [2, 3, 4, 6]
    assert np.round(found.kw[over(found)]).tolist() == [60, 51, 54, -60]
    assert found.from_ms[over(found)].tolist() == [2 * MINUTE, 4 * MINUTE, 4 * MINUTE, 7 * MINUTE]


def test_a_coarse_counters_last_digit_is_no_breach_and_a_fine_ones_is_known_soon():
    coarse = [(0, n * 10_000, Kind.REGISTER, round(n // 6 * 0.2, 1), 0) for n in range(60)]
    assert over(look(coarse)[0]) == [], "0.2 kWh in ten seconds would be 72 kW"
    fine = [(0, n * 10_000, Kind.REGISTER, n * 0.01, 0) for n in range(60)]
    found, _ = look([*fine, (0, 600_000, Kind.REGISTER, 0.59 + 0.2, 0)])
    assert over(found) == [60]


def test_what_never_was_is_odd_after_a_week():
    week = hours_of(2.0, 7 * 24)
    assert over(look([*week[:-2], (0, LEARN_MS, Kind.INTERVAL, 7.0, HOUR)], limit=(np.nan,))[0]) == []
    after = (0, LEARN_MS + 2 * HOUR)
    assert over(look([*week, (*after, Kind.INTERVAL, 5.9, HOUR)], limit=(np.nan,))[0]) == []
    found, past = look([*week, (*after, Kind.INTERVAL, 6.1, HOUR)], limit=(np.nan,))
    assert over(found) == [7 * 24]
    assert (found.limit_kw[-1], found.usual_kw[-1]) == (6.0, 2.0)
    again, past = look([(0, LEARN_MS + 3 * HOUR, Kind.INTERVAL, 1000.0, HOUR)], limit=(np.nan,), past=past)
    assert over(again) == [0]
    stays, _ = look([(0, LEARN_MS + 4 * HOUR, Kind.INTERVAL, 53.0, HOUR)], limit=(np.nan,), past=past)
    assert over(stays) == [], "6 kW became the most, then 18: one wrong reading hides not everything, a level is learnt"


def test_a_meter_that_was_always_zero_or_long_silent_has_no_limit():
    _, past = look(hours_of(0.0, 8 * 24), limit=(np.nan,))
    assert over(look([(0, 9 * 24 * HOUR, Kind.INTERVAL, 1.0, HOUR)], limit=(np.nan,), past=past)[0]) == []
    _, past = look(hours_of(1.0, 8 * 24), limit=(np.nan,))
    later = hours_of(9.0, 1, first=16 * 24 * HOUR)
    assert over(look(later, limit=(np.nan,), past=past)[0]) == []


def test_the_most_is_forgotten_after_two_epochs():
    rows = [(0, HOUR, Kind.INTERVAL, 10.0, HOUR), *hours_of(1.0, 60 * 24, first=HOUR)]
    _, past = look(rows, limit=(np.nan,))
    assert over(look(hours_of(4.0, 1, first=60 * 24 * HOUR + 2 * HOUR), limit=(np.nan,), past=past)[0]) == [0]


def test_a_reset_a_repeat_and_an_old_reading_imply_nothing():
    _, past = look([(0, 10 * MINUTE, Kind.REGISTER, 500.0, 0)])
    for ts, value in ((11, 3.0), (10, 900.0), (9, 900.0)):
        assert over(look([(0, ts * MINUTE, Kind.REGISTER, value, 0)], past=past)[0]) == []
    assert look([(0, 9 * MINUTE, Kind.REGISTER, 900.0, 0)], past=past)[1].kwh[0] == 500.0


@given(
    values=st.lists(st.floats(0, 5), min_size=2, max_size=12),
    gap=st.sampled_from([MINUTE, 24 * HOUR]),
    cut=st.integers(1, 11),
)
def test_the_split_into_batches_changes_nothing(values, gap, cut):
    counter = np.cumsum(values)
    rows = [(0, (n + 1) * gap, Kind.REGISTER, value, 0) for n, value in enumerate(counter.tolist())]
    whole, past = look(rows)
    cut = min(cut, len(rows) - 1)
    first, between = look(rows[:cut])
    second, end = look(rows[cut:], past=between)
    for name in ("kw", "from_ms", "limit_kw", "usual_kw"):
        joined = np.concatenate((getattr(first, name), getattr(second, name)))
        np.testing.assert_array_equal(getattr(whole, name), joined)
    for name in Past.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(end, name), getattr(past, name))


def test_readings_may_come_in_any_order_within_a_batch():
    rows = [(0, n * MINUTE, Kind.REGISTER, n * 1.0, 0) for n in range(1, 6)]
    ordered, mixed = look(rows), look([rows[3], rows[0], rows[4], rows[2], rows[1]])
    np.testing.assert_array_equal(np.sort(ordered[0].kw), np.sort(mixed[0].kw))
