"""The comparison of a new champion with the one before: when it is taken back, and that order does not matter."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.serving import drift
from operators.serving.errors import ErrorSums, day_errors
from operators.serving.plan import CHAMPION, PREVIOUS, Announcement
from operators.serving.watch import DAY_MS, HOUR_MS, Policy, Watch

NEW = Announcement(5, 10 * DAY_MS, 2, "b" * 64, CHAMPION, "u2")
OLD = Announcement(1, 0, 1, "a" * 64, CHAMPION, "u1")
POLICY = Policy("forecaster", margin=0.1, windows=20)
INPUTS = drift.counts(np.random.default_rng(0).gamma(2, 3, (5, 168)))


def about(sha: str, announced: Announcement | None, pinball: float, days: int, worse: int = 0) -> dict[str, Any]:
    sums = ErrorSums(days, pinball, pinball, 0.0, 0.8 * days)
    fields = None if announced is None else announced.fields()
    return {
        "sha256": sha,
        "model_id": f"model-{sha[:1]}",
        "reference": "",
        "announced": fields,
        "errors": sums.to_json(),
        "worse": worse,
    }


def report(
    hour: int, new: float, old: float, days: int = 5, worse: int = 4, shard: int = 0, before: Announcement | None = OLD
) -> dict[str, Any]:
    roles = {
        CHAMPION: about(NEW.sha256, NEW, new * days, days),
        PREVIOUS: about(before.sha256 if before else "c" * 64, before, old * days, days, worse),
    }
    plan = [each.fields() for each in (OLD, NEW)]
    at = 11 * DAY_MS + hour * HOUR_MS
    return {
        "at": at,
        "issued": at - DAY_MS,
        "step_s": 3600,
        "roles": roles,
        "drift": INPUTS,
        "plan": plan,
        "shard": shard,
    }


def looked(watch: Watch, reports: list[dict[str, Any]]) -> list[Announcement]:
    """The rollbacks, hour by hour."""
    found = []
    for hour in sorted({row["at"] for row in reports}):
        seen = watch.look([row for row in reports if row["at"] == hour], hour)
        found += [] if seen.rollback is None else [seen.rollback]
    return found


def test_one_that_is_worse_by_the_margin_over_the_windows_is_taken_back_once() -> None:
    watch = Watch(POLICY)
    (back,) = looked(watch, [report(hour, 1.2, 1.0) for hour in range(10)])
    assert (back.version, back.sha256, back.uri, back.alias) == (1, OLD.sha256, "u1", CHAMPION)
    assert back.announced_ms == NEW.announced_ms + 1
    assert back.effective_ms == 11 * DAY_MS + 4 * HOUR_MS, "the fourth hour's 20 meter-days, and the lead"
    assert back.reason == (
        "rollback: version 2 had 1.200 of the quantile loss of the model before it over 20 meter-days (allowed: 1.100)"
    )


@pytest.mark.parametrize(
    ("new", "old", "worse", "hours"),
    [(1.09, 1.0, 5, 10), (1.2, 1.0, 2, 10), (1.2, 1.0, 5, 3), (0.5, 1.0, 0, 10), (0.0, 0.0, 0, 10)],
    ids=["within the margin", "on few meters", "too early", "better", "no error at all"],
)
def test_one_that_is_not_stays(new: float, old: float, worse: int, hours: int) -> None:
    assert looked(Watch(POLICY), [report(hour, new, old, worse=worse) for hour in range(hours)]) == []


def test_back_to_the_jobs_own_model_needs_no_file() -> None:
    (back,) = looked(Watch(POLICY), [report(hour, 2.0, 1.0, before=None) for hour in range(6)])
    assert (back.version, back.uri, back.sha256) == (0, "", "c" * 64)


def test_another_one_announced_meanwhile_is_left_alone() -> None:
    rows = [report(hour, 2.0, 1.0) for hour in range(6)]
    third = Announcement(9, 20 * DAY_MS, 3, "d" * 64, CHAMPION, "u3")
    for row in rows:
        row["plan"].append(third.fields())
    assert looked(Watch(POLICY), rows) == []


@given(st.randoms(use_true_random=False))
def test_neither_order_nor_restarts_change_what_is_found(rng: random.Random) -> None:
    reports = [
        # The shards need not agree on who was there before: one may have heard of it too late.
        report(hour, 1.0 + 0.1 * shard + 0.013 * hour, 1.0 / 3, shard=shard, before=OLD if shard else None)
        for hour in range(8)
        for shard in range(3)
    ]
    once, again = Watch(POLICY), Watch(POLICY)
    for hour in range(8):
        mine = [row for row in reports if row["at"] == 11 * DAY_MS + hour * HOUR_MS]
        found = once.look(mine, 11 * DAY_MS + hour * HOUR_MS)
        rng.shuffle(mine)
        again = Watch.from_bytes(POLICY, again.to_bytes())
        assert again.look(mine, 11 * DAY_MS + hour * HOUR_MS) == found
    assert again.to_bytes() == once.to_bytes()


def test_rows_of_the_database_are_sums_over_the_shards() -> None:
    found = Watch(POLICY).look([report(0, 1.0, 2.0, shard=shard) for shard in range(3)], 11 * DAY_MS)
    rows = {row["role"]: row for row in found.errors}
    assert rows.keys() == {CHAMPION, PREVIOUS}
    assert (rows[CHAMPION]["days"], rows[CHAMPION]["pinball"], rows[CHAMPION]["version"]) == (15, 15.0, 2)
    assert rows[PREVIOUS]["pinball"] == 30.0


def test_day_errors_are_in_units_of_the_meters_level() -> None:
    actual = np.array([[1.0, 3.0, np.nan, np.nan], [10, 30, 10, 30], [np.nan] * 3 + [1.0], [0, 0, 0, 0]])
    level = np.array([2.0, 20.0, 2.0, 0.0])
    point = np.array([[2.0] * 4, [20.0] * 4, [2.0] * 4, [0.0] * 4])
    found = day_errors(np.repeat(point[:, None], 9, axis=1), actual, level)
    assert found.counts.tolist() == [True, True, False, False]
    np.testing.assert_allclose(found.squared[:2], [0.25, 0.25])
    # Of a point that stands for all quantiles twice the mean pinball loss is the absolute error.
    np.testing.assert_allclose(found.pinball[:2], [0.5, 0.5])
    sums = found.sums()
    assert (sums.days, sums.nrmse(), sums.loss(), sums.bias(), sums.coverage()) == (2, 0.5, 0.5, 0.0, 0.0)
    assert math.isnan(ErrorSums().nrmse())
    assert ErrorSums.total([sums, sums]).days == 4


def test_inputs_that_change_are_seen_in_the_next_days_psi() -> None:
    watch, rng = Watch(POLICY), np.random.default_rng(1)
    psi = {}
    for day in range(6):
        flat = day >= 4
        history = rng.gamma(2.0, 3.0, (200, 168)) if not flat else np.ones((200, 168)) + rng.normal(0, 0.01, (200, 168))
        row = {**report(0, 1, 1), "drift": drift.counts(history), "at": (20 + day) * DAY_MS + HOUR_MS}
        for each in watch.look([row], row["at"]).drifts:
            psi[(each["day_ms"] // DAY_MS - 20), each["figure"]] = each["psi"]
    assert psi[2, "day_change"] < 0.1
    assert psi[4, "day_change"] > 0.25
    assert psi[2, "missing"] == 0.0
    assert (0, "day_change") not in psi, "the first day is its reference"


def test_a_model_brings_its_own_reference() -> None:
    text = drift.reference_of(INPUTS)
    found = drift.read_reference(text)
    assert found is not None
    assert all(found[name] == pytest.approx(shares, abs=1e-6) for name, shares in drift.shares(INPUTS).items())
    for bad in ("", "{", "[]", '{"peak": [1]}', None):
        assert drift.read_reference(bad) is None
    row = report(0, 1, 1)
    row["roles"][CHAMPION]["reference"] = text
    watch = Watch(POLICY)
    watch.look([row], row["at"])
    drifts = watch.look([], row["at"] + DAY_MS).drifts
    assert {each["reference"] for each in drifts} == {"training"}
    assert max(each["psi"] for each in drifts) < 1e-6
    assert orjson.loads(watch.to_bytes())["references"]
