"""Demand response: messages, versions, and what holds when."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.control_lifecycle import overrides
from operators.control_lifecycle.dr_book import DrBook
from operators.control_lifecycle.dr_events import DrError, parse
from operators.control_lifecycle.timeline import constraints, segments
from operators.control_lifecycle.times import FOREVER_MS, iso, parse_duration_ms

T0 = 1_767_225_600_000
HOUR = 3_600_000


def event(name: str = "e", kind: str = "IMPORT_CAPACITY_LIMIT", *values: float, **more: Any) -> dict[str, Any]:
    """Intervals of an hour each from T0 on."""
    return {
        "objectType": "EVENT", "id": name, "programID": "p", "targets": [],
        "createdDateTime": iso(T0 - HOUR),
        "intervalPeriod": {"start": iso(T0), "duration": "PT1H"},
        "intervals": [{"id": i, "payloads": [{"type": kind, "values": [v]}]} for i, v in enumerate(values or (50.0,))],
    } | more  # fmt: skip


def book(*messages: dict[str, Any]) -> DrBook:
    made = DrBook()
    for message in messages:
        made.add(json.dumps(message))
    return made


def held(made: DrBook, hours: float = 24, **how: Any) -> list[tuple[str, str, float, float, float]]:
    """Segments with hours since T0."""
    found = segments(made, "hq", T0, T0 + round(hours * HOUR), **how)
    return [(s.kind, s.asset_id, (s.start_ms - T0) / HOUR, (s.end_ms - T0) / HOUR, s.value) for s in found]


def test_intervals_follow_each_other_or_say_their_own_time() -> None:
    message = event("e", "PRICE", 0.1, 0.2, 0.3)
    message["intervals"][2]["intervalPeriod"] = {"start": iso(T0 + 5 * HOUR), "duration": "PT30M"}
    assert held(book(message)) == [("price", "", 0, 1, 0.1), ("price", "", 1, 2, 0.2), ("price", "", 5, 5.5, 0.3)]


def test_a_period_without_an_end_and_one_that_begins_now() -> None:
    for period in ({"start": "0001-01-01", "duration": "P9999Y"}, {"start": "0001-01-01T00:00:00Z"}):
        assert held(book(event(intervalPeriod=period))) == [("import_limit_kw", "", 0, 24, 50)]
    assert parse_duration_ms("P1W") == 168 * HOUR
    assert parse_duration_ms("PT1.5S") == 1_500
    assert parse_duration_ms("P9999Y") == FOREVER_MS
    for bad in ("P1Y", "P1M", "15M", "P", "PT", "", None, 900, "-PT1H"):
        with pytest.raises(ValueError, match=r"duration|length"):
            parse_duration_ms(bad)


def test_units_become_ours() -> None:
    for kind, units, value, wanted in (
        ("IMPORT_CAPACITY_LIMIT", "W", 5_000.0, ("import_limit_kw", 5.0)),
        ("EXPORT_CAPACITY_LIMIT", None, 5.0, ("export_limit_kw", 5.0)),
        ("DISPATCH_SETPOINT", "KW", -4.0, ("dispatch_w", -4_000.0)),
        ("PRICE", "MWH", 80.0, ("price", 0.08)),
        ("EXPORT_PRICE", "KWH", 0.05, ("export_price", 0.05)),
        ("GHG", "G/KWH", 300.0, ("kg_co2_per_kwh", 0.3)),
    ):
        descriptors = [{"payloadType": kind, "units": units}]
        (found,) = segments(book(event("e", kind, value, payloadDescriptors=descriptors)), "hq", T0, T0 + HOUR)
        assert (found.kind, pytest.approx(found.value)) == wanted


def test_targets_of_both_versions_of_the_standard() -> None:
    for targets in (["hq"], ["north", "other"], [{"type": "GROUP", "values": ["x", "north"]}], [], None):
        assert held(book(event(targets=targets)), groups=["north"]), targets
    assert held(book(event(targets=["elsewhere"])), groups=["north"]) == []
    dispatch = event("e", "DISPATCH_SETPOINT", 3.0, targets=["b"])
    assert held(book(dispatch), assets=["b", "c"]) == [("dispatch_w", "b", 0, 1, 3_000)]
    assert held(book(event(targets=["b"])), assets=["b", "c"]) == [("import_limit_kw", "", 0, 1, 50)]


def test_priority_first_then_the_tightest_limit_or_the_later_version() -> None:
    wide, tight = event("wide", values=None), event("tight")
    wide["intervals"][0]["payloads"][0]["values"] = [80.0]
    assert held(book(wide, tight)) == [("import_limit_kw", "", 0, 1, 50)]
    assert held(book(wide | {"priority": 0}, tight | {"priority": 1})) == [("import_limit_kw", "", 0, 1, 80)]
    assert held(book(wide | {"priority": 5}, tight)) == [("import_limit_kw", "", 0, 1, 80)]  # none is the lowest
    old = event("old", "PRICE", 0.1)
    new = event("new", "PRICE", 0.2, createdDateTime=iso(T0))
    assert held(book(new, old)) == [("price", "", 0, 1, 0.2)]


def test_the_newest_version_holds_in_any_order() -> None:
    versions = [
        event("e", "IMPORT_CAPACITY_LIMIT", 50.0, modificationNumber=0),
        event("e", "IMPORT_CAPACITY_LIMIT", 40.0, modificationNumber=1),
        event("e", "IMPORT_CAPACITY_LIMIT", 30.0, modificationNumber=1, modificationDateTime=iso(T0)),
    ]
    for order in itertools.permutations(versions):
        assert held(book(*order, *order)) == [("import_limit_kw", "", 0, 1, 30)]
    cancelled = {"objectType": "EVENT", "id": "e", "status": "cancelled", "modificationNumber": 2}
    for order in itertools.permutations([*versions, cancelled]):
        assert held(book(*order)) == []
    made = book(versions[1])
    assert made.add(versions[0]) is False
    assert made.add(versions[2]) is True


def test_opting_out_and_in_again() -> None:
    out = {"objectType": "OPT_OUT", "eventID": "e", "siteID": "hq", "ts": iso(T0 + HOUR // 4)}
    back = out | {"ts": iso(T0 + HOUR // 2), "status": "OPT_IN"}
    assert held(book(event(), out)) == [("import_limit_kw", "", 0, 0.25, 50)]
    parts = [("import_limit_kw", "", 0, 0.25, 50), ("import_limit_kw", "", 0.5, 1, 50)]
    for order in itertools.permutations([event(), out, back]):
        assert held(book(*order)) == parts
    assert held(book(event(binding=True), out)) == [("import_limit_kw", "", 0, 1, 50)]
    assert held(book(event(), out | {"siteID": "other"})) == [("import_limit_kw", "", 0, 1, 50)]


def test_a_random_start_is_the_sites_own_and_the_same_in_every_run() -> None:
    message = event(intervalPeriod={"start": iso(T0), "duration": "PT1H", "randomizeStart": "PT10M"})
    shifts = {segments(book(message), site, T0, T0 + 3 * HOUR)[0].start_ms - T0 for site in ("a", "b", "c", "hq")}
    assert len(shifts) > 1
    assert all(0 <= shift < 600_000 for shift in shifts)
    assert held(book(message)) == held(book(message))


def test_arrays_by_step() -> None:
    limit = event(intervalPeriod={"start": iso(T0 + 10 * 60_000), "duration": "PT10M"})
    price = event("p", "PRICE", 0.5, intervalPeriod={"start": iso(T0 + 10 * 60_000), "duration": "PT30M"})
    dispatch = event("d", "DISPATCH_SETPOINT", 2.0, targets=["b"])
    found = constraints(book(limit, price, dispatch), "hq", T0, 900, 4, assets=["b"])
    np.testing.assert_array_equal(found.import_limit_kw, [50, 50, np.nan, np.nan])
    np.testing.assert_array_equal(found.price, [0.5, 0.5, 0.5, np.nan])
    np.testing.assert_array_equal(found.export_limit_kw, [np.nan] * 4)
    np.testing.assert_array_equal(found.dispatch_w["b"], [2_000] * 4)
    assert found.event_ids == ("d", "e", "p")
    assert list(constraints(DrBook(), "hq", T0, 900, 4).dispatch_w) == []


def test_the_tightest_limit_within_a_step_holds() -> None:
    tight = event("t", values=None, intervalPeriod={"start": iso(T0 + 60_000), "duration": "PT1M"})
    tight["intervals"][0]["payloads"][0]["values"] = [10.0]
    found = constraints(book(event(), tight), "hq", T0, 900, 2)
    np.testing.assert_array_equal(found.import_limit_kw, [10, 50])


def test_what_is_over_is_forgotten() -> None:
    out = {"objectType": "OPT_OUT", "eventID": "e", "siteID": "hq", "ts": iso(T0)}
    hand = {"objectType": "OVERRIDE", "overrideID": "o", "siteID": "hq", "assetID": "b", "value_w": 1,
            "start": iso(T0), "duration": "PT1H"}  # fmt: skip
    made = book(event(), out, hand)
    made.prune(T0 + HOUR)
    assert len(made.state()) == 3
    made.prune(T0 + HOUR + 1)
    made.prune(T0 + HOUR + 1)
    assert made.state() == {}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"id": None}, "bad_value"),
        ({"objectType": "REPORT"}, "unknown_kind"),
        ({"priority": -1}, "bad_value"),
        ({"intervals": []}, "bad_value"),
        ({"intervalPeriod": {"duration": "PT1H"}}, "missing_field"),
        ({"intervalPeriod": {"start": "2026-01-01T00:00:00", "duration": "PT1H"}}, "bad_value"),
        ({"intervalPeriod": {"start": iso(T0), "duration": "PT0S"}}, "bad_value"),
        ({"intervals": [{"payloads": [{"type": "CURVE", "values": [1]}]}]}, "unknown_kind"),
        ({"intervals": [{"payloads": [{"type": "PRICE", "values": [float("nan")]}]}]}, "bad_value"),
        ({"intervals": [{"payloads": [{"type": "PRICE", "values": [1, 2]}]}]}, "bad_value"),
        ({"intervals": [{"payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [-1]}]}]}, "bad_value"),
        ({"payloadDescriptors": [{"payloadType": "IMPORT_CAPACITY_LIMIT", "units": "A"}]}, "bad_unit"),
        ({"intervals": [{"id": 1}]}, "missing_field"),
        ({"intervals": ["x"]}, "bad_value"),
        ({"status": "maybe"}, "bad_value"),
        ({"modificationNumber": 1.5}, "bad_value"),
        ({"targets": [{"type": "GROUP"}]}, "missing_field"),
    ],
)
def test_what_is_wrong_is_named_and_changes_nothing(change: dict[str, Any], code: str) -> None:
    made = book(event())
    with pytest.raises(DrError) as caught:
        made.add(event() | {"modificationNumber": 9} | change)
    assert caught.value.code == code
    assert made.state() == book(event()).state()


@pytest.mark.parametrize("raw", [b"", b"\xff", b"[]", b"[" * 100_000, "{"])
def test_what_is_no_object(raw: Any) -> None:
    with pytest.raises(DrError, match="not_json"):
        parse(raw)


def test_a_managers_hand() -> None:
    hand = {"objectType": "OVERRIDE", "overrideID": "o", "siteID": "hq", "assetID": "b", "value_w": 1_000,
            "start": iso(T0), "duration": "PT1H", "by": "ann"}  # fmt: skip
    asset = {"asset_id": "b", "min_w": -5_000, "max_w": 5_000}
    made = book(hand)
    assert overrides.active(made, "hq", T0 - 1) == {}
    found = overrides.active(made, "hq", T0)["b"]
    sent = overrides.setpoint(found, asset, site_id="hq", now_ms=T0 + 60_000, mode="live")
    assert sent is not None
    assert (sent["value_w"], sent["duration_s"], sent["priority"], sent["reason"]) == (
        1_000,
        3_540,
        0,
        "manual_override",
    )
    later = hand | {"overrideID": "p", "start": iso(T0 + 60_000), "value_w": None}
    made = book(later, hand)
    assert overrides.active(made, "hq", T0 + 60_000)["b"].override_id == "p"
    free = overrides.active(made, "hq", T0 + 60_000)["b"]
    assert overrides.setpoint(free, asset, site_id="hq", now_ms=T0, mode="live") is None
    made.add(later | {"status": "cancelled", "modificationNumber": 1})
    assert overrides.active(made, "hq", T0 + 60_000)["b"].override_id == "o"
    assert overrides.active(made, "hq", T0 + HOUR) == {}
    endless = {k: v for k, v in hand.items() if k != "duration"}
    (held_on,) = overrides.active(book(endless), "hq", T0 + 10**12).values()
    sent = overrides.setpoint(held_on, asset, site_id="hq", now_ms=T0, mode="shadow")
    assert sent is not None
    assert (sent["duration_s"], sent["mode"]) == (None, "shadow")
    with pytest.raises(ValueError, match="not within"):
        overrides.setpoint(held_on, asset | {"max_w": 500}, site_id="hq", now_ms=T0, mode="live")


MESSAGES = st.lists(
    st.one_of(
        st.builds(
            lambda n, v, kind, value, start, prio: event(
                n, kind, value, modificationNumber=v, priority=prio,
                intervalPeriod={"start": iso(T0 + start * 60_000), "duration": "PT1H"},
            ),
            st.sampled_from("efg"), st.integers(0, 2), st.sampled_from(["PRICE", "IMPORT_CAPACITY_LIMIT"]),
            st.floats(0, 100), st.integers(0, 120), st.sampled_from([None, 0, 1]),
        ),
        st.builds(
            lambda n, s, word: {"objectType": "OPT_OUT", "eventID": n, "siteID": "hq", "ts": iso(T0 + s * 60_000),
                                "status": word},
            st.sampled_from("efg"), st.integers(0, 200), st.sampled_from(["OPT_OUT", "OPT_IN"]),
        ),
        st.builds(
            lambda n, v: {"id": n, "status": "cancelled", "modificationNumber": v},
            st.sampled_from("efg"), st.integers(0, 2),
        ),
    ),
    max_size=12,
)  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(MESSAGES, st.randoms())
def test_order_and_repeats_change_nothing_and_segments_never_overlap(
    messages: list[dict[str, Any]], chance: Any
) -> None:
    mixed = messages + chance.sample(messages, len(messages) // 2)
    chance.shuffle(mixed)
    one, other = book(*messages), book(*mixed)
    assert one.state() == other.state()
    assert DrBook(json.loads(json.dumps(one.state()))).state() == one.state()
    found = segments(one, "hq", T0, T0 + 5 * HOUR)
    assert found == segments(other, "hq", T0, T0 + 5 * HOUR)
    for before, after in itertools.pairwise(found):
        assert before.kind < after.kind or before.end_ms <= after.start_ms
    whole = constraints(one, "hq", T0, 900, 20)
    assert not np.isnan(whole.import_limit_kw).all() or not any(s.kind == "import_limit_kw" for s in found)
