"""Models announced to the real forecast job: who scores which window, in shadow, and a bad one that is taken back."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from kafka import KafkaConsumer

from infra.embedded.stack import Stack
from jobs.flink_rest import ENDED, FlinkRest
from jobs.models import announce
from jobs.models.registry import Registry, Version
from jobs.submission import submit
from operators.serving import signing
from operators.serving.plan import CHALLENGER, CHAMPION, Announcement
from tests.faults.chaos import until
from tests.live_models import HOUR, START, STEADY, base_sha256, issued, metrics, records
from tests.pipeline import Deployment
from tests.unit.serving_support import KEY, PUBLIC, trained

PREFIX = "liveswap-"
NAME = "live"
"""Of the model: announcements of other tests are not its."""
METERS = [f"{PREFIX}{name}" for name in "abcdefgh"]
CONTEXT, SWAP, SECOND, THIRD, END = 172, 230, 270, 300, 420
"""Hours: readings before the job starts, the swap, the challenger, the bad champion, the last forecast."""
WITHIN_S = 240.0


@dataclass
class Live:
    """What the module's one job did."""

    deployment: Deployment
    versions: list[Version]
    base_sha256: str
    issues: dict[tuple[str, int], str]
    """(meter, hour of issue) → the model's checksum."""
    sent: list[dict[str, Any]]
    rollbacks: list[Announcement]
    metrics: dict[str, float]
    """Of the forecast job at the end."""
    failures: list[str]
    """Of both jobs."""


def said(version: Version, hour: int, alias: str = CHAMPION) -> Announcement:
    """An announcement whose time is an hour of the test."""
    return announce.of_version(version, alias, START + hour * HOUR, "a test")


def produce(deployment: Deployment, hours: range) -> None:
    """The readings, a few hours at a time."""
    for hour in hours[::2]:
        deployment.produce(records(METERS, range(hour, min(hour + 2, hours.stop))))


