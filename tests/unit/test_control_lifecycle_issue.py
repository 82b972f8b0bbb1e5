"""What is sent of a plan, and the receipts of it."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operators.control_lifecycle.issue import issue
from operators.control_lifecycle.receipts import explain, is_sealed, seal
from operators.control_lifecycle.times import iso

T0 = 1_767_225_600_000


def planned(value_w: float = 1_000, asset: str = "b", **more: Any) -> dict[str, Any]:
    """The quarter hour from T0 on."""
    return {
        "asset_id": asset, "site_id": "hq", "type": "POWER", "value_w": value_w, "execution_time": iso(T0),
        "duration_s": 900, "ttl_s": 120, "failsafe": {"value_w": 0, "min_duration_s": 900}, "priority": 2,
        "mode": "live", "reason": "cost", "inputs": {}, "expected": {},
    } | more  # fmt: skip


def test_the_first_is_sent_and_the_same_only_to_renew_its_lease() -> None:
    (first,), last = issue([planned()], {}, T0 + 1_000)
    assert (first["supersedes"], first["execution_time"], first["duration_s"]) == (None, iso(T0 + 1_000), 899)
    assert first["issued_at"] == iso(T0 + 1_000)
    assert issue([planned(1_010)], last, T0 + 60_000, deadband_w=20)[0] == []
    (again,), last = issue([planned()], last, T0 + 61_000)
    assert (again["supersedes"], again["execution_time"]) == (first["setpoint_id"], iso(T0 + 61_000))
    (changed,), _ = issue([planned(2_000)], last, T0 + 62_000)
    assert (changed["value_w"], changed["supersedes"]) == (2_000, again["setpoint_id"])


def test_what_matters_is_sent_at_once() -> None:
    _, last = issue([planned()], {}, T0)
    for change in ({"mode": "shadow"}, {"priority": 0}, {"failsafe": {"value_w": 1, "min_duration_s": 1}},
                   {"duration_s": None}, {"duration_s": 1_800}):  # fmt: skip
        assert len(issue([planned() | change], last, T0 + 1)[0]) == 1
    assert issue([planned()], last, T0 + 900_000)[0] == []  # its step is over
    assert len(issue([planned(asset="c"), planned(type="IMPORT_CAPACITY_LIMIT")], last, T0 + 1)[0]) == 2


@given(st.lists(st.floats(-5_000, 5_000), min_size=1, max_size=30))
def test_a_lease_is_renewed_before_it_ends_and_ids_are_the_same_in_every_run(values: list[float]) -> None:
    def run() -> list[dict[str, Any]]:
        sent, last = [], {}
        for i, value in enumerate(values):
            new, last = issue([planned(value, duration_s=None)], last, T0 + 30_000 * i, deadband_w=500)
            sent += new
        return sent

    sent = run()
    assert sent == run()
    assert len({s["setpoint_id"] for s in sent}) == len(sent)
    times = [s["issued_at"] for s in sent]
    assert times == sorted(times)
    starts = [T0 + 30_000 * i for i in range(len(values)) if iso(T0 + 30_000 * i) in times]
    assert all(later - before <= 60_000 for before, later in pairwise(starts))
    assert [s["supersedes"] for s in sent] == [None, *(s["setpoint_id"] for s in sent[:-1])]


def test_a_receipt_tells_when_it_was_changed() -> None:
    inputs = seal({"limit_kw": 50, "forecast_issued_at": iso(T0), "prices": [0.1, 0.2]})
    assert is_sealed(inputs)
    assert seal(inputs) == inputs
    assert not is_sealed(inputs | {"limit_kw": 51})
    assert not is_sealed({"limit_kw": 50})
    with pytest.raises(ValueError, match="JSON"):
        seal({"limit_kw": math.nan})


def test_a_setpoint_is_explained() -> None:
    sent, last = issue([planned(inputs=seal({"limit_kw": 50}))], {}, T0)
    for i in (1, 2):
        new, last = issue([planned(1_000 * (i + 1))], last, T0 + i * 1_000)
        sent += new
    ids = [s["setpoint_id"] for s in sent]
    acks = [
        {"setpoint_id": ids[1], "status": status, "ts": iso(T0 + 1_500)}
        for status in ("STARTED", "ACCEPTED", "STARTED")
    ]
    found = explain(ids[1], [*sent, *sent], acks)
    assert (found["supersedes"], found["superseded_by"], found["outcome"]) == ([ids[0]], [ids[2]], "STARTED")
    assert [a["status"] for a in found["acks"]] == ["ACCEPTED", "STARTED"]
    assert found["sealed"] is None
    first = explain(ids[0], sent, [])
    assert (first["sealed"], first["outcome"]) == (True, "unanswered")
    with pytest.raises(KeyError):
        explain("none", sent, [])
