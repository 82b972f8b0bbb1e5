"""The lifecycle of alerts, one feature a test; and that order, repetition, pace and restarts change nothing."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.alerting import book as book_module
from operators.alerting.book import SiteBook
from operators.alerting.evidence import Evidence, EvidenceError
from operators.alerting.rules import ALWAYS, Book
from operators.alerting.said import Row
from operators.alerting.times import iso
from operators.control_lifecycle.alerts import alert as control_alert
from tests.alerting import BASE, MINUTE, add, anomaly, at, said, table


def rules(*entries: dict[str, Any]) -> Book:
    return Book.of(ALWAYS, entries)


def test_an_anomaly_fires_at_once_is_held_and_resolves() -> None:
    book = SiteBook()
    add(book, anomaly("a", 0, 15))
    news, again = book.evaluate(at(15))
    assert said(news) == [("MeterSpike", "firing", 0)]
    assert news[0]["labels"] == {
        "alertname": "MeterSpike", "severity": "warning", "tenant": "default", "site": "hq", "meter": "b2"
    }  # fmt: skip
    summary = (
        "hq/b2: more than expected: 12.5 kWh seen, 4 kWh (3 to 5) expected, since 2026-01-01T00:00Z, chance of it 0.001"
    )
    assert news[0]["annotations"]["summary"] == summary
    assert news[0]["annotations"]["query"].startswith("SELECT * FROM alert_context('b2', '2025-12-31T00:00:00.000Z'")
    assert (again, book.evaluate(at(29))[0]) == (at(30), [])
    news, again = book.evaluate(at(30))
    assert said(news) == [("MeterSpike", "resolved", 0)]
    assert news[0]["endsAt"] == "2026-01-01T00:15:00.000Z"
    assert (again, book.evaluate(at(9_000))[0]) == (None, [])


def test_for_needs_uninterrupted_evidence() -> None:
    book = SiteBook(rules({"alert": "MeterSpike", "kinds": ["spike"], "for": "30m"}))
    add(book, anomaly("a", 0, 15), anomaly("b", 20, 40))
    assert book.evaluate(at(45))[0] == []
    add(book, anomaly("c", 40, None))
    news, again = book.evaluate(at(49))
    assert (news, again) == ([], at(50))
    assert said(book.evaluate(at(50))[0]) == [("MeterSpike", "firing", 50)]


def test_a_gap_shorter_than_hold_is_one_alert() -> None:
    book = SiteBook()
    add(book, anomaly("a", 0, 15), anomaly("b", 30, 45), anomaly("c", 61, 75))
    starts = [start for _, start in sorted(table(book.evaluate(at(100))[0]))]
    assert starts == ["2026-01-01T00:00:00.000Z", "2026-01-01T01:01:00.000Z"]


def test_hysteresis_of_the_score() -> None:
    book = SiteBook(rules({"alert": "MeterSpike", "kinds": ["spike"], "max_score": 0.1, "clear_score": 0.5}))
    add(book, anomaly("weak", 0, 15, score=0.4))
    assert book.evaluate(at(15))[0] == []
    add(book, anomaly("begins", 15, 30, score=0.05), anomaly("keeps", 30, 60, score=0.4))
    add(book, anomaly("neither", 60, 90, score=0.9))
    (row,) = table(book.evaluate(at(90))[0]).values()
    assert (row["status"], row["endsAt"]) == ("resolved", "2026-01-01T01:00:00.000Z")


def test_repeats_and_escalation_by_event_time() -> None:
    entry = {
        "alert": "MeterSpike", "kinds": ["spike"], "repeat": "1h", "receivers": ["ops"],
        "escalate": {"after": "90m", "receivers": ["boss"]},
    }  # fmt: skip
    book = SiteBook(rules(entry))
    add(book, anomaly("a", 0, None))
    assert said(book.evaluate(at(0))[0]) == [("MeterSpike", "firing", 0)]
    news, again = book.evaluate(at(61))
    assert (said(news), news[0]["receivers"]) == ([("MeterSpike", "repeat", 0)], ["ops"])
    assert again == at(90)
    (news,) = book.evaluate(at(90))[0]
    assert (news["notify"]["kind"], news["receivers"]) == ("escalated", ["boss"])
    news, _ = book.evaluate(at(301))
    assert [m["notify"]["id"].split("-", 2)[2] for m in news] == ["repeat-5"], "of missed repeats only the newest"


def test_flapping_is_damped() -> None:
    entry = {"alert": "MeterSpike", "kinds": ["spike"], "hold": "1m"} | {
        "flap": {"changes": 3, "within": "1h", "hold": "1h"}
    }
    book = SiteBook(rules(entry))
    add(book, *[anomaly(str(i), 10 * i, 10 * i + 2) for i in range(6)])
    news = book.evaluate(at(200))[0]
    rows = table(news)
    assert [row["endsAt"][11:16] for row in rows.values()] == ["00:02", "00:12", "00:52"]
    assert [row["annotations"].get("flapping") for row in rows.values()] == [None, None, "true"]


def test_a_site_outage_hides_its_meters() -> None:
    book = SiteBook()
    add(book, *[anomaly(m, 0, None, "missing", m) for m in ("b1", "b2", "b3")])
    news, _ = book.evaluate(at(1), 6)
    assert said(news) == [("SiteOutage", "firing", 0)]
    outage = news[0]
    assert outage["annotations"]["summary"] == "hq: no readings: at least 3 of 6 meters, since 2026-01-01T00:00Z"
    news, _ = book.evaluate(at(20), 6)
    assert said(news) == [], "the meters fire, and are not told"
    assert {m["annotations"]["inhibited_by"] for m in news} == {outage["fingerprint"]}
    add(book, *[anomaly(m, 0, 30, "missing", m) for m in ("b1", "b2")])
    news, _ = book.evaluate(at(46), 6)
    assert sorted(said(news)) == [
        ("MeterMissing", "firing", 15), ("SiteOutage", "resolved", 0)
    ], "the one that is left is told"  # fmt: skip


def test_an_alert_of_another_job_passes_with_its_own_labels() -> None:
    # The fingerprint is the one that the control jobs give it.
    labels = {"alertname": "LeaseExpired", "severity": "critical", "tenant": "t", "site": "hq", "asset": "b"}
    alert = {"status": "firing", "labels": labels, "annotations": {"summary": "s"}, "startsAt": "2026-01-01T00:00:00Z"}
    book = SiteBook()
    add(book, alert)
    (news,) = book.evaluate(at(0))[0]
    assert (news["labels"], news["annotations"]["summary"]) == (labels, "s")
    raised = control_alert(
        "LeaseExpired", "critical", {"tenant_id": "t", "site_id": "hq", "asset_id": "b"}, "", 0, 0, 0
    )
    assert news["fingerprint"] == raised["fingerprint"]
    add(book, alert | {"status": "resolved", "endsAt": "2026-01-01T00:05:00Z"})
    assert [m["notify"]["kind"] for m in book.evaluate(at(5))[0]] == ["resolved"]


def test_rules_are_swapped_at_an_event_time() -> None:
    book = SiteBook()
    add(book, anomaly("a", 0, None), anomaly("old", -300, -200, "drop"))
    book.evaluate(at(10))
    assert book.configure("v2", [{"alert": "MeterSpike", "enabled": False}])
    assert not book.configure("v2", [])
    add(book, anomaly("b", 12, None, meter="b3"))
    news, _ = book.evaluate(at(12))
    assert said(news) == [], "the rule is gone for what begins now"
    news, _ = book.evaluate(at(26))
    assert [(m["notify"]["kind"], m["endsAt"]) for m in news] == [("resolved", "2026-01-01T00:10:00.000Z")]


def test_a_retracted_anomaly_takes_its_alert_back() -> None:
    book = SiteBook()
    add(book, anomaly("a", 0, None))
    rows = book.evaluate(at(0))[0]
    add(book, anomaly("a", 0, 15, status="retracted"))
    rows += book.evaluate(at(15))[0]
    assert said(rows)[-1] == ("MeterSpike", "resolved", 0)
    assert table(rows) == {}


@pytest.mark.parametrize(
    "message",
    [
        {}, anomaly("a", 0, 5, kind="odd"), anomaly("a", 5, 0), anomaly("a", 0, 5) | {"start": "2026-01-01T00:00:00"},
        anomaly("a", 0, 5) | {"meter_id": 7}, anomaly("a", 0, 5) | {"start": True}, anomaly("a", 0, 5, meter="\n"),
        anomaly("a", 0, 5) | {"start": 1e300}, anomaly("a", 0, 5) | {"start": float("inf")},
    ],
)  # fmt: skip
def test_what_is_no_anomaly_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError):
        Evidence.of_anomaly(message)


MESSAGES = st.builds(
    anomaly,
    st.sampled_from("abcdefgh"),
    st.integers(0, 60).map(lambda q: 5 * q),
    st.one_of(st.none(), st.integers(60, 120).map(lambda q: 5 * q)),
    st.sampled_from(["spike", "drop", "missing"]),
    st.sampled_from(["b1", "b2", "b3", "b4"]),
    score=st.sampled_from([0.8, 0.4, 0.05]),
    revision=st.integers(0, 2),
    status=st.sampled_from([None, None, "closed", "open", "updated", "retracted"]),
    known_at=st.one_of(st.none(), st.integers(0, 150).map(lambda q: at(5 * q))),
)
BOOK = rules(
    {"alert": "MeterSpike", "kinds": ["spike"], "max_score": 0.1, "clear_score": 0.5, "repeat": "30m"},
    {"alert": "Deviation", "kinds": ["spike", "drop"], "for": "10m", "hold": "20m", "escalate": {"after": "1h"}},
)
END = at(2_000)


def run(messages: list[dict[str, Any]], evaluated: list[bool], restarts: bool = False) -> list[dict[str, Any]]:
    """The messages that come of a run that looks after some of its inputs, and maybe restarts after each look."""
    book, news, clock = SiteBook(BOOK), [], -1
    for message, look in zip(messages, evaluated, strict=True):
        add(book, message)
        clock = max(clock, Evidence.of_anomaly(message).seen_ms)
        if look:
            news += book.evaluate(clock, 4)[0]
        if look and restarts:
            book = restored(book)
    return news + book.evaluate(END, 4)[0]


def restored(book: SiteBook) -> SiteBook:
    packed = [e.pack() for known in book.evidence.values() for e in known.values()]
    said_of = [(name, book.packed(name) or b"[]") for name in book.said]
    return SiteBook.restore(book.header(), packed, said_of, BOOK)


@settings(max_examples=150, deadline=None)
@given(st.lists(MESSAGES, max_size=14), st.randoms(use_true_random=False))
def test_any_order_repetition_and_pace_gives_the_same_history(messages: list[Any], r: random.Random) -> None:
    # One anomaly may not be of two meters: the name says whose it is.
    messages = [m | {"anomaly_id": m["anomaly_id"] + m["meter_id"]} for m in messages]
    wanted = table(run(messages, [False] * len(messages)))
    shuffled = messages + r.choices(messages, k=len(messages) // 2) if messages else []
    r.shuffle(shuffled)
    looks = [r.random() < 0.6 for _ in shuffled]
    news = run(shuffled, looks)
    assert table(news) == wanted
    assert run(shuffled, looks, restarts=True) == news, "a restart changes no message"
    tells = [m["notify"]["id"] for m in news if m["notify"]]
    assert len(tells) == len(set(tells)), "nothing is told twice"
    told: dict[str, int] = {}
    for m in news:
        if m["notify"] and m["notify"]["kind"] in ("firing", "resolved"):
            who = m["notify"]["id"].rsplit("-", 2)[0]
            told[who] = told.get(who, 0) + (1 if m["notify"]["kind"] == "firing" else -1)
            assert told[who] in (0, 1), "firing and resolved take turns"
    firing = {k[0] for k, row in wanted.items() if row["status"] == "firing"}
    assert {who.split("-")[0] for who, n in told.items() if n} <= firing, "what is over was told to be over"


def test_a_burst_keeps_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book_module, "MAX_A_METER", 100)
    book = SiteBook()
    news = []
    for i in range(2_000):
        add(book, anomaly(str(i), i, i + 0.5))
        if i % 50 == 0:
            news += book.evaluate(at(i))[0]
    news += book.evaluate(at(4_000))[0]
    assert sum(map(len, book.evidence.values())) == 100
    assert len(book.dropped) == 1_900
    assert [kind for _, kind, _ in said(news)] == ["firing", "resolved"], "one alert, for all of it"
    assert [row["annotations"]["flapping"] for row in table(news).values()] == ["true"]


def test_what_is_old_is_forgotten_and_stays_history() -> None:
    book = SiteBook()
    add(book, anomaly("a", 0, 15))
    book.evaluate(at(60))
    add(book, anomaly("b", 60 * 24 * 40, None))
    assert said(book.evaluate(at(60 * 24 * 40))[0]) == [("MeterSpike", "firing", 60 * 24 * 40)]
    assert (book.dropped, [list(known) for known in book.evidence.values()]) == ([("b2", "a")], [["b"]])
    add(book, anomaly("late", 1, 2))
    assert (book.late, book.evaluate(book.clock_ms)[0]) == (1, [])


def test_the_end_of_the_input_resolves_what_is_over() -> None:
    book = SiteBook()
    add(book, anomaly("a", 0, 15), anomaly("b", 0, None, meter="b3"))
    rows = table(book.finish())
    assert sorted(row["status"] for row in rows.values()) == ["firing", "resolved"]
    assert book.clock_ms == BASE + 30 * MINUTE


def test_an_alert_that_was_taken_back_and_begins_again_is_told_by_another_name() -> None:
    book = SiteBook()
    add(book, anomaly("a", 0, None))
    news = book.evaluate(at(1))[0]
    add(book, anomaly("a", 0, 15, status="retracted"))
    news += book.evaluate(at(2))[0]
    add(book, anomaly("other", 0, None))
    news += book.evaluate(at(3))[0]
    assert [m["notify"]["id"].split("-", 2)[2] for m in news] == ["firing-1", "resolved-1", "firing-2"]
    assert [row["status"] for row in table(news).values()] == ["firing"]


def test_what_lags_behind_on_another_partition_is_not_over() -> None:
    book = SiteBook()
    add(book, anomaly("a", 0, 15), anomaly("ahead", 500, 515, meter="b3"))
    news, _ = book.evaluate(at(0))
    assert sorted(said(news)) == [("MeterSpike", "firing", 0), ("MeterSpike", "firing", 500)]
    add(book, anomaly("b", 20, 40))
    assert said(book.evaluate(at(30))[0]) == [], "the watermark knows what is still to come"
    assert said(book.evaluate(at(55))[0]) == [("MeterSpike", "resolved", 0)]


def test_a_row_that_nothing_bears_out_is_taken_back_after_a_restart() -> None:
    book = SiteBook()
    add(book, anomaly("a", 0, None))
    (fired,) = book.evaluate(at(0))[0]
    labels = fired["labels"]
    row = Row(fired["fingerprint"], labels, at(0), None, at(0))
    book.recall([row, row._replace(fingerprint="gone", labels=labels | {"meter": "b9"}, starts_ms=at(1))])
    (news,) = book.evaluate(at(2))[0]
    assert (news["fingerprint"], news["retracted"]) == ("gone", True)
    assert news["notify"] == {"kind": "resolved", "id": f"gone-{at(1)}-resolved-1"}, "who was told of it must hear"
    assert book.evaluate(at(3))[0] == [], "once"


def test_a_row_is_judged_when_its_meters_time_has_come_whatever_the_sites() -> None:
    book = SiteBook()
    wrong = anomaly("a", 0, 60)
    (fired, *_) = _told(wrong)
    row = Row(fired["fingerprint"], fired["labels"], at(0), at(60), at(120))
    add(book, wrong | {"status": "retracted", "known_at": iso(at(90))})
    book.recall([row])
    assert book.evaluate(-1)[0] == [], "what follows from later evidence may still come"
    add(book, wrong | {"status": "retracted", "known_at": iso(at(180))})
    (news,) = book.evaluate(-1)[0]
    assert (news["retracted"], news["at"]) == (True, iso(at(180)))


def _told(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    book = SiteBook()
    add(book, *messages)
    return book.evaluate(at(0))[0]
