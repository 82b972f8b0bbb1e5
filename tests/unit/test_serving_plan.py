"""Plans of announcements: a set, whatever its order; who serves when; what came late."""

from __future__ import annotations

import itertools
import random
from contextlib import suppress
from dataclasses import replace

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.serving.plan import (
    CHALLENGER,
    CHAMPION,
    KEPT,
    Announcement,
    AnnouncementError,
    Pinned,
    message,
    read,
    utc,
)

SHA = "ab" * 32
announcement = st.builds(
    Announcement,
    announced_ms=st.integers(1, 20),
    effective_ms=st.integers(0, 30).map(lambda n: n * 100),
    version=st.integers(1, 5),
    sha256=st.integers(1, 5).map(lambda n: f"{n}" * 64),
    alias=st.sampled_from([CHAMPION, CHALLENGER]),
    uri=st.just("file"),
)


def champion(announced: int, effective: int, version: int, reason: str = "") -> Announcement:
    return Announcement(announced, effective, version, f"{version}" * 64, CHAMPION, "u", reason)


@given(st.lists(announcement, max_size=8), st.randoms(use_true_random=False), st.integers(0, 3_100))
def test_any_order_and_repetition_gives_the_same_plan(said: list[Announcement], rng: random.Random, at: int) -> None:
    once = Pinned.none().taking(said, -1)
    again = Pinned.none()
    shuffled = said * 2
    rng.shuffle(shuffled)
    while shuffled:
        cut = rng.randint(1, len(shuffled))
        again, shuffled = again.taking(shuffled[:cut], -1), shuffled[cut:]
    assert again.since == once.since
    for alias in (CHAMPION, CHALLENGER):
        assert again.serving(alias, at) == once.serving(alias, at)


@given(st.lists(announcement, max_size=8), st.integers(0, 3_100))
def test_who_serves_was_announced_last_of_those_in_force(said: list[Announcement], at: int) -> None:
    found = Pinned.none().taking(said, -1).serving(CHAMPION, at)
    in_force = [each for each in said if each.alias == CHAMPION and each.effective_ms <= at]
    assert found == (max(in_force) if in_force else None)


@given(st.lists(announcement, max_size=8), st.integers(0, 3_000), st.integers(0, 3_100))
def test_what_was_issued_is_never_changed_by_what_comes_late(said: list[Announcement], issued: int, at: int) -> None:
    half = len(said) // 2
    before = Pinned.none().taking(said[:half], -1)
    after = before.taking(said[half:], issued)
    if at <= issued:
        assert after.serving(CHAMPION, at) == before.serving(CHAMPION, at)
    on_time = Pinned.none().taking(said, -1)
    if all(each.effective_ms > issued for each in said[half:]):
        assert after.since == on_time.since


@given(st.lists(announcement, max_size=8), st.integers(-1, 3_000))
def test_state_comes_back_as_it_was(said: list[Announcement], issued: int) -> None:
    pinned = Pinned.none().taking(said, issued)
    assert Pinned.from_json(orjson.loads(orjson.dumps(pinned.to_json()))).since == pinned.since


def test_a_rollback_overrides_a_promotion_that_was_to_come_later() -> None:
    first, second = champion(1, 0, 1), champion(2, 1_000, 2)
    back = replace(champion(3, 500, 1), reason="rollback")
    plan = Pinned.none().taking([first, second, back], -1)
    assert [plan.serving(CHAMPION, at).version for at in (0, 499, 500, 1_000, 9_999)] == [1, 1, 1, 1, 1]
    assert Pinned.none().taking([first, second], -1).serving(CHAMPION, 1_000) == second


def test_the_one_before_is_who_served_until_the_swap_and_a_rollback_has_none() -> None:
    first, second = champion(1, 0, 1), champion(2, 1_000, 2)
    back = replace(champion(3, 2_000, 1), reason="rollback: worse")
    plan = Pinned.none().taking([first, second, back], -1)
    assert plan.before(second) == (True, first)
    assert plan.before(first) == (True, None)
    assert plan.before(back)[0] is False


