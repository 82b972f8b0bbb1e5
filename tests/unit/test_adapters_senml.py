"""SenML: base values, relative times, sums, units; a pack is what its records are on their own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.adapters.senml import ABSOLUTE_FROM, Resolver, meter_of
from tests.unit.adapter_support import ms, read, sample

T = 1_700_000_000
NAME = "urn:dev:ow:10e2073a0108006"


def pack(*records: dict[str, Any]) -> str:
    return json.dumps(records)


def test_the_rfcs_example_with_power() -> None:
    got = read("senml", sample("senml.json"))
    assert got.rows == [
        (NAME, "1-0:16.7.0", 1276020075001, "instant", 0.14412),
        (NAME, "1-0:1.8.0", 1276020075001, "register", 1.44),
        (NAME, "1-0:16.7.0", 1276020076001, "instant", 0.15),
    ]
    assert got.skipped == {"unit A": 2, "unit V": 1}


@pytest.mark.parametrize(
    ("unit", "value", "register", "wanted"),
    [
        ("W", 1500, "1-0:16.7.0", 1.5),
        ("kW", -2, "1-0:16.7.0", -2.0),
        ("J", 7.2e6, "1-0:1.8.0", 2.0),
        ("Wh", 1500, "1-0:1.8.0", 1.5),
        ("kWh", 1.5, "1-0:1.8.0", 1.5),
    ],
)
def test_units(unit: str, value: float, register: str, wanted: float) -> None:
    got = read("senml", pack({"n": "m", "u": unit, "v": value, "t": T}))
    assert [(row[0], row[1], row[4]) for row in got.rows] == [("m", register, wanted)]


@pytest.mark.parametrize("unit", ["VA", "var", "Cel", "V", ""])
def test_other_units_are_counted(unit: str) -> None:
    got = read("senml", pack({"n": "m", "u": unit, "v": 1, "t": T}, {"n": "m", "u": "W", "v": 1, "t": T}))
    assert got.skipped.total() == len(got.rows) == 1


def test_base_value_base_sum_and_base_time() -> None:
    got = read(
        "senml",
        pack(
            {"bn": "m/", "bt": T, "bu": "W", "bv": 100, "n": "power", "v": 5},
            {"n": "power", "t": 60, "bs": 3.6e6, "s": 3.6e6},
        ),
    )
    assert got.rows == [
        ("m", "1-0:16.7.0", T * 1000, "instant", 0.105),
        ("m", "1-0:1.8.0", (T + 60) * 1000, "register", 2.0),
    ]


def test_relative_times_need_to_know_when() -> None:
    text = pack(
        {"n": "m", "u": "W", "v": 1, "t": -5}, {"n": "m", "u": "W", "v": 2}, {"n": "m", "u": "W", "v": 3, "t": T}
    )
    got = read("senml", text)
    assert [row[4] for row in got.rows] == [0.003]
    assert [place for place, _ in got.unreadable] == ["line 1, record 1", "line 1, record 2"]
    got = read("senml", text, received_ms=ms("2024-05-01T12:00:00Z"))
    assert [row[2] for row in got.rows[:2]] == [ms("2024-05-01T11:59:55Z"), ms("2024-05-01T12:00:00Z")]
    edge = read("senml", pack({"n": "m", "u": "W", "v": 1, "t": ABSOLUTE_FROM}), received_ms=1)
    assert "clock" in edge.unreadable[0][1]  # 1978: absolute, and no time of a meter


def test_lines_are_one_stream_and_packs_begin_anew() -> None:
    stream = '{"bn":"m","bt":1700000000,"bu":"W","v":1}\n{"t":1,"v":2}\n'
    assert [row[2] for row in read("senml", stream).rows] == [T * 1000, (T + 1) * 1000]
    endless = '[{"bn":"m","bt":1700000000,"bu":"W","v":1},\n{"t":1,"v":2},\n'
    assert read("senml", endless).rows == read("senml", stream).rows
    packs = f"{pack({'bn': 'm', 'bt': T, 'bu': 'W', 'v': 1})}\n{pack({'n': 'k', 'v': 2})}\n"
    got = read("senml", packs)
    assert len(got.rows) == 1
    assert got.skipped == {"unit none": 1}


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ({"u": "W", "v": 1, "t": T}, "no name"),
        ({"n": "-m", "u": "W", "v": 1, "t": T}, "none of RFC 8428"),
        ({"n": "m", "u": "W", "v": "1", "t": T}, "v is no number"),
        ({"n": "m", "u": 5, "v": 1, "t": T}, "u is no text"),
        ({"n": "m", "u": "W", "v": 1, "t": T, "x_": 1}, "must be understood"),
        ({"n": "m", "u": "W", "v": 1, "t": T, "bver": 11}, "version 11"),
        (7, "no JSON object"),
    ],
)
def test_what_is_wrong_is_told(record: Any, complaint: str) -> None:
    got = read("senml", pack({"n": "a", "u": "W", "v": 5, "t": T}, record))
    assert [row[4] for row in got.rows] == [0.005]
    assert got.unreadable[0][0] == "line 1, record 2"
    assert complaint in got.unreadable[0][1]


def test_energy_of_intervals_when_told_so() -> None:
    from operators.readings import Kind

    got = read("senml", pack({"n": "m", "u": "Wh", "v": 500, "t": T}), kind=Kind.INTERVAL, interval_ms=900_000)
    assert got.rows == [("m", "1-0:1.29.0", T * 1000, "interval", 0.5)]
    assert got.lengths == [900]


@pytest.mark.parametrize(
    ("name", "meter"), [("dev/power", "dev"), ("dev:energy", "dev"), ("power", "power"), ("dev/boiler", "dev/boiler")]
)
def test_quantities_of_one_meter(name: str, meter: str) -> None:
    assert meter_of(name) == meter


NUMBER = st.integers(-1000, 1000) | st.floats(-1e6, 1e6, allow_nan=False)
RECORD = st.fixed_dictionaries(
    {},
    optional={
        "bn": st.sampled_from(["a", "dev/"]),
        "bt": st.integers(T, T + 1000),
        "bu": st.sampled_from(["W", "kWh", "V"]),
        "bv": NUMBER,
        "bs": NUMBER,
        "n": st.sampled_from(["x", "power"]),
        "u": st.sampled_from(["W", "J"]),
        "t": st.integers(-100, 100),
        "v": NUMBER,
        "s": NUMBER,
        "vs": st.just("text"),
    },
).filter(bool)


@settings(max_examples=60, deadline=None)
@given(st.lists(RECORD, min_size=1, max_size=12))
def test_a_pack_is_its_records_on_their_own(records: list[dict[str, Any]]) -> None:
    """Resolved records, each in a pack of its own, give what the pack with base values gives."""
    records = [{"bn": "m", "bt": T, "bu": "W", "v": 0}, *records]
    resolver = Resolver()
    alone = ""
    for record in records:
        one = resolver.resolve(record)
        fields = {"n": one.name, "t": one.time, "u": one.unit, "v": one.value, "s": one.total}
        resolved = {key: value for key, value in fields.items() if value is not None}
        alone += pack(resolved if {"v", "s"} & set(resolved) else resolved | {"vs": ""}) + "\n"
    assert read("senml", alone).rows == read("senml", pack(*records)).rows


@settings(max_examples=40, deadline=None)
@given(st.lists(RECORD, min_size=2, max_size=12), st.data())
def test_a_stream_may_be_cut_into_lines_anywhere(records: list[dict[str, Any]], data: st.DataObject) -> None:
    records = [{"bn": "m", "bt": T, "bu": "W", "v": 0}, *records]
    joined = [json.dumps(record) + data.draw(st.sampled_from(["", ","])) for record in records]
    assert read("senml", "\n".join(joined)).rows == read("senml", pack(*records)).rows
