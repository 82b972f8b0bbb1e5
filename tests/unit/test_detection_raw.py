"""The fast path: power that cannot be, out of single readings."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from operators.detection.raw import Last, breaches
from operators.readings import Kind

MINUTE = 60_000


def look(rows, limit=(50.0, np.nan), last=None):
    """rows: (series, ts_ms, kind, value, interval_ms)."""
    series, ts, kind, value, interval = (np.array(column) for column in zip(*rows, strict=True))
    last = last or Last(np.zeros(len(limit), np.int64), np.full(len(limit), np.nan))
    found, last = breaches(
        series, ts, kind.astype(np.int8), value.astype(float), interval, np.array(limit, float), last
    )
    return found, last


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
    assert found.row.tolist() == [2, 3, 4, 6]
    assert np.round(found.kw).tolist() == [120, 51, 54, -60]
    assert found.limit_kw.tolist() == [50.0] * 4


def test_a_reset_a_repeat_and_an_old_reading_imply_nothing():
    _, last = look([(0, 10 * MINUTE, Kind.REGISTER, 500.0, 0)])
    for ts, value in ((11, 3.0), (10, 900.0), (9, 900.0)):
        assert not len(look([(0, ts * MINUTE, Kind.REGISTER, value, 0)], last=last)[0].row)
    assert look([(0, 9 * MINUTE, Kind.REGISTER, 900.0, 0)], last=last)[1].kwh[0] == 500.0


@given(
    values=st.lists(st.floats(0, 5), min_size=2, max_size=12),
    cut=st.integers(1, 11),
)
def test_the_split_into_batches_changes_nothing(values, cut):
    counter = np.cumsum(values)
    rows = [(0, (n + 1) * MINUTE, Kind.REGISTER, value, 0) for n, value in enumerate(counter.tolist())]
    whole, last = look(rows)
    cut = min(cut, len(rows) - 1)
    first, between = look(rows[:cut])
    second, end = look(rows[cut:], last=between)
    np.testing.assert_array_equal(whole.row, np.concatenate((first.row, second.row + cut)))
    np.testing.assert_array_equal(whole.kw, np.concatenate((first.kw, second.kw)))
    assert (end.ts_ms[0], end.kwh[0]) == (last.ts_ms[0], last.kwh[0])


def test_readings_may_come_in_any_order_within_a_batch():
    rows = [(0, n * MINUTE, Kind.REGISTER, n * 1.0, 0) for n in range(1, 6)]
    ordered, mixed = look(rows), look([rows[3], rows[0], rows[4], rows[2], rows[1]])
    assert sorted(ordered[0].kw.tolist()) == sorted(mixed[0].kw.tolist())
