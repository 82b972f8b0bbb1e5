"""Late readings and the topic `meters` in the real forecast job: what it sees is what the set of readings says."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any
from urllib.request import urlopen

import numpy as np
import orjson
import pytest
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from prometheus_client.parser import text_string_to_metric_families

from infra.embedded.stack import Stack
from jobs.flink_rest import ENDED, FlinkRest
from jobs.submission import submit
from operators.forecaster import Forecaster
from operators.meters_topic import MetersTopic
from tests.pipeline import Deployment

HOUR = 3_600_000
START = 1_704_067_200_000
WITHIN_S = 240
HOURS = 200
RNG = np.random.default_rng(11)
USED = np.round(RNG.gamma(2.0, 3.0, HOURS), 3)
LATE = range(120, 126)
"""Hours that come a day after they were due."""
SPIKE = 150


def until(condition: Callable[[], Any], what: str) -> Any:
    """The condition's value, once it is true."""
    deadline = time.monotonic() + WITHIN_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {WITHIN_S} s"
        time.sleep(0.5)
    return found


def tell(deployment: Deployment, meter: str, **config: Any) -> None:
    """One message on the topic `meters`."""
    producer = KafkaProducer(bootstrap_servers=deployment.where.kafka, acks="all")
    producer.send(deployment.prefix + "meters", orjson.dumps({"meter_id": meter, **config}), meter.encode())
    producer.flush()
    producer.close()


def reading(meter: str, hour: int, **fields: Any) -> tuple[bytes, bytes]:
    """A record of the hour that ends `hour` hours after START."""
    body = {"meter_id": meter, "unit": "kWh", "ts": START + hour * HOUR, **fields}
    return meter.encode(), orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def stream(prefix: str, hours: range) -> list[tuple[bytes, bytes]]:
    """Hourly readings of a counter that rolls over, of one whose spike is absurd, and of one that is late for hours."""
    total = np.concatenate([[0.0], np.cumsum(USED)]) + 900
    records = []
    for hour in hours:
        records.append(reading(f"{prefix}roll", hour, kind="register", value=round(total[hour] % 1000, 6)))
        spike = 1e5 if hour == SPIKE else USED[hour - 1]
        records.append(reading(f"{prefix}spike", hour, kind="interval", interval_s=3600, value=spike))
        due = [] if hour in LATE else [hour]
        if hour == LATE[-1] + 24:
            due += LATE
        records += [
            reading(f"{prefix}late", each, kind="interval", interval_s=3600, value=USED[each - 1]) for each in due
        ]
    return records


