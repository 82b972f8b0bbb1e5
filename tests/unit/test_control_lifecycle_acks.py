"""The ack loop, by event time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.control_lifecycle.ack_loop import AckLoop, AckOptions
from operators.control_lifecycle.times import iso

T0 = 1_767_225_600_000
OPTIONS = AckOptions(ack_timeout_s=15, max_reissues=2, exclusion_s=900)


def setpoint(name: str = "s", at_s: float = 0, asset: str = "b", **more: Any) -> dict[str, Any]:
    return {
        "setpoint_id": name, "asset_id": asset, "site_id": "hq", "type": "POWER", "value_w": -4_000.0,
        "execution_time": iso(T0 + round(at_s * 1000)), "duration_s": 900, "ttl_s": 120, "mode": "live",
        "failsafe": {"value_w": 0, "min_duration_s": 900}, "supersedes": None,
    } | more  # fmt: skip


def ack(name: str, status: str = "ACCEPTED", at_s: float = 1, asset: str = "b", **more: Any) -> dict[str, Any]:
    return {"setpoint_id": name, "asset_id": asset, "status": status, "ts": iso(T0 + round(at_s * 1000))} | more


def at(s: float) -> int:
    return T0 + round(s * 1000)


def kinds(actions: list[dict[str, Any]]) -> list[str]:
    return [a["action"] for a in actions]


def test_an_answered_setpoint_needs_nothing() -> None:
    loop = AckLoop(OPTIONS)
    loop.setpoint(setpoint())
    loop.ack(ack("s"))
    assert loop.advance(at(100)) == []
    assert loop.advance(at(121)) == []
    assert loop.state()["open"] == {}


def test_an_answer_by_a_clock_that_is_behind_counts() -> None:
    loop = AckLoop(OPTIONS)
    loop.ack(ack("s", at_s=-50))
    assert loop.advance(at(-1)) == []
    loop.setpoint(setpoint())
    assert loop.advance(at(100)) == []
    loop.ack(ack("t", at_s=101))
    assert loop.advance(at(200)) == []
    loop.setpoint(setpoint("t", at_s=201))
    assert kinds(loop.advance(at(216))) == ["reissue"]
    assert loop.state()["early"] == {}


def test_no_answer_is_issued_again_then_excluded_with_an_alert() -> None:
    loop = AckLoop(OPTIONS)
    loop.setpoint(setpoint())
    assert loop.advance(at(14)) == []
    (again,) = loop.advance(at(15))
    assert again["action"] == "reissue"
    new = again["setpoint"]
    assert (new["setpoint_id"], new["supersedes"], new["execution_time"]) == ("s.1", "s", iso(at(15)))
    assert (new["duration_s"], new["ttl_s"], new["value_w"]) == (885, 120, -4_000)
    loop.setpoint(new)  # it comes back from the topic: known already
    assert [a["setpoint"]["setpoint_id"] for a in loop.advance(at(30))] == ["s.2"]
    actions = loop.advance(at(45))
    assert kinds(actions) == ["exclude", "replan", "alert"]
    alert = actions[2]["alert"]
    assert alert["labels"] == {"alertname": "AssetDoesNotAnswer", "severity": "critical", "tenant": "default",
                               "site": "hq", "asset": "b"}  # fmt: skip
    assert (alert["status"], alert["startsAt"]) == ("firing", iso(at(45)))
    assert loop.excluded() == {"b": at(945)}
    assert loop.advance(at(944)) == []
    assert loop.advance(at(945)) == []
    assert loop.excluded() == {}
    # Heard again: resolved.
    loop.setpoint(setpoint("t", at_s=950))
    loop.ack(ack("t", at_s=951))
    (resolved,) = loop.advance(at(960))
    assert (resolved["alert"]["status"], resolved["alert"]["fingerprint"]) == ("resolved", alert["fingerprint"])


def test_all_deadlines_that_one_watermark_passes_are_taken_in_order() -> None:
    loop = AckLoop(OPTIONS)
    loop.setpoint(setpoint())
    assert kinds(loop.advance(at(500))) == ["reissue", "reissue", "exclude", "replan", "alert"]


def test_an_asset_that_never_answers_is_noticed_though_newer_ones_follow() -> None:
    loop = AckLoop(OPTIONS)
    for i in range(8):
        loop.setpoint(setpoint(f"s{i}", at_s=10 * i))
    assert kinds(loop.advance(at(100)))[:3] == ["exclude", "replan", "alert"]


def test_what_is_overtaken_is_not_issued_again() -> None:
    loop = AckLoop(OPTIONS)
    loop.setpoint(setpoint("s"))
    loop.setpoint(setpoint("t", at_s=10))
    loop.ack(ack("t", at_s=11))
    assert loop.advance(at(40)) == []
    loop = AckLoop(OPTIONS)
    loop.setpoint(setpoint("s"))
    loop.setpoint(setpoint("next step", at_s=900))  # is not due: the first still counts
    loop.ack(ack("next step", at_s=1))
    assert [a["setpoint"]["supersedes"] for a in loop.advance(at(15))] == ["s"]


def test_a_step_that_is_over_is_not_issued_again_and_one_without_end_is() -> None:
    loop = AckLoop(OPTIONS)
    loop.setpoint(setpoint(duration_s=10))
    assert loop.advance(at(20)) == []
    loop = AckLoop(OPTIONS)
    loop.setpoint(setpoint(duration_s=None))
    (again,) = loop.advance(at(20))
    assert again["setpoint"]["duration_s"] is None


def test_shadow_waits_for_nobody() -> None:
    loop = AckLoop(OPTIONS)
    loop.setpoint(setpoint(mode="shadow"))
    assert loop.advance(at(1_000)) == []


def test_rejected_is_excluded_until_the_device_says_and_planned_again() -> None:
    loop = AckLoop(OPTIONS)
    loop.setpoint(setpoint())
    loop.ack(ack("s", "REJECTED", detail="failsafe_hold", retry_at=iso(at(600))))
    exclude, replan = loop.advance(at(2))
    assert exclude == {"action": "exclude", "asset_id": "b", "until": iso(at(600)), "reason": "rejected: failsafe_hold"}
    assert replan == {"action": "replan", "site_id": "hq", "reason": "b rejected: failsafe_hold"}
    assert loop.excluded(at(599)) == {"b": at(600)}
    assert loop.excluded(at(600)) == {}
    loop.setpoint(setpoint("t", at_s=700))
    loop.ack(ack("t", "REJECTED", at_s=701, retry_at=iso(at(10**8))))
    loop.advance(at(702))
    assert loop.excluded() == {"b": at(701 + 86_400)}


def test_a_repeat_of_an_answer_changes_nothing() -> None:
    loop = AckLoop(OPTIONS)
    loop.setpoint(setpoint())
    rejected = ack("s", "REJECTED")
    loop.ack(rejected)
    loop.advance(at(2))
    before = loop.state()
    loop.ack(rejected)
    assert loop.advance(at(50)) == []
    assert loop.state() == before | {"now": at(50)}


def test_aborted_is_planned_again() -> None:
    loop = AckLoop(OPTIONS)
    loop.setpoint(setpoint())
    loop.ack(ack("s"))
    loop.ack(ack("s", "ABORTED", at_s=50, detail="device_error"))
    assert kinds(loop.advance(at(60))) == ["replan"]


def test_three_setpoints_in_a_row_that_are_not_followed_raise_an_alert() -> None:
    loop = AckLoop(OPTIONS)
    found: list[str] = []
    for i in range(4):
        loop.setpoint(setpoint(f"s{i}", at_s=100 * i))
        loop.ack(ack(f"s{i}", at_s=100 * i + 1))
        loop.measured("b", at(100 * i + 30), -4_000.0)  # before it settled: says nothing
        loop.measured("b", at(100 * i + 70), -1_000.0)
        loop.measured("b", at(100 * i + 80), -1_000.0)
        found += kinds(loop.advance(at(100 * i + 99)))
    assert found == ["deviation", "deviation", "deviation", "alert", "deviation"]
    loop.setpoint(setpoint("good", at_s=400))
    loop.ack(ack("good", at_s=401))
    loop.ack(ack("good", "SUCCEEDED", at_s=480, measured_w=-3_700.0))
    (resolved,) = loop.advance(at(500))
    assert (resolved["alert"]["labels"]["alertname"], resolved["alert"]["status"]) == ("AssetDeviates", "resolved")


@pytest.mark.parametrize(
    "bad",
    [
        {"status": "MAYBE"}, {"ts": "now"}, {"ts": None}, {"asset_id": 3}, {"measured_w": float("nan")},
        {"retry_at": "later"},
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused(bad: dict[str, Any]) -> None:
    loop = AckLoop(OPTIONS)
    assert not loop.ack(ack("s") | bad)
    assert not loop.setpoint(setpoint(value_w=float("inf")))
    assert not loop.setpoint({})
    assert not loop.measured("b", at(1), float("nan"))
    assert loop.refused == 4
    assert loop.advance(at(100)) == []


def test_its_state_is_json_and_goes_on() -> None:
    loop = AckLoop(OPTIONS)
    loop.setpoint(setpoint())
    loop.advance(at(20))
    loop.measured("b", at(90), 0.0)
    other = AckLoop(OPTIONS, json.loads(json.dumps(loop.state())))
    assert other.advance(at(500)) == loop.advance(at(500))
    assert other.state() == loop.state()


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("setpoint"), st.integers(0, 9), st.sampled_from("bc"), st.integers(0, 300)),
        st.tuples(
            st.sampled_from(["ACCEPTED", "REJECTED", "STARTED", "SUCCEEDED", "ABORTED"]),
            st.integers(0, 9), st.sampled_from("bc"), st.integers(0, 400),
        ),
        st.tuples(st.just("measured"), st.integers(-5_000, 5_000), st.sampled_from("bc"), st.integers(0, 400)),
    ),
    max_size=25,
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(EVENTS, st.randoms(), st.integers(1, 100))
def test_arrival_order_and_repeats_change_nothing(events: list[Any], chance: Any, lag_s: int) -> None:
    def give(loop: AckLoop, event: Any) -> None:
        kind, number, asset, s = event
        if kind == "setpoint":
            loop.setpoint(setpoint(f"{asset}{number}", at_s=s, asset=asset))
        elif kind == "measured":
            loop.measured(asset, at(s), number)
        else:
            loop.ack(ack(f"{asset}{number}", kind, s, asset, measured_w=0.0))

    def run(arrivals: list[tuple[int, Any]]) -> tuple[Any, Any]:
        loop, actions = AckLoop(OPTIONS), []
        for when, event in arrivals:
            actions += loop.advance(at(when - lag_s))
            give(loop, event)
        actions += loop.advance(at(2_000))
        return loop.state(), actions

    # One setpoint a name: the ids of different ones differ.
    events = list({(e[0], e[1], e[2]) if e[0] == "setpoint" else e: e for e in events}.values())
    in_order = sorted(((e[3], e) for e in events), key=lambda a: (a[0], str(a[1])))
    # Up to the watermark's lag late, so none is overtaken by it; repeats come whenever they like.
    mixed = [(e[3] + chance.randint(0, lag_s - 1), e) for e in events]
    mixed += [(e[3] + chance.randint(0, 1_000), e) for e in events if chance.random() < 0.5]
    mixed = [(max(when, e[3]), e) for when, e in mixed]
    first_seen: set[str] = set()
    shuffled = []
    for when, e in sorted(mixed, key=lambda a: (a[0], chance.random())):
        shuffled.append((when if str(e) in first_seen else min(when, e[3] + lag_s - 1), e))
        first_seen.add(str(e))
    shuffled.sort(key=lambda a: a[0])
    assert run(shuffled) == run(in_order)