def test_a_challenger_that_was_withdrawn_is_nobody() -> None:
    named = Announcement(1, 0, 3, SHA, CHALLENGER, "u")
    gone = replace(named, announced_ms=2, effective_ms=100, withdrawn=True)
    plan = Pinned.none().taking([gone, named], -1)
    assert plan.serving(CHALLENGER, 99) == named
    assert plan.serving(CHALLENGER, 100) is None


def test_a_message_carries_all_that_compaction_would_drop() -> None:
    said = [champion(1, 0, 1), champion(2, 1_000, 2), Announcement(3, 500, 3, SHA, CHALLENGER, "u")]
    value = message("forecaster", said, "week168-v2", {"nrmse": 0.1})
    fields = orjson.loads(value)
    assert fields.keys() >= {
        *("model_name", "version", "alias", "uri", "sha256", "effective_from", "feature_set", "metrics")
    }
    assert (fields["version"], fields["alias"]) == (3, "challenger")
    assert read(value, 77) == ("forecaster", frozenset(said))
    many = [champion(n + 1, n, 1) for n in range(KEPT + 5)]
    assert read(message("m", many), 0)[1] == frozenset(many[5:])


def test_a_plain_message_of_the_contract_is_one_announcement() -> None:
    fields = {
        "model_name": "forecaster",
        "version": 2,
        "alias": "champion",
        "uri": "file:///m/forecaster.onnx",
        "sha256": SHA.upper(),
        "effective_from": "2026-01-05T00:15:00+01:00",
        "feature_set": "x",
        "metrics": {},
    }
    name, (found,) = read(orjson.dumps(fields), 123)
    assert name == "forecaster"
    assert found == Announcement(123, 1_767_568_500_000, 2, SHA, CHAMPION, "file:///m/forecaster.onnx")
    assert utc(found.effective_ms) == "2026-01-04T23:15:00.000Z"
    fields["effective_from"] = 1_767_568_500_000
    assert read(orjson.dumps(fields), 123)[1] == frozenset([found])


GOOD = {"model_name": "m", "version": 1, "alias": "champion", "uri": "u", "sha256": SHA, "effective_from": 1}
BAD = [
    {"model_name": None},
    {"version": "1"},
    {"version": True},
    {"version": -1},
    {"alias": "king"},
    {"uri": ""},
    {"sha256": "abc"},
    {"effective_from": "tomorrow"},
    {"effective_from": "2026-01-05"},
    {"effective_from": None},
    {"effective_from": -5},
    {"effective_from": 1e300},
    {"announced_at": []},
    {"plan": [1]},
    {"plan": {"a": 1}},
    {"plan": [{"version": 1}]},
]


@pytest.mark.parametrize("change", BAD, ids=str)
def test_what_says_nothing_usable_is_refused_in_one_line(change: dict[str, object]) -> None:
    with pytest.raises(AnnouncementError) as told:
        read(orjson.dumps({**GOOD, **change}), 1)
    assert "\n" not in str(told.value)


leaves = st.none() | st.integers(-5, 5) | st.text(max_size=5)
trees = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(GOOD)), inner, max_size=4),
)


@given(st.binary(max_size=200) | trees.map(orjson.dumps))
def test_no_message_breaks_the_reader(value: bytes) -> None:
    with suppress(AnnouncementError):
        read(value, 1)


def test_orders_of_a_swap_and_its_rollback_all_agree() -> None:
    said = [champion(1, 0, 1), champion(2, 1_000, 2), champion(3, 2_000, 1, "rollback"), champion(4, 3_000, 4)]
    wanted = [1, 2, 1, 4]
    for order in itertools.permutations(said):
        plan = Pinned.none()
        for each in order:
            plan = plan.taking([each], -1)
        assert [plan.serving(CHAMPION, at).version for at in (0, 1_500, 2_500, 3_500)] == wanted