def medians(kwh: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Of a stored forecast: what calibration leaves as the model gave it."""
    return kwh.reshape(9, -1)[4]


def late_counts(stack: Stack) -> dict[str, float]:
    """The late-data metrics of the running job, by bucket; all of them under ''."""
    listed = json.loads((stack.options.data_dir / "prometheus-targets.json").read_text())
    (address,) = [t["targets"][0] for t in listed if t["labels"]["process"] == "taskmanager"]
    with urlopen(f"http://{address}/metrics", timeout=30) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    found: dict[str, float] = {}
    for family in families:
        for sample in family.samples:
            if "late_readings" in sample.name:
                key = sample.labels.get("le", "")
                found[key] = found.get(key, 0.0) + sample.value
    return found


def test_late_readings_and_configuration_reach_the_forecasts(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = "lateconf-"
    deployment = Deployment.on(stack, prefix, 1)
    admin = KafkaAdminClient(bootstrap_servers=deployment.where.kafka)
    admin.create_topics([NewTopic(prefix + "meters", 2, 1)])
    admin.close()
    tell(deployment, f"{prefix}roll", register_max=1000, tz="Europe/Berlin")
    flink = FlinkRest(deployment.where.flink_url)
    ids = submit(deployment.settings, deployment.where, ("forecast",), deployment.options)
    try:
        deployment.produce(stream(prefix, range(190)))
        issues = lambda: deployment.issues(prefix)  # noqa: E731
        until(lambda: any(meter == f"{prefix}late" for meter, _ in issues()), "first forecasts")
        # Told while the job runs: it counts for the spike of long ago.
        tell(deployment, f"{prefix}spike", max_kw=200)
        last = START + (HOURS - 1) * HOUR
        spike_free = lambda: issues().get((f"{prefix}spike", last))  # noqa: E731
        for hour in range(190, HOURS + 1):
            deployment.produce(stream(prefix, range(hour, hour + 1)))
            until(lambda hour=hour: (f"{prefix}late", START + (hour - 1) * HOUR) in issues(), f"hour {hour - 1}")
        until(lambda: spike_free() is not None, "the last forecast")
        counts = until(lambda: late_counts(stack), "late-data metrics")
        found = issues()
    finally:
        for job_id in ids.values():
            if flink.state(job_id) not in ENDED:
                flink.cancel(job_id)

    forecaster = Forecaster.load()
    history = USED[HOURS - 1 - 168 : HOURS - 1]
    spiked = history.copy()
    spiked[SPIKE - 1 - (HOURS - 1 - 168)] = np.nan
    wanted = {"late": (history, "UTC"), "roll": (history, "Europe/Berlin"), "spike": (spiked, "UTC")}
    for name, (kwh, zone) in wanted.items():
        plain = forecaster.predict(kwh[None], last, 3600, zones=zone)[0]
        np.testing.assert_allclose(medians(found[prefix + name, last]), plain[4], rtol=1e-5, atol=1e-5, err_msg=name)
    assert counts[""] == len(LATE)
    assert counts["3600"] == 0
    assert counts["259200"] == len(LATE), "between one day and three"


def test_a_partition_that_was_silent_loses_nothing(stack: Stack) -> None:
    """The others' event time goes on without it; what it sends when it is back is in the next forecasts' history."""
    prefix = "silent-"
    deployment = Deployment.on(stack, prefix, 2)
    producer = KafkaProducer(bootstrap_servers=deployment.where.kafka, acks="all")

    def send(partition: int, meter: str, hours: range) -> None:
        for hour in hours:
            key, value = reading(prefix + meter, hour, kind="interval", interval_s=3600, value=USED[hour - 1])
            producer.send(prefix + "meter.readings", value, key, partition=partition)
        producer.flush()

    flink = FlinkRest(deployment.where.flink_url)
    options = [*deployment.options, "--idle-timeout-s", "2"]
    ids = submit(deployment.settings, deployment.where, ("forecast",), options)
    issued = lambda: deployment.issues(prefix)  # noqa: E731
    try:
        for partition, meter in enumerate(("going", "silent")):
            send(partition, meter, range(1, 176))
        send(0, "going", range(176, 196))
        until(lambda: (f"{prefix}going", START + 194 * HOUR) in issued(), "event time without the silent partition")
        send(1, "silent", range(176, 198))
        send(0, "going", range(196, 199))
        until(lambda: (f"{prefix}silent", START + 196 * HOUR) in issued(), "a forecast of the meter that is back")
        found = issued()
    finally:
        producer.close()
        for job_id in ids.values():
            if flink.state(job_id) not in ENDED:
                flink.cancel(job_id)
    plain = Forecaster.load().predict(USED[196 - 168 : 196][None], START + 196 * HOUR, 3600)[0]
    at = (f"{prefix}silent", START + 196 * HOUR)
    np.testing.assert_allclose(medians(found[at]), plain[4], rtol=1e-5, atol=1e-5)


def test_the_topic_is_followed(stack: Stack) -> None:
    prefix = "follow-"
    deployment = Deployment.on(stack, prefix, 1)
    assert MetersTopic(deployment.where.kafka, prefix + "meters").configs == {}, "a topic that is not there"
    admin = KafkaAdminClient(bootstrap_servers=deployment.where.kafka)
    admin.create_topics([NewTopic(prefix + "meters", 3, 1)])
    admin.close()
    for n in range(20):
        tell(deployment, f"m{n}", max_kw=n + 1)
    topic = MetersTopic(deployment.where.kafka, prefix + "meters")
    try:
        assert {meter: config.max_kw for meter, config in topic.configs.items()} == {f"m{n}": n + 1 for n in range(20)}
        assert not topic.look()
        tell(deployment, "m3", register_max=5)
        until(topic.look, "news")
        assert topic.configs["m3"].register_max == 5.0
    finally:
        topic.close()
