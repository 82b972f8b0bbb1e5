"""The benchmarks' own parts: their reference, their states, their counting. Nothing is measured here."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import crossing_ways, realistic, workload
from tests.bench.loop_meters import Meters
from tests.bench.minute_shard import MinuteShard
from tests.bench.report import Workload, result
from tests.bench.results import Results
from tests.bench.sample import Sample, summarise

SIZE = workload.Size(3, 200)


@given(st.lists(st.integers(0, 150), min_size=1, max_size=12, unique=True), st.integers(0, 12))
def test_a_shard_keeps_minutes_not_arrivals_and_comes_back_as_it_was(minutes: list[int], cut: int) -> None:
    minutes = sorted(minute + 1_000 for minute in minutes)
    truth, columns, shard = {}, {}, MinuteShard()
    for at, minute in enumerate(minutes):
        if at == cut:
            kept = {number: column for number, column in columns.items() if number > minute - workload.HISTORY}
            shard = MinuteShard.restore(shard.names, kept)
        rows = shard.introduce(["a", f"b{at % 2}"])
        shard.put(minute, rows, np.array([minute, -minute], float))
        columns[minute] = shard.column(minute)
        truth[minute] = float(minute)
        wanted = [truth.get(minute - ago, 0.0) for ago in range(workload.HISTORY - 1, -1, -1)]
        assert shard.window(minute, rows[:1])[0].tolist() == wanted


def test_a_shards_windows_are_the_references() -> None:
    table, shard = workload.means(SIZE), MinuteShard()
    rows = shard.introduce([workload.meter_name(number) for number in range(SIZE.meters)])
    for minute in range(SIZE.minutes):
        shard.put(1_000 + minute, rows, table[:, minute])
        np.testing.assert_array_equal(shard.window(1_000 + minute, rows), workload.windows(table, minute))


def test_the_readings_of_w_are_its_means_and_end_with_what_closes_them() -> None:
    records = list(workload.records(workload.Size(2, 2)))
    assert len(records) == 4 + workload.PARTITIONS
    assert [partition for partition, _, _ in records] == [0, 1, 0, 1, 0, 1]
    first = workload.means(workload.Size(2, 2))[0, 0]
    assert records[0][2] == workload.reading("m000000", workload.START_MS + 30_000, float(first))
    assert records[-1][1] == b"closing-1"


def test_results_are_counted() -> None:
    results = Results(np.array([[1.0, 2.0], [3.0, 4.0]]))
    at = workload.START_MS + workload.MINUTE_MS
    for name, end, y in (
        ("m000000", at, 1.00005),
        ("m000000", at, 1.0),
        ("m000001", at, 3.1),
        ("m000001", at + workload.MINUTE_MS, math.nan),
        ("m000007", at, 0.0),
        ("closing-0", at, 0.0),
    ):
        results.add(name, end, y)
    found = results.summary()
    assert (found["missing"], found["repeated"], found["wrong"], found["unexpected"]) == (1, 1, 2, 1)
    assert not found["complete"]


@pytest.mark.parametrize("batch", [1, 7, 10_000])
def test_the_loops_energy_is_the_references(batch: int) -> None:
    size = realistic.Size(3, 2)
    meters = Meters(size)
    readings = []
    for _, key, value in realistic.measured(size):
        if not key.startswith(b"closing"):
            text = value.decode()
            number = realistic.meter_number(key.decode())
            counted = float(text.partition('"value":')[2].partition(",")[0])
            at = np.datetime64(text.partition('"ts":"')[2][:19], "ms").astype(np.int64)
            readings.append((number, int(at), counted / 1000))
    for begin in range(0, len(readings), batch):
        rows, ts, kwh = map(np.array, zip(*readings[begin : begin + batch], strict=True))
        meters.add(rows, ts, kwh)
    for issue in range(size.quarters):
        due = meters.close(realistic.issued_at_ms(issue) // realistic.STEP_MS - 1)
        assert due.issued_at_ms == realistic.issued_at_ms(issue)
        np.testing.assert_allclose(due.history, realistic.history(size, issue), atol=1e-9)


def test_every_way_gives_the_same_columns() -> None:
    texts = {
        "text": ("a\x1f1.5\x1eb\x1f2",),
        "two_texts": ("a\x1eb", "1.5 2"),
        "joined_bytes": (b"a\x1f1.5\x1eb\x1f2",),
        "json": ('{"a":1.5,"b":2}',),
    }
    for name, fields in texts.items():
        columns = crossing_ways.WAYS[name].columns
        assert columns is not None
        names, means = columns(*fields)
        assert (list(names), means.tolist()) == (["a", "b"], [1.5, 2.0]), name


def test_the_json_line_has_medians_and_says_when_something_is_missing() -> None:
    def sample(seconds: float, complete: bool = True) -> Sample:
        return Sample("loop", 100, seconds, 1.0, 2.0, 1.0, 50.0, 100, {"complete": complete})

    whole = summarise("loop", [sample(1.0), sample(2.0), sample(4.0)], 0)
    workloads = {"w": Workload("W", "results", [whole], {"loop": "loop"})}
    assert result(workloads) == {"w": {"loop": 50.0}, "complete": True}
    torn = summarise("loop", [sample(1.0), sample(1.0, complete=False)], 0)
    assert not result({"w": Workload("W", "results", [whole, torn], {})})["complete"]
    failed = summarise("loop", [], 1)
    assert result({"w": Workload("W", "results", [failed], {})}) == {"w": {"loop": None}, "complete": False}
