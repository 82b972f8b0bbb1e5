"""Shelly notifications: components, units, minutes, and messages that hold no energy."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.adapter_support import read, sample


def notify(component: dict[str, Any], ts: Any = 1736605194.11, name: str = "switch:0", **more: Any) -> str:
    return json.dumps({"src": "dev", "method": "NotifyStatus", "params": {"ts": ts, name: component}} | more)


def test_three_phases() -> None:
    got = read("shelly", sample("shelly-3em.jsonl"))
    assert got.refused == 0
    assert {row[0] for row in got.rows} == {"shellypro3em-a/em:0"}
    values = got.by_register()
    assert (values["1-0:16.7.0"], values["1-0:1.8.0"], values["1-0:2.8.0"]) == (3.039524, 20.26929, 0.0)
    assert [values[f"1-0:{c}.7.0"] for c in (36, 56, 76)] == [2.4079, 0.4088, 0.2228]
    assert [values[f"1-0:{c}.8.0"] for c in (21, 41, 61)] == [5.63161, 5.93431, 8.70338]
    assert got.of("1-0:1.8.0")[0][0] == 1678699440940


def test_a_plug_and_messages_without_energy() -> None:
    got = read("shelly", sample("shelly-plug.jsonl"))
    assert got.of("1-0:1.8.0") == [(1724878560020, 1.885832)]
    assert [ts for ts, _ in got.of("1-0:1.29.0")] == [1724878440000, 1724878500000, 1724878560000]
    assert got.skipped == {"status without energy or power": 3}


def test_minutes_are_milliwatt_hours_before_minute_ts_each_once() -> None:
    first = notify({"aenergy": {"by_minute": [30.0, 20.0, 10.0], "minute_ts": 1736605140, "total": 5.0}})
    second = notify({"aenergy": {"by_minute": [40.0, 30.0, 20.0], "minute_ts": 1736605200, "total": 5.1}}, 1736605254)
    got = read("shelly", f"{first}\n{second}\n")
    wanted = [(1736605020000 + 60_000 * i, value / 1e5) for i, value in enumerate([1, 2, 3, 4])]
    assert got.of("1-0:1.29.0") == wanted
    assert set(got.lengths) == {0, 60}
    assert got.skipped == {"minute told before": 2}


def test_minutes_of_firmware_that_gives_no_full_minute() -> None:
    got = read("shelly", notify({"aenergy": {"by_minute": [1.0], "minute_ts": 1736605141, "total": 5.0}}))
    assert [row[1] for row in got.rows] == ["1-0:1.8.0"]
    assert got.skipped == {"by_minute whose minute_ts is no full minute": 1}


def test_returned_energy_and_negative_power_of_one_phase() -> None:
    got = read(
        "shelly",
        notify({"act_power": -230.0}, name="em1:1")
        + "\n"
        + notify({"total_act_energy": 10.0, "total_act_ret_energy": 80.25}, name="em1data:1"),
    )
    assert got.by_register() == {"1-0:16.7.0": -0.23, "1-0:1.8.0": 0.01, "1-0:2.8.0": 0.08025}
    assert {row[0] for row in got.rows} == {"dev/em1:1"}


def test_the_whole_status_and_a_logged_topic() -> None:
    status = {"sys": {"unixtime": 1709223338}, "switch:0": {"apower": 1000.0}}
    got = read("shelly", json.dumps({"src": "dev", "result": status}))
    assert got.rows == [("dev/switch:0", "1-0:16.7.0", 1709223338000, "instant", 1.0)]
    logged = {"topic": "kitchen/events/rpc", "payload": json.loads(notify({"apower": 1.0}, src=None))}
    assert read("shelly", json.dumps(logged)).rows[0][0] == "kitchen/switch:0"


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (notify({"apower": 1.0}, ts=None), "no ts"),
        (notify({"apower": 1.0}, ts=267.5), "the clock was not set"),
        (notify({"apower": 1.0}, ts=1e300), "the clock was not set"),
        (notify({"apower": "1.0"}), "apower is no number"),
        (notify({"aenergy": 5}), "aenergy is no object"),
        (notify({"apower": 1.0})[:-20], "not one JSON value"),
        ('["NotifyStatus"]', "no JSON object"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(message: str, complaint: str) -> None:
    got = read("shelly", f"{notify({'apower': 5.0})}\n{message}\n")
    assert [row[4] for row in got.rows] == [0.005]
    assert [place for place, _ in got.unreadable] == ["line 2"]
    assert complaint in got.unreadable[0][1]


def test_null_is_not_zero() -> None:
    got = read("shelly", notify({"apower": None}))
    assert got.rows == []
    assert got.skipped == {"null": 1}