@pytest.fixture(scope="module")
def live(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """One job of two subtasks that lives through a swap under load, a challenger, and a bad champion."""
    folder = tmp_path_factory.mktemp("models")
    registry = Registry(folder / "registry", PUBLIC)
    good, better, bad = (registry.register(trained(folder / f"{f}", f), KEY, NAME) for f in (1.01, 1.02, 3.0))
    base, stranger = trained(folder / "base", 1.0), signing.new_key()
    deployment = Deployment.on(stack, PREFIX)
    deployment.produce(records(METERS, range(1, CONTEXT)))
    options = [*STEADY, "--model", str(base), "--model-keys", PUBLIC[0], "--model-name", NAME]
    options += ["--rollback-windows", "24"]
    ids = submit(deployment.settings, deployment.where, ("ingest", "forecast"), [*deployment.options, *options])
    flink = FlinkRest(deployment.where.flink_url)
    where = deployment.where

    def rollbacks() -> list[Announcement]:
        return [e for e in announce.stored(where.database_url, NAME) if e.reason.startswith("rollback")]

    try:
        until(lambda: issued(deployment), "first forecasts", WITHIN_S)
        # Under load: the readings of three days go on while the swap is announced.
        sender = threading.Thread(target=produce, args=(deployment, range(CONTEXT, SWAP - 20)))
        sender.start()
        announce.announce(where, NAME, said(good, SWAP), PREFIX)
        # Again, and nonsense: nothing changes.
        announce.send(where, NAME, PREFIX)
        sender.join()
        deployment.produce(records(METERS, range(SWAP - 20, SECOND - 20)))
        announce.announce(where, NAME, said(better, SECOND, CHALLENGER), PREFIX)
        forged = Announcement(0, START + SECOND * HOUR, 9, bad.sha256, CHAMPION, bad.uri)
        announce.announce(where, NAME, forged, PREFIX)
        strangers = Registry(folder / "strangers", (signing.public_of(stranger),))
        foreign = strangers.register(trained(folder / "foreign", 2.0), stranger, NAME)
        announce.announce(where, NAME, said(foreign, SECOND), PREFIX)
        deployment.produce(records(METERS, range(SECOND - 20, THIRD - 20)))
        announce.announce(where, NAME, said(bad, THIRD), PREFIX)
        hour = THIRD - 20
        while hour < END and not rollbacks():
            deployment.produce(records(METERS, range(hour, hour + 6)))
            hour += 6
            until(
                lambda hour=hour: (METERS[0], hour - 2) in issued(deployment), f"forecasts up to hour {hour}", WITHIN_S
            )
        deployment.produce(records(METERS, range(hour, END + 2)))
        until(lambda: all((meter, END) in issued(deployment) for meter in METERS), "the last forecasts", WITHIN_S)
        sent = until(
            lambda: (m := deployment.consume("forecasts")) and len(m) == len(issued(deployment)) and m,
            "messages",
            WITHIN_S,
        )
        seen = metrics(stack, ids["forecast"])
        failures = [
            str(entry["exceptionName"])
            for job in ids.values()
            for entry in flink.call(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]
        ]
        versions, found = [good, better, bad], issued(deployment)
        yield Live(deployment, versions, base_sha256(base), found, sent, rollbacks(), seen, failures)
    finally:
        for job_id in ids.values():
            if flink.state(job_id) not in ENDED:
                flink.cancel(job_id)


@pytest.mark.timeout(900)
def test_each_window_was_scored_once_by_the_model_of_its_time(live: Live) -> None:
    assert live.issues.keys() == {(meter, hour) for meter in METERS for hour in range(168, END + 1)}
    good, _, bad = live.versions
    (back,) = live.rollbacks
    end = (back.effective_ms - START) // HOUR
    for (meter, hour), sha in live.issues.items():
        if hour < SWAP:
            assert sha == live.base_sha256, (meter, hour)
        elif hour < THIRD:
            assert sha == good.sha256, (meter, hour)
        elif hour < end:
            assert sha == bad.sha256, (meter, hour)
    # Recorded readings come faster than any decision: a shard that is past the rollback's time goes back thereafter.
    for meter in METERS:
        after = [live.issues[meter, hour] for hour in range(end, END + 1)]
        late = after.count(bad.sha256)
        assert after == [bad.sha256] * late + [good.sha256] * (len(after) - late), meter
        assert late < 12, "hours of readings that were sent before the next look"
    stored = {(m["meter_id"], m["issued_at"]): m["model_sha256"] for m in live.sent}
    assert len(stored) == len(live.sent) == len(live.issues), "each forecast once on the topic"
    assert not any("role" in message for message in live.sent)


def test_the_bad_one_was_taken_back_by_the_job_itself(live: Live) -> None:
    good, _, bad = live.versions
    (back,) = live.rollbacks
    assert (back.version, back.sha256) == (good.version, good.sha256)
    assert f"version {bad.version} had" in back.reason
    assert back.effective_ms > START + (THIRD + 24) * HOUR
    assert live.issues[METERS[0], END] == good.sha256
    assert live.metrics["model_rollbacks"] == 1
    consumer = KafkaConsumer(
        PREFIX + "models", bootstrap_servers=live.deployment.where.kafka, auto_offset_reset="earliest",
        consumer_timeout_ms=3000, enable_auto_commit=False,
    )  # fmt: skip
    messages = [orjson.loads(message.value) for message in consumer]
    consumer.close()
    assert messages[-1]["reason"] == back.reason
    assert len(messages[-1]["plan"]) == 4, "what was announced before is in it, and not what was refused"


def test_what_was_refused_has_changed_nothing(live: Live) -> None:
    # A checksum that is not the signed version's, and a version that a stranger has signed.
    assert live.metrics["models_refused"] >= 2
    assert live.failures == [], "no artifact makes the job fail"


def test_others_were_scored_in_shadow_on_the_same_windows(live: Live) -> None:
    rows = live.deployment.rows(
        "SELECT role, model_sha256, (extract(epoch FROM issued_at) * 1000)::bigint FROM forecast_shadow"
        " WHERE starts_with(meter_id, %s)",
        (PREFIX,),
    )
    good, better, _ = live.versions
    hours: dict[tuple[str, str], set[int]] = {}
    for role, sha, at in rows:
        hours.setdefault((role, sha), set()).add((at - START) // HOUR)
    assert hours[CHALLENGER, better.sha256] == set(range(SECOND, END + 1))
    assert hours["previous", live.base_sha256] == set(range(SWAP, THIRD))
    assert min(hours["previous", good.sha256]) == THIRD
    accuracy = live.deployment.rows(
        "SELECT DISTINCT role FROM forecast_accuracy WHERE starts_with(meter_id, %s) ORDER BY 1", (PREFIX,)
    )
    assert accuracy == [("challenger",), ("champion",), ("previous",)]


def test_errors_of_all_days_are_in_the_database(live: Live) -> None:
    days = len(METERS) * len(range(168, END - 23, 24))
    shas = [live.base_sha256, *(version.sha256 for version in live.versions)]

    def found() -> dict[str, int]:
        sql = "SELECT role, sum(days) FROM model_error WHERE model_sha256 = ANY(%s) GROUP BY role"
        return dict(live.deployment.rows(sql, (shas,)))

    until(lambda: found().get("champion") == days, lambda: f"{days} meter-days, not {found()}", WITHIN_S)
    assert found().keys() == {"champion", "challenger", "previous"}
    assert live.deployment.rows("SELECT count(*) > 0 FROM model_drift") == [(True,)]
    live_rows = live.deployment.rows("SELECT role, nrmse, loss, bias, coverage_80 FROM model_live")
    assert all(value is not None for row in live_rows for value in row)
