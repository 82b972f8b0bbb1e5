"""The controller's operator without Flink: live, backlog and past, heartbeats, and a state that outlives a restart."""

from __future__ import annotations

import json
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from control_loop import GRID, LOAD, SITE, START_MS, forecast_message
from pyflink.datastream import TimeDomain

from operators import control_function
from operators.control_function import BACKLOG_MS, BEAT_MS, CURRENT_MS, ControlSite
from operators.control_lifecycle.times import parse_ts_ms
from operators.control_site.situation import place_of
from operators.packing import UNIT
from tests.unit.flink_fakes import Map, Value

NOW = START_MS + 6 * 3_600_000
IDS: dict[str, list[str]] = {}
"""What the first order of arrival gave."""


class Flink:
    """Contexts of one key, and what was registered."""

    def __init__(self) -> None:
        self.states: dict[str, Any] = {}
        self.now = NOW
        self.event: set[int] = set()
        self.processing: set[int] = set()
        self.domain = TimeDomain.PROCESSING_TIME

    def get_state(self, descriptor: Any) -> Value:
        return self.states.setdefault(descriptor.name, Value())

    def get_map_state(self, descriptor: Any) -> Map:
        return self.states.setdefault(descriptor.name, Map())

    def get_metrics_group(self) -> Any:
        return SimpleNamespace(counter=lambda name: SimpleNamespace(inc=lambda n=1: None))

    def timer_service(self) -> Any:
        return SimpleNamespace(
            current_processing_time=lambda: self.now,
            register_event_time_timer=self.event.add,
            register_processing_time_timer=self.processing.add,
        )

    def get_current_key(self) -> str:
        return "hq"

    def time_domain(self) -> TimeDomain:
        return self.domain


