"""The watch's wrapper with a small fake of Flink: reports wait for their hour, state is what a restart needs."""

from __future__ import annotations

import orjson

from operators.serving.plan import read
from operators.serving.watch import HOUR_MS, Policy
from operators.serving.watch_function import ModelWatch
from tests.unit.flink_fakes import Fake
from tests.unit.test_serving_watch import NEW, OLD, report


def opened(fake: Fake) -> ModelWatch:
    watch = ModelWatch(Policy("forecaster", 0.1, 20))
    watch.open(fake)
    return watch


def test_a_rollback_is_told_once_with_its_message_across_a_restart() -> None:
    fake = Fake()
    watch = opened(fake)
    told = []
    for hour in range(8):
        for shard in range(2):
            row = report(hour, 1.5, 1.0, shard=shard)
            watch.process_element(orjson.dumps(row).decode(), fake)
        assert len(fake.states["waiting"]) == 2
        (at,) = fake.timers
        assert at == row["at"]
        if hour == 1:
            watch = opened(fake)  # before the reports that wait were looked at
        told += [orjson.loads(text) for text in watch.on_timer(at, fake)]
        assert len(fake.states["waiting"]) == 0
        assert list(watch.on_timer(at, fake)) == [], "nothing waits any more"
        fake.timers.clear()
    assert len(told) == 8
    (one,) = [each for each in told if each["message"]]
    assert one is told[1], "twenty meter-days"
    name, plan = read(one["message"].encode(), 0)
    assert name == one["model_name"] == "forecaster"
    assert plan >= {OLD, NEW}
    (back,) = plan - {OLD, NEW}
    assert back.fields() == one["announcements"][0]
    assert sum(row["days"] for each in told for row in each["errors"] if row["role"] == "champion") == 80


def test_figures_are_gauges_in_thousandths() -> None:
    fake = Fake()
    watch = opened(fake)
    assert fake.gauges["champion", "model_nrmse_permille"]() == -1
    row = report(0, 1.5, 1.0)
    watch.process_element(orjson.dumps(row).decode(), fake)
    list(watch.on_timer(row["at"] + HOUR_MS, fake))
    assert fake.gauges["champion", "model_loss_permille"]() == 1500
    assert fake.gauges["previous", "model_coverage_permille"]() == 800
    assert fake.gauges["challenger", "model_loss_permille"]() == -1
    assert fake.gauges["peak", "model_psi_permille"]() == 0
