"""From a reading to an alert, and back when a later reading says otherwise: the real jobs `detect` and `alerts`."""

from __future__ import annotations

import os
import signal

import numpy as np
import orjson
import pytest

from infra.embedded.stack import Stack
from jobs.flink_rest import ENDED, FlinkRest
from jobs.submission import submit
from tests.alert_stack import deployed, put, until
from tests.pipeline import Deployment

HOUR = 3_600_000
START = 1_704_067_200_000
AT = 168 + 72
"""Hour of the first spike; an outage begins two hours, another spike 20 hours later."""
SPIKE, MISSING, OTHER = ("detect-0", "MeterSpike"), ("detect-1", "MeterMissing"), ("detect-2", "MeterSpike")
SHAPE = np.random.default_rng(6)
USED = 20 + 10 * np.sin(2 * np.pi * np.arange(AT + 48) / 24) + SHAPE.normal(0, 0.2, (4, AT + 48))


def reading(meter: int, hour: int, kwh: float, revision: int = 0) -> tuple[bytes, bytes]:
    """The energy of one hour."""
    name = f"detect-{meter}"
    body = {
        "meter_id": name, "kind": "interval", "interval_s": 3600, "value": round(float(kwh), 4), "unit": "kWh",
        "ts": START + (hour + 1) * HOUR, "revision": revision,
    }  # fmt: skip
    return name.encode(), orjson.dumps(body)


def anomalies(deployment: Deployment) -> set[tuple[str, str]]:
    """(meter, kind) of the table."""
    return set(deployment.rows("SELECT meter_id, kind FROM anomaly WHERE starts_with(meter_id, 'detect-')"))


def alerts(deployment: Deployment) -> dict[tuple[str, str], str]:
    """(meter, alert) → status of the table."""
    found = deployment.rows(
        "SELECT labels ->> 'meter', labels ->> 'alertname', status FROM alert "
        "WHERE starts_with(labels ->> 'meter', 'detect-')"
    )
    return {(meter, name): status for meter, name, status in found}


@pytest.mark.parametrize("killed", [False, pytest.param(True, marks=pytest.mark.long)])
def test_what_is_odd_fires_and_is_taken_back_when_a_later_reading_explains_it(stack: Stack, killed: bool) -> None:
    deployment = deployed(stack, f"detect-{killed}-")
    deployment.rows("DELETE FROM anomaly WHERE starts_with(meter_id, 'detect-') RETURNING 1")
    deployment.rows("DELETE FROM alert WHERE starts_with(labels ->> 'meter', 'detect-') RETURNING 1")
    flink = FlinkRest(deployment.where.flink_url)
    used = USED.copy()
    used[0, AT] += 60
    used[2, AT + 20] += 60
    silent = {(1, AT + 2 + hour) for hour in range(12)}
    deployment.produce(
        reading(meter, hour, used[meter, hour])
        for hour in range(AT + 24)
        for meter in range(4)
        if (meter, hour) not in silent
    )
    options = [*deployment.options, "--idle-timeout-s", "5"]
    jobs = submit(deployment.settings, deployment.where, ["detect", "alerts"], options)
    try:
        until(
            lambda: alerts(deployment) == dict.fromkeys((SPIKE, MISSING, OTHER), "resolved"),
            lambda: (alerts(deployment), anomalies(deployment), [flink.cause(job) for job in jobs.values()]),
        )
        assert anomalies(deployment) == {("detect-0", "spike"), ("detect-1", "missing"), ("detect-2", "spike")}
        if killed:
            os.kill(stack.status()["parts"]["taskmanager"]["pid"], signal.SIGKILL)
        # It was a wrong reading, and is corrected hours later.
        deployment.produce([reading(0, AT, USED[0, AT], revision=1)])
        deployment.produce(reading(meter, AT + 24, used[meter, AT + 24]) for meter in range(4))
        until(
            lambda: alerts(deployment) == dict.fromkeys((MISSING, OTHER), "resolved"),
            lambda: (alerts(deployment), anomalies(deployment), [flink.cause(job) for job in jobs.values()]),
        )
        assert anomalies(deployment) == {("detect-1", "missing"), ("detect-2", "spike")}
    finally:
        for job in jobs.values():
            flink.cancel(job)
        until(lambda: all(flink.state(job) in ENDED for job in jobs.values()), lambda: jobs)
    said = deployment.consume("anomalies")
    of_spike = [m["status"] for m in said if m["meter_id"] == "detect-0"]
    # At least once: after a failure the same is said again.
    assert (list(dict.fromkeys(of_spike)) if killed else of_spike) == ["open", "closed", "retracted"]
    spike, *_ = [m for m in said if (m["meter_id"], m["status"]) == ("detect-0", "closed")]
    assert spike["observed_kwh"] == round(float(used[0, AT]), 4)
    assert spike["lower_kwh"] < spike["expected_kwh"] < spike["upper_kwh"] < spike["observed_kwh"]
    assert 0 <= spike["score"] < 0.001
    assert spike["model_id"]
    assert len({m["anomaly_id"] for m in said if m["meter_id"] == "detect-1"}) == 1


