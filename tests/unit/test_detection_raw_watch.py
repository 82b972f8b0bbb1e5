"""Raw breaches as anomalies: one a series and quarter hour, taken back when corrected, and the alert they share."""

from __future__ import annotations

import pytest
from pyflink.datastream import TimeDomain

from operators.alerting.book import SiteBook
from operators.alerting.evidence import Evidence
from operators.detection.raw_watch import RawWatch
from operators.findings import anomaly_id
from operators.meters import MeterConfig
from operators.packing import RECORD, UNIT, unpack
from operators.raw_function import RawShard
from tests.alerting import table
from tests.unit.flink_fakes import Keyed, Silent

MINUTE = 60_000
SLOT = 15 * MINUTE
CONFIGS = {"b2": MeterConfig(max_kw=50.0)}


def text(*readings):
    """Two texts of (minute, kW[, revision[, quality]]) of meter b2."""
    numbers = []
    for minute, kw, *more in readings:
        revision, quality = (*more, 0, 0)[:2]
        numbers.append(f"{minute * MINUTE} {kw} 0 {revision} {quality}")
    return RECORD.join([UNIT.join(("b2", "p", "acme", "2"))] * len(numbers)), " ".join(numbers)


def look(watch, *readings):
    return [
        (m["status"], m["start"][11:16], m["known_at"][11:16]) for m in watch.take(unpack(*text(*readings)), CONFIGS)
    ]


def test_one_anomaly_a_quarter_hour_is_open_at_once_and_closed_with_it():
    watch = RawWatch()
    (message,) = watch.take(unpack(*text((1, 20), (2, 60))), CONFIGS)
    assert message["anomaly_id"] == anomaly_id("b2", "p", "raw", 2 * MINUTE)
    assert (message["status"], message["end"], message["tenant_id"]) == ("open", None, "acme")
    assert message["detail"] == "60 kW, at most 50 kW are possible"
    assert look(watch, (2, 60), (3, 70)) == []
    assert list(watch.ends_ms()) == [SLOT]
    assert watch.close(SLOT - 1) == []
    (closed,) = watch.close(SLOT)
    assert (closed["anomaly_id"], closed["status"], closed["end"]) == (
        message["anomaly_id"], "closed", "1970-01-01T00:03:00Z"
    )  # fmt: skip
    assert watch.close(SLOT) == []
    assert look(watch, (16, 51)) == [("open", "00:16", "00:16")]


def test_a_correction_takes_it_back_when_no_other_reading_bears_it_out():
    watch = RawWatch()
    look(watch, (2, 60), (3, 61))
    assert look(watch, (2, 60), (2, 20)) == [], "the lower of one revision counts not"
    assert look(watch, (2, 20, 1)) == []
    assert look(watch, (3, 61, 0, 2)) == [("retracted", "00:02", "00:03")], "invalid"
    assert list(watch.ends_ms()) == []


def test_it_can_be_stored_and_goes_on():
    watch = RawWatch()
    look(watch, (2, 60))
    again = RawWatch.restore(watch.names(), watch.header(), watch.breaches())
    assert look(again, (2, 60)) == []
    assert again.close(SLOT) == watch.close(SLOT)


def test_the_breach_and_the_finding_of_its_step_are_one_alert_with_one_start():
    watch, book = RawWatch(), SiteBook()
    raw = [*watch.take(unpack(*text((2, 60))), CONFIGS), *watch.close(SLOT)]
    step = {
        "anomaly_id": "step", "meter_id": "b2", "tenant_id": "acme", "kind": "spike", "start": "1970-01-01T00:00:00Z",
        "end": "1970-01-01T00:15:00Z", "score": 1e-5, "status": "closed", "known_at": "1970-01-01T00:15:00Z",
    }  # fmt: skip
    news = []
    for message in (raw[0], step, raw[1]):
        book.add(Evidence.of_anomaly(message))
        news += book.evaluate(-1)[0]
    news += book.evaluate(40 * MINUTE)[0]
    ((_, starts),) = table(news)
    assert starts == "1970-01-01T00:00:00.000Z"
    assert [m["notify"]["kind"] for m in news if m["notify"]] == ["firing", "resolved"]
    assert "60 kW, at most 50 kW are possible" in news[0]["annotations"]["summary"]


class Clocked(Keyed):
    """With timers of processing time, which the test fires."""

    domain = TimeDomain.EVENT_TIME

    def __init__(self, key):
        super().__init__(key)
        self.clock_timers = set()

    def register_processing_time_timer(self, at_ms):
        self.clock_timers.add(at_ms)

    def time_domain(self):
        return self.domain


def test_the_wrapper_keeps_what_it_needs_and_closes_by_event_time(monkeypatch: pytest.MonkeyPatch):
    class Meters(Silent):
        configs = CONFIGS

    monkeypatch.setattr("operators.raw_function.MetersTopic", Meters)
    flink = Clocked(3)

    def start():
        function = RawShard("kafka", "meters")
        function.open(flink)
        return function

    function = start()
    (said,) = function.process_element((3, 0, *text((2, 60))), flink)
    assert said.startswith(f"b2{UNIT}")
    assert flink.timers == {SLOT}
    list(function.process_element((3, 0, *text((3, 20))), flink))
    list(function.process_element((3, 0, *text((4, 20))), flink))
    assert len(flink.clock_timers) == 1, "the state is written now and then"
    flink.domain = TimeDomain.PROCESSING_TIME
    assert list(function.on_timer(flink.clock_timers.pop(), flink)) == []
    flink.domain = TimeDomain.EVENT_TIME
    function = start()
    assert list(function.process_element((3, 0, *text((2, 60), (3, 61))), flink)) == [], "it is known after a restart"
    (said,) = function.on_timer(SLOT, flink)
    assert '"closed"' in said
    assert flink.counters[("raw_breaches",)].count == 1
