"""The book's wrapper: at the end of all input its timers end, and say what is left."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from operators import alert_function
from operators.alert_function import LAST_MS, AlertBook
from operators.alerting.evidence import Evidence
from operators.alerting.said import Row
from operators.alerting.times import iso
from operators.packing import RECORD, UNIT
from tests.alerting import anomaly, at
from tests.unit.flink_fakes import Keyed, Silent

KEY = f"default{UNIT}hq"


class Flink(Keyed):
    """Processing time stands still."""

    def register_processing_time_timer(self, at_ms: int) -> None:
        """Never comes."""


def test_at_the_end_of_all_input_each_timer_comes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_function, "CompactedTopic", Silent)
    monkeypatch.setattr(alert_function, "Session", Silent)
    monkeypatch.setattr(alert_function.rows, "recall", lambda *_: [])
    flink, function = Flink(KEY), AlertBook("kafka", "rules", "meters", "database")
    function.open(flink)
    said: list[dict[str, Any]] = []

    def fire(timestamp: int) -> None:
        for text in function.on_timer(timestamp, flink):
            said.extend(orjson.loads(piece.split(UNIT)[1]) for piece in text.split(RECORD))

    for name, end in (("a", 10), ("b", None)):
        evidence = Evidence.of_anomaly(anomaly(name, 0, end, meter=name))
        list(function.process_element((KEY, evidence.pack().decode()), flink))
    flink.watermark = at(20)
    fire(at(20))
    assert len(flink.timers) > 1, "an alert that fires is told again later"
    flink.watermark = LAST_MS
    fired = 0
    while flink.timers:
        fired += 1
        assert fired < 10, "a timer sets itself again"
        timestamp = min(flink.timers)
        flink.timers.remove(timestamp)
        fire(timestamp)
    last = {m["labels"]["meter"]: m["status"] for m in said}
    assert last == {"a": "resolved", "b": "firing"}


def test_what_an_attempt_without_a_checkpoint_said_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_function, "CompactedTopic", Silent)
    monkeypatch.setattr(alert_function, "Session", Silent)
    asked: list[tuple[Any, ...]] = []
    labels = {"alertname": "MeterSpike", "severity": "warning", "tenant": "default", "site": "hq", "meter": "b2"}

    def recall(_: object, *asking: Any) -> list[Row]:
        asked.append(asking)
        return [Row("f1", labels, at(0), at(15), at(40))]

    monkeypatch.setattr(alert_function.rows, "recall", recall)
    flink, function = Flink(KEY), AlertBook("kafka", "rules", "meters", "database")
    function.open(flink)
    taken_back = anomaly("a", 0, 15, status="retracted", known_at=iso(at(60)))
    evidence = (KEY, Evidence.of_anomaly(taken_back).pack().decode())
    flink.watermark = -(2**63)
    assert list(function.process_element(evidence, flink)) == [], "what was said first may be said again"
    assert list(function.on_timer(0, flink)) == []
    monkeypatch.setattr(alert_function, "RECALL_AFTER_MS", 0)
    flink.states.clear()
    function.open(flink)
    (text,) = function.process_element(evidence, flink)
    assert orjson.loads(text.split(UNIT)[1])["retracted"]
    assert asked == [("default", "hq", -1, at(0))]


def test_the_first_news_of_a_site_is_looked_at_at_once_and_a_burst_is_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alert_function, "CompactedTopic", Silent)
    monkeypatch.setattr(alert_function, "Session", Silent)
    clock = [1_000_000]
    monkeypatch.setattr(alert_function, "_now_ms", lambda: clock[0])
    flink, function = Flink(KEY), AlertBook("kafka", "rules", "meters", "database")
    function.open(flink)

    def put(name: str) -> int:
        evidence = Evidence.of_anomaly(anomaly(name, 0, None, meter=name))
        return len(list(function.process_element((KEY, evidence.pack().decode()), flink)))

    assert [put(name) for name in "abc"] == [1, 0, 0]
    (text,) = function.on_timer(1, flink)
    assert len(text.split(RECORD)) == 2
    clock[0] += 60_000
    monkeypatch.setattr(alert_function.rows, "recall", lambda *_: [])
    assert put("d") == 1