def test_one_reading_beyond_all_limits_fires_at_once_and_is_one_alert_with_its_step(stack: Stack) -> None:
    deployment = deployed(stack, "detect-raw-")
    deployment.rows("DELETE FROM anomaly WHERE starts_with(meter_id, 'detect-') RETURNING 1")
    deployment.rows("DELETE FROM alert WHERE starts_with(labels ->> 'meter', 'detect-') RETURNING 1")
    flink = FlinkRest(deployment.where.flink_url)
    put(deployment, "meters", [("detect-6", {"meter_id": "detect-6", "site_id": "default", "max_kw": 40})])
    deployment.produce(reading(5, hour, USED[0, hour]) for hour in range(AT))
    options = [*deployment.options, "--idle-timeout-s", "5"]
    jobs = submit(deployment.settings, deployment.where, ["detect", "alerts"], options)

    def state() -> object:
        return alerts(deployment), anomalies(deployment), [flink.cause(job) for job in jobs.values()]

    def power(kw: float, revision: int, hours: int = 0) -> tuple[bytes, bytes]:
        at = START + (AT + hours) * HOUR + 300_000
        body = {"meter_id": "detect-6", "kind": "instant", "value": kw, "unit": "kW", "ts": at, "revision": revision}
        return b"detect-6", orjson.dumps(body)

    never, impossible = ("detect-5", "MeterSpike"), ("detect-6", "MeterSpike")
    try:
        deployment.produce([power(500, 0), reading(5, AT, 150)])
        until(lambda: alerts(deployment) == dict.fromkeys((never, impossible), "firing"), state)
        # The newest reading ends that hour, which is not over before there is a later one.
        assert deployment.rows("SELECT 1 FROM anomaly WHERE meter_id = 'detect-5' AND model_id IS NOT NULL") == []
        deployment.produce([power(5, 1)])
        until(lambda: alerts(deployment) == {never: "firing"}, state)
        # Its hour closes: the forecast says so, too.
        hours = range(1, 4)
        deployment.produce(each for h in hours for each in (reading(5, AT + h, USED[0, AT + h]), power(5, 0, h + 1)))
        until(
            lambda: deployment.rows("SELECT 1 FROM anomaly WHERE meter_id = 'detect-5' AND model_id IS NOT NULL"),
            state,
        )
        until(lambda: alerts(deployment) == {never: "resolved"}, state)
    finally:
        for job in jobs.values():
            flink.cancel(job)
        until(lambda: all(flink.state(job) in ENDED for job in jobs.values()), lambda: jobs)
    kinds = [
        m["notify"]["kind"] for m in deployment.consume("alerts") if m["notify"] and m["labels"]["meter"] == never[0]
    ]
    assert kinds == ["firing", "resolved"]
    said = [m for m in deployment.consume("alerts") if m["labels"]["meter"] == impossible[0]]
    assert "500 kW, at most 40 kW are possible" in said[0]["annotations"]["summary"]
    assert [m["notify"]["kind"] for m in said if m["notify"]] == ["firing", "resolved"]
