"""What the store sends: array literals, row sources, flows of registers, and how far a late reading reaches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.energy import SLOT_MS, Derived, SeriesConfig, derive
from operators.flows import flow_of
from operators.pg import Session, StoreError, array_literal, rows_of, storable
from operators.readings import Kind
from operators.settle import decide


def test_numbers_keep_every_digit() -> None:
    assert array_literal(np.array([0.1, 1e300, -2.5])) == "{0.1,1e+300,-2.5}"
    assert array_literal(np.array([0.1], np.float32)) == "{0.1}"
    assert array_literal(np.array([-(2**63)], np.int64)) == "{-9223372036854775808}"
    assert array_literal(np.array([True, False])) == "{true,false}"


def test_texts_are_quoted_and_storable() -> None:
    assert array_literal(["a", 'b"c', "d\\e", "NULL", "", "x,{y}"]) == r'{"a","b\"c","d\\e","NULL","","x,{y}"}'
    assert array_literal([]) == "{}"
    assert array_literal(["a\x00b", "\ud800"]) == '{"a\ufffdb","?"}'
    assert storable(np.array(["a\x00", "b"], object)).tolist() == ["a\ufffd", "b"]


def test_a_column_of_one_value_travels_once() -> None:
    sql, parameters = rows_of(a=("int", np.array([1, 2])), b=("text", np.array(["x", "x"], object)))
    assert sql == "(SELECT a, (%s)::text AS b FROM unnest(%s::int[]) AS source (a))"
    assert parameters == ["x", "{1,2}"]


def test_the_smallest_number_survives_as_a_constant() -> None:
    """`-9223372036854775808::bigint` is the negative of a number that is out of range: the cast must be outside."""
    sql, parameters = rows_of(a=("int", np.array([1, 2])), b=("bigint", np.full(2, -(2**63))))
    assert "(%s)::bigint AS b" in sql
    assert parameters[0] == -(2**63)


@pytest.mark.parametrize(
    ("register", "kind", "flow"),
    [
        ("1-0:1.8.0", Kind.REGISTER, 11),
        ("1-0:1.8.0", Kind.INTERVAL, 12),
        ("1.8.0", Kind.REGISTER, 11),
        ("1-0:1.8.1*255", Kind.REGISTER, 13),
        ("1-0:2.8.0", Kind.REGISTER, 21),
        ("1-0:2.8.2", Kind.INTERVAL, 24),
        ("1-0:1.29.0", Kind.INTERVAL, 12),
        ("1-0:1.7.0", Kind.INSTANT, 15),
        ("1-0:2.7.0", Kind.INSTANT, 25),
        ("1-0:16.7.0", Kind.INSTANT, 31),
        ("1-0:3.8.0", Kind.REGISTER, 0),
        ("1-0:32.7.0", Kind.INSTANT, 0),
        ("7-0:3.0.0", Kind.REGISTER, 11),
        ("work", Kind.REGISTER, 11),
        ("load", Kind.INSTANT, 31),
    ],
)
def test_flow_of_a_register(register: str, kind: Kind, flow: int) -> None:
    assert flow_of(register, kind) == flow


def _derived(kind: int, ts: np.ndarray, value: np.ndarray, interval: int) -> Derived:
    n, max_kw = len(ts), 80.0 if kind == Kind.REGISTER else np.nan
    return derive(
        np.zeros(n, np.int64), ts, value, np.full(n, interval), np.zeros(n, np.int8),
        config=SeriesConfig(np.array([kind], np.int8), np.full(1, 150.0), np.full(1, max_kw)),
    )  # fmt: skip


def _events(derived: Derived) -> dict[int, tuple[float, ...]]:
    e = derived.events
    columns = (e.code, e.before, e.after, e.kwh, e.from_ms)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return dict(zip(e.ts_ms.tolist(), rows, strict=True))


def _slots(derived: Derived) -> dict[int, tuple[float, int, int]]:
    s = derived.slots
    return dict(
        zip(
            s.slot_ms.tolist(),
            zip(s.kwh.tolist(), s.covered_ms.tolist(), s.readings.tolist(), strict=True),
            strict=True,
        )
    )


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(list(Kind)),
    st.sets(st.integers(0, 400), min_size=3, max_size=60),
    st.integers(0, 59),
    st.integers(0, 2**31),
    st.integers(1, 30),
)
def test_a_changed_reading_changes_nothing_outside_the_decided_range(
    kind: Kind, minutes: set[int], which: int, seed: int, length: int
) -> None:
    rng = np.random.default_rng(seed)
    ts = np.array(sorted(minutes), np.int64) * 60_000 + 7
    value = 100 + np.cumsum(rng.choice([0.0, 0.0003, 0.4, -0.0004, -60.0], len(ts), p=[0.3, 0.3, 0.2, 0.15, 0.05]))
    value = np.maximum(value, 0)
    interval = length * 60_000 if kind == Kind.INTERVAL else 0
    changed = which % len(ts)
    other = value.copy()
    other[changed] += rng.choice([-0.0005, 0.0006, 1.0, -1.0])
    low = int(ts[changed]) - interval
    found = decide(kind, ts, ts - interval, other, touched=(low, int(ts[changed])), complete=(True, True))
    assert found is not None
    rows = slice(found.first, found.stop)
    before, after = _derived(kind, ts, value, interval), _derived(kind, ts, other, interval)
    again = _derived(kind, ts[rows], other[rows], interval)
    part = {k: v for k, v in _slots(again).items() if found.from_ms <= k < found.until_ms}
    old = {k: v for k, v in _slots(before).items() if not found.from_ms <= k < found.until_ms}
    assert {**old, **part} == _slots(after)
    first = int(ts[changed])
    said = {k: v for k, v in _events(again).items() if first <= k <= found.until_ms}
    stay = {k: v for k, v in _events(before).items() if not first <= k <= found.until_ms}
    assert {**stay, **said} == _events(after)


def test_a_window_without_an_end_to_the_change_must_be_wider() -> None:
    ts = np.arange(10, dtype=np.int64) * 60_000
    flat = np.full(10, 5.0)
    assert decide(Kind.REGISTER, ts, ts, flat, touched=(240_000, 240_000), complete=(False, True)) is None
    assert decide(Kind.REGISTER, ts, ts, flat, touched=(240_000, 240_000), complete=(True, False)) is None
    found = decide(Kind.REGISTER, ts, ts, flat, touched=(240_000, 240_000), complete=(True, True))
    assert found is not None
    assert found.head
    assert found.from_ms % SLOT_MS == 0


def test_a_database_that_is_away_is_given_up_after_the_time_set() -> None:
    waits: list[float] = []
    session = Session("postgresql://x@127.0.0.1:1/x", give_up_after=0.05, first_wait=0.01, sleep=waits.append)
    with pytest.raises(StoreError, match="energyai status"):
        session.transaction(lambda cursor: None)
    assert len(waits) > 2
    assert 0.005 <= waits[0] <= 0.01 < max(waits) <= 15


def test_a_url_that_is_none_says_so_at_once() -> None:
    with pytest.raises(StoreError, match="ENERGYAI_DATABASE_URL"):
        Session("no url at all").transaction(lambda cursor: None)
