"""The detector's wrapper: what it keeps makes it again, and its timers end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from jobs.models.registry import Registry, Version
from operators import shard_states
from operators.detect_function import LAST_MS, SILENT_MS, SLOT_MS, DetectShard
from operators.forecaster import SHIPPED_MODEL, Forecaster, shipped_sha256
from operators.packing import RECORD, UNIT
from operators.serving import live
from operators.serving.plan import CHAMPION, Announcement
from operators.serving.settings import ShardSettings
from tests.unit.flink_fakes import Keyed, Silent
from tests.unit.serving_support import KEY, PUBLIC, trained
from tests.unit.test_detection_shard_watch import AT, load
from tests.unit.test_shard import HOUR, START
from tests.unit.test_shard_function import Topic

SHARD = 3


@pytest.fixture(autouse=True)
def _no_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_states, "MetersTopic", Silent)
    monkeypatch.setattr(live, "ModelsTopic", Topic)
    monkeypatch.setattr(live, "MODELS_EVERY_S", 0.0)
    monkeypatch.setattr(Topic, "said", frozenset())


def opened(flink: Keyed) -> DetectShard:
    settings = ShardSettings("kafka", "meters", "models", "forecaster", PUBLIC)
    function = DetectShard(SHIPPED_MODEL.read_bytes(), shipped_sha256(), settings)
    function.open(flink)
    return function


def texts(hour: int, values: Any) -> tuple[str, str]:
    """One hour's interval of each meter, as the JVM packs them."""
    return (
        RECORD.join(UNIT.join((f"m{i}", "1-0:1.8.0", "default", "1")) for i in range(len(values))),
        " ".join(f"{START + (hour + 1) * HOUR} {value} {HOUR} 0 0" for value in values),
    )


def said(found: Any) -> list[dict[str, Any]]:
    return [orjson.loads(piece.split(UNIT)[1]) for text in found for piece in text.split(RECORD)]


def hours(function: DetectShard, flink: Keyed, kwh: Any, first: int, until: int) -> list[dict[str, Any]]:
    found = []
    for hour in range(first, until):
        window = (SHARD, START + (hour + 1) * HOUR, *texts(hour, kwh[:, hour]))
        found += said(function.process_element(window, flink))
    return found


def test_a_restart_goes_on_where_the_state_stands() -> None:
    kwh = 10 * load(2, AT + 10)
    kwh[0, AT] += 80
    whole = Keyed(SHARD)
    expected = hours(opened(whole), whole, kwh, 0, AT + 10)
    assert [(m["meter_id"], m["kind"], m["status"]) for m in expected] == [
        ("m0", "spike", "open"),
        ("m0", "spike", "closed"),
    ]
    assert expected[0]["model_id"]
    flink = Keyed(SHARD)
    found = [
        m
        for a, b in ((0, AT - 30), (AT - 30, AT + 1), (AT + 1, AT + 10))
        for m in hours(opened(flink), flink, kwh, a, b)
    ]
    assert found == expected
    assert flink.states["watch"].held == whole.states["watch"].held
    assert set(flink.states["watch-steps"]) == set(whole.states["watch-steps"])
    assert flink.counters["anomalies",].count == 1


def test_what_is_found_is_held_against_the_champion_of_its_time(tmp_path: Path) -> None:
    version = Registry(tmp_path / "registry", PUBLIC).register(trained(tmp_path / "new", 1.0), KEY)
    kwh = 10 * load(2, AT + 3)
    kwh[:, AT] += 80
    flink = Keyed(SHARD)
    function = opened(flink)
    assert hours(function, flink, kwh, 0, AT - 40) == []
    Topic.said = frozenset({announced(version, AT - 30)})
    assert hours(function, flink, kwh, AT - 40, AT - 35) == []
    Topic.said = frozenset()
    restarted = opened(flink)
    found = hours(restarted, flink, kwh, AT - 35, AT + 3)
    assert {(m["kind"], m["model_id"]) for m in found} == {("spike", "test-1.0-0.3")}
    Topic.said = frozenset({announced(version, AT + 2)})
    other = Keyed(SHARD)
    found = hours(opened(other), other, kwh, 0, AT + 1)
    assert {m["model_id"] for m in found} == {Forecaster.load().model_id}, "not before its time"


def announced(version: Version, hour: int) -> Announcement:
    return Announcement(1, START + hour * HOUR, version.version, version.sha256, CHAMPION, version.uri)


def test_a_silent_shard_is_looked_at_for_two_days_and_no_longer() -> None:
    flink, kwh = Keyed(SHARD), 10 * load(2, AT)
    function = opened(flink)
    assert hours(function, flink, kwh, 0, AT) == []
    last = START + AT * HOUR
    flink.timers = {last + SLOT_MS}
    found = []
    while flink.timers:
        at = flink.timers.pop()
        assert at <= last + SILENT_MS + SLOT_MS
        found += said(function.on_timer(at, flink))
    assert {(m["meter_id"], m["kind"]) for m in found} == {("m0", "missing"), ("m1", "missing")}
    assert at >= last + SILENT_MS


def test_at_the_end_of_all_input_nobody_is_missing() -> None:
    flink = Keyed(SHARD)
    function = opened(flink)
    hours(function, flink, np.ones((1, 3)), 0, 3)
    flink.watermark, flink.timers = LAST_MS, set()
    assert list(function.on_timer(START + 9 * HOUR, flink)) == []
    assert not flink.timers