class Quiet:
    """Topics that say the same all the time."""

    mode = "live"

    def __init__(self, *args: Any) -> None:
        self.places = {"hq": place_of({**SITE, "mode": Quiet.mode}, {})}

    def look(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def flink(monkeypatch: pytest.MonkeyPatch) -> Flink:
    monkeypatch.setattr(control_function, "Places", Quiet)
    monkeypatch.setattr(control_function, "CompactedTopic", Quiet)
    made = Flink()
    monkeypatch.setattr(control_function, "time", SimpleNamespace(monotonic=lambda: made.now / 1000, time_ns=lambda: 0))
    return made


def operator(flink: Flink, *, past_only: bool = False) -> ControlSite:
    made = ControlSite("k", "sites", "meters", "dr.events", past_only=past_only)
    made.open(flink)
    return made


def readings(at_ms: int, received_ms: int, kwh: float) -> list[tuple[Any, ...]]:
    """Both meters' counters."""
    return [
        ("hq", "reading", at_ms, received_ms, UNIT.join([meter, "1-0:1.8.0", "0", str(at_ms), str(kwh), "0", "0"]))
        for meter in (GRID, LOAD)
    ]


def feed(made: ControlSite, flink: Flink, records: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Setpoints that follow."""
    texts = [text for record in records for text in made.process_element(record, flink)]
    return setpoints(texts)


def setpoints(texts: list[str]) -> list[dict[str, Any]]:
    parts = [text.split(UNIT) for text in texts]
    return [json.loads(value) for topic, _, value in parts if topic == "control.setpoints"]


def started(made: ControlSite, flink: Flink, received_late_ms: int = 0) -> list[dict[str, Any]]:
    """A forecast, the devices' reports, and two minutes of readings, each read as it arrives."""
    at = flink.now
    records: list[tuple[Any, ...]] = [
        ("hq", "forecast", 0, at + received_late_ms, json.dumps(forecast_message(at))),
        ("hq", "state", 0, at + received_late_ms,
         json.dumps({"asset_id": "battery", "ts": at, "power_w": 0.0, "content_wh": 15000.0})),
    ]  # fmt: skip
    found = feed(made, flink, records)
    for minute in range(3):
        at_ms = at + minute * 60_000
        flink.now = at_ms + received_late_ms
        found += feed(made, flink, readings(at_ms, at_ms + received_late_ms, 100 + minute * 0.5))
    return found


def test_what_is_of_now_is_decided_on_at_once(flink: Flink) -> None:
    found = started(operator(flink), flink)
    assert {one["asset_id"] for one in found} == {"battery"}  # The others never reported
    assert {one["mode"] for one in found} == {"live"}
    assert not flink.event
    assert all(at % BEAT_MS == 0 and at > NOW for at in flink.processing)


def test_between_records_leases_are_renewed(flink: Flink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Quiet, "mode", "shadow")  # Nobody answers here
    made = operator(flink)
    started(made, flink)
    found = []
    for _ in range(30):
        flink.now = max(flink.processing)
        report = {"asset_id": "battery", "ts": flink.now, "power_w": 0.0, "content_wh": 15000.0}
        feed(made, flink, [("hq", "state", 0, flink.now, json.dumps(report))])
        found += setpoints(list(made.on_timer(flink.now, flink)))
    times = [parse_ts_ms(one["execution_time"]) for one in found if one["asset_id"] == "battery"]
    assert len(times) >= 2
    assert max(later - earlier for earlier, later in pairwise(times)) <= 60_000


def test_a_backlog_is_taken_in_without_deciding(flink: Flink) -> None:
    made = operator(flink)
    flink.now += BACKLOG_MS + 1000
    late = flink.now
    assert feed(made, flink, [*readings(NOW, NOW, 100.0), *readings(NOW + 60_000, NOW, 100.5)]) == []
    flink.now = late
    assert made._sites["hq"].memory.live.state


def test_the_past_waits_for_its_time_and_is_only_shadow(flink: Flink) -> None:
    made = operator(flink)
    flink.now = NOW + 2 * CURRENT_MS
    assert started(made, flink, received_late_ms=2 * CURRENT_MS) == []
    assert len(flink.event) >= 3
    flink.domain = TimeDomain.EVENT_TIME
    texts = [text for at in sorted(flink.event) for text in made.on_timer(at, flink)]
    found = setpoints(texts)
    assert {one["mode"] for one in found} == {"shadow"}
    assert not flink.states["waiting"]


@pytest.mark.parametrize("order", [1, -1])
def test_a_run_to_the_end_is_the_same_in_any_order_of_arrival(flink: Flink, order: int) -> None:
    made = operator(flink, past_only=True)
    records: list[tuple[Any, ...]] = [("hq", "forecast", 0, NOW, json.dumps(forecast_message(NOW)))]
    for minute in range(30):
        records += readings(NOW + minute * 60_000, NOW + minute * 60_000, 100 + minute * 0.5)
    feed(made, flink, records[::order])
    flink.domain = TimeDomain.EVENT_TIME
    found = setpoints([text for at in sorted(flink.event) for text in made.on_timer(at, flink)])
    assert len(found) > 10
    ids = [one["setpoint_id"] for one in found]
    assert IDS.setdefault("first", ids) == ids


def test_a_restart_goes_on_from_the_state(flink: Flink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Quiet, "mode", "shadow")  # Nobody answers here
    made = operator(flink)
    before = started(made, flink)
    again = operator(flink)
    flink.now += 60_000
    found = feed(again, flink, readings(flink.now, flink.now, 101.5))
    assert found[-1]["supersedes"] == before[-1]["setpoint_id"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [("state", "{"), ("ack", "[]"), ("forecast", '{"issued_at": "x"}'), ("reading", "a"), ("state", '{"ts": 5}')],
)
def test_what_is_none_harms_nothing(flink: Flink, kind: str, body: str) -> None:
    made = operator(flink)
    assert feed(made, flink, [("hq", kind, NOW, NOW, body)]) == []
    assert started(made, flink)


def test_a_reading_from_the_future_is_not_believed(flink: Flink) -> None:
    made = operator(flink)
    assert feed(made, flink, readings(NOW + 3_000_000, NOW, 100.0)) == []
    assert "hq" not in made._sites
