"""The book's wrapper: at the end of all input its timers end, and say what is left."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from operators import alert_function
from operators.alert_function import LAST_MS, AlertBook
from operators.alerting.evidence import Evidence
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
