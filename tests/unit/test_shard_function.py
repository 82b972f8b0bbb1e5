"""The forecast operator with a small fake of Flink: what it sends and reports; a restart changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from jobs.models.registry import Registry, Version
from operators import forecast_messages, shard_states
from operators.packing import RECORD, UNIT
from operators.serving import live
from operators.serving.plan import CHALLENGER, CHAMPION, Announcement
from operators.serving.settings import ShardSettings
from operators.shard_function import REPORTS, ForecastShard
from tests.unit.flink_fakes import Fake
from tests.unit.serving_support import KEY, PUBLIC, forecaster, model_bytes, trained

HOUR = 3_600_000
START = 1_704_067_200_000
NAMES = ("a", "b")
SWAP, SECOND, LAST = 200, 190, 230
USED = np.round(np.random.default_rng(4).gamma(2.0, 3.0, (LAST + 1, len(NAMES))), 3)


class Topic:
    """The topic `models` as a worker sees it; `meters` has nothing."""

    said: frozenset[Announcement] = frozenset()
    unusable = 0

    def __init__(self, *_: Any) -> None:
        self.configs: dict[str, Any] = {}
        self._seen: frozenset[Announcement] = frozenset()

    @property
    def announcements(self) -> frozenset[Announcement]:
        return Topic.said

    def look(self) -> bool:
        before, self._seen = self._seen, Topic.said
        return before != Topic.said

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture
def version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Version:
    monkeypatch.setattr(shard_states, "MetersTopic", Topic)
    monkeypatch.setattr(live, "ModelsTopic", Topic)
    monkeypatch.setattr(live, "MODELS_EVERY_S", 0.0)
    monkeypatch.setattr(Topic, "said", frozenset())
    return Registry(tmp_path / "registry", PUBLIC).register(trained(tmp_path / "new", 2.0), KEY)


def packed(hour: int) -> tuple[str, str]:
    """Both meters' readings of the hour, as the JVM packs them."""
    return (
        RECORD.join(UNIT.join((name, "1-0:1.8.0", "default", "1")) for name in NAMES),
        " ".join(f"{START + hour * HOUR} {USED[hour, i]} {HOUR} 0 0" for i in range(len(NAMES))),
    )


def opened(fake: Fake) -> ForecastShard:
    content = model_bytes()
    settings = ShardSettings("nowhere", "meters", "models", "forecaster", PUBLIC)
    operator = ForecastShard(content, forecaster().sha256, settings)
    operator.open(fake)
    return operator


def run(announced: dict[int, list[Announcement]], restarts: frozenset[int] = frozenset()) -> tuple[Any, Any, Fake]:
    """Texts that go on, by hour, reports, and what Flink has in the end."""
    fake, texts, reports = Fake(), {}, []
    operator = opened(fake)
    for hour in range(1, LAST + 1):
        Topic.said |= frozenset(announced.get(hour, []))
        if hour in restarts:
            operator.close()
            operator = opened(fake)
        for made in operator.process_element((7, START + hour * HOUR, *packed(hour)), fake):
            if isinstance(made, tuple):
                assert made[0] is REPORTS
                reports.append(orjson.loads(made[1]))
            else:
                texts[hour] = made
    return texts, reports, fake


def test_each_hours_text_is_by_the_model_of_its_time_and_shadows_stay_behind(version: Version) -> None:
    said = Announcement(2, START + SWAP * HOUR, version.version, version.sha256, CHAMPION, version.uri)
    beside = Announcement(1, START + SECOND * HOUR, version.version, version.sha256, CHALLENGER, version.uri)
    texts, reports, fake = run({180: [said, beside]})
    assert set(texts) == set(range(168, LAST + 1))
    for hour, made in texts.items():
        sent = list(forecast_messages.read([forecast_messages.sent(made)]))
        (issue,) = sent
        assert (issue.meter_id, issue.role) == (list(NAMES), "")
        assert issue.issued_at_ms.tolist() == [START + hour * HOUR] * 2
        assert issue.model_id == ("test-2.0-0.3" if hour >= SWAP else "test-1.0-0.3")
        roles = {each.role: each.model_id for each in forecast_messages.read([made])}
        shadows = {key: value for key, value in roles.items() if key}
        if hour < SECOND:
            assert shadows == {}
        elif hour < SWAP:
            assert shadows == {"challenger": "test-2.0-0.3"}
        else:
            assert shadows == {"previous": "test-1.0-0.3"}
    assert [report["issued"] for report in reports] == [START + hour * HOUR for hour in (168, 192)]
    assert {report["shard"] for report in reports} == {7}
    assert fake.counters[("model_announcements_late",)].count == 0
    assert fake.gauges[("models_refused",)]() == 0


def test_restarts_change_neither_texts_nor_reports_nor_state(version: Version) -> None:
    said = Announcement(2, START + SWAP * HOUR, version.version, version.sha256, CHAMPION, version.uri)
    texts, reports, fake = run({180: [said]})
    Topic.said = frozenset()
    again = run({180: [said]}, frozenset(range(165, LAST, 3)))
    assert again[0] == texts
    assert again[1] == reports
    held, there = fake.states, again[2].states
    assert held["serving"].held == there["serving"].held
    assert held["open-days"] == there["open-days"]
    assert len(held["open-days"]) == 1, "days that are over are gone"


def test_state_of_a_job_without_models_goes_on(version: Version) -> None:
    texts, _, fake = run({})
    operator = opened(fake)
    for name in ("serving", "open-days"):
        fake.states.pop(name)
    operator = opened(fake)
    late = Announcement(1, START, version.version, version.sha256, CHAMPION, version.uri)
    Topic.said = frozenset([late])
    end = START + LAST * HOUR
    assert list(operator.process_element((7, end, *packed(LAST)), fake)) == [], "it was issued before"
    assert operator._servers[7].pinned.since == {late: end + 1}
    assert fake.counters[("model_announcements_late",)].count == 1
    assert texts
