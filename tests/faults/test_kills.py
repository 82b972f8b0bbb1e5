"""Kill -9 of the TaskManager, the broker and the database in mid-replay: the same rows as an undisturbed run."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import psycopg2

from infra.embedded.stack import Stack
from jobs.flink_rest import ENDED, FlinkRest
from jobs.replay.producer import send
from jobs.submission import submit
from operators.energy import SeriesConfig, derive
from operators.readings import Kind
from tests.pipeline import UNIT_KWH, Deployment, meters, plain_python

PREFIX = "kill-"
DAYS = 8
REPLAY_S = 75
VICTIMS = ("taskmanager", "kafka", "timescaledb")
WITHIN_S = 420


def until(condition: Callable[[], Any], what: str, within_s: float = WITHIN_S) -> Any:
    """The condition's value, once it is true."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {within_s} s"
        threading.Event().wait(1.0)
    return found


def test_killed_parts_change_no_row(stack: Stack) -> None:
    deployment = Deployment.on(stack, PREFIX)
    fleet = meters(PREFIX, 8, DAYS, seed=5)
    batch = fleet.readings
    flink = FlinkRest(deployment.where.flink_url)
    ids = submit(deployment.settings, deployment.where, ("ingest", "forecast"), deployment.options)
    span_s = (int(batch.deliver_ms[-1]) - int(batch.deliver_ms[0])) / 1000
    readings = lambda: _count(deployment, "reading")  # noqa: E731
    try:
        with ThreadPoolExecutor(1) as pool:
            replay = pool.submit(send, [batch], deployment.where.kafka, PREFIX + "meter.readings", span_s / REPLAY_S)
            for place, victim in enumerate(VICTIMS, 1):
                share = place * len(batch) // (len(VICTIMS) + 1)
                until(lambda share=share: readings() >= share or replay.done(), f"{share} readings before {victim}")
                _kill(stack, victim)
            assert replay.result(WITHIN_S).readings == len(batch)
        until(lambda: readings() == len(batch), "all readings")
        expected = plain_python(batch, until_ms=int(batch.ts_ms.max()))
        until(lambda: _count(deployment, "forecast_issue") >= len(expected), "all forecasts")
    finally:
        for job_id in ids.values():
            if flink.state(job_id) not in ENDED:
                flink.savepoint(job_id, stop=True)  # commits the last transaction

    stored = deployment.issues(PREFIX)
    assert stored.keys() == expected.keys()
    worst = max(float(np.abs(stored[k] - expected[k]).max() / max(1e-9, np.abs(expected[k]).max())) for k in expected)
    assert worst <= 1e-6
    assert _energy(deployment) == _expected_energy(fleet.readings)
    sent = [(m["meter_id"], m["issued_at"]) for m in deployment.consume("forecasts")]
    assert len(sent) == len(set(sent)) == len(expected)


def _count(deployment: Deployment, table: str) -> int:
    try:
        return int(deployment.rows(f"SELECT count(*) FROM {table} WHERE starts_with(meter_id, %s)", (PREFIX,))[0][0])
    except psycopg2.Error as error:  # the database is one of those that are killed
        print(f"no count: {error}")
        return -1


def _kill(stack: Stack, part: str) -> None:
    """Kills one part, and waits until it is another process and up."""
    before = stack.status()["parts"][part]
    os.kill(before["pid"], signal.SIGKILL)

    def back() -> bool:
        now = stack.status()["parts"][part]
        return bool(now["pid"] != before["pid"] and now["state"] == "up")

    until(back, f"{part} back")


def _energy(deployment: Deployment) -> dict[tuple[str, int], float]:
    found = deployment.rows(
        "SELECT meter_id, (extract(epoch FROM bucket) * 1000)::bigint, kwh FROM energy_15m"
        " WHERE starts_with(meter_id, %s)",
        (PREFIX,),
    )
    return {(meter, int(bucket)): round(kwh, 9) for meter, bucket, kwh in found}


def _expected_energy(batch: Any) -> dict[tuple[str, int], float]:
    names = sorted(
        {(str(m), str(r), int(k)) for m, r, k in zip(batch.meter_id, batch.register, batch.kind, strict=True)}
    )
    number = {name: i for i, name in enumerate(names)}
    rows = zip(batch.meter_id, batch.register, batch.kind, strict=True)
    series = np.array([number[str(m), str(r), int(k)] for m, r, k in rows])
    value = batch.value * np.array([UNIT_KWH[unit] for unit in batch.unit])
    length = np.where(batch.kind == Kind.INTERVAL, batch.interval_s * 1000, 0)
    config = SeriesConfig.of_kinds(np.array([kind for _, _, kind in names], np.int8))
    slots = derive(series, batch.ts_ms, value, length, batch.quality, config=config).slots
    energy: dict[tuple[str, int], float] = {}
    for i, slot, kwh in zip(slots.series.tolist(), slots.slot_ms.tolist(), slots.kwh.tolist(), strict=True):
        meter, register, _ = names[i]
        sign = -1 if register.startswith("1-0:2.") else 1
        energy[meter, slot] = energy.get((meter, slot), 0.0) + sign * kwh
    return {key: round(kwh, 9) for key, kwh in energy.items()}
