"""Seeded schedules of faults on the main job: after each, the rows of an undisturbed run, and each message once.

`ENERGYAI_FAULT_SCHEDULES=20` runs the seeds 1 to 20, `ENERGYAI_FAULT_SEEDS=7,9` just these.
"""

from __future__ import annotations

import base64
import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg2
import pytest

from infra.embedded.stack import Stack
from jobs.submission import submit
from operators.sinks import readable
from tests.faults.chaos import Chaos, until
from tests.faults.schedule import Schedule, schedule
from tests.faults.traffic import Producer, Traffic, slices, traffic
from tests.pipeline import Deployment, Key, apart, energy_truth, plain_python, reading_truth

REPLAY_S = 40.0
SLICES = 200
BEAT_S = 10.0
"""How often the closing records come again while rows are waited for."""
ALL_WITHIN_S = 600.0
TIMEOUT_S = 1800
"""Of one schedule, on a machine that is shared with much else; a quiet one takes about a minute."""
OPTIONS = ["--idle-timeout-s", "3600"]  # what a pause decides is no function of the records (docs/decisions/010)


def seeds() -> list[int]:
    """Which schedules to run."""
    named = os.environ.get("ENERGYAI_FAULT_SEEDS")
    if named:
        return [int(seed) for seed in named.split(",")]
    return list(range(1, int(os.environ.get("ENERGYAI_FAULT_SCHEDULES", "1")) + 1))


@dataclass(frozen=True)
class Rows:
    """What a run leaves: sets of rows, and the messages that a read_committed consumer gets."""

    reading: dict[Any, Any]
    energy: dict[Key, float]
    forecast: dict[Key, Any]
    rejected: Counter[tuple[str, str]]
    letters: Counter[tuple[str, str]]
    sent: Counter[tuple[str, int]]


@pytest.fixture(scope="module")
def say(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Writes a line of the table, at once and past pytest's capture: all the schedules take half an hour."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def write(line: str) -> None:
        with capture.global_and_fixture_disabled():
            print(line, flush=True)

    write(f"\n{'seed':>4} {'seconds':>7} {'readings':>8} {'energy':>6} {'forecasts':>9} {'rejected':>8} equal  faults")
    return write


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("seed", seeds())
def test_rows_are_those_of_an_undisturbed_run(stack: Stack, seed: int, say: Callable[[str], None]) -> None:
    plan = schedule(seed)
    print(f"ENERGYAI_FAULT_SEEDS={seed} make faults  # {plan}")
    begun = time.monotonic()
    prefix = f"fault-{seed}-"
    load = traffic(plan, prefix)
    expected = _expected(load, prefix)
    found = None
    try:
        found = _run(stack, plan, load, expected, prefix)
    finally:
        counts = [len(expected.reading), len(expected.energy), len(expected.forecast), expected.rejected.total()]
        columns = (f"{n:>{width}}" for n, width in zip(counts, (8, 6, 9, 8), strict=True))
        faults = "; ".join(str(fault) for fault in plan.faults)
        equal = "yes" if found is not None and _same(found, expected) else "NO"
        say(f"{seed:>4} {time.monotonic() - begun:>7.0f} {' '.join(columns)} {equal:<5}  {faults}")
    assert found.reading == expected.reading, plan
    assert found.energy == expected.energy, plan
    assert found.forecast.keys() == expected.forecast.keys(), plan
    for key, kwh in expected.forecast.items():
        assert apart(found.forecast[key], kwh) <= 1e-6, f"{key} {plan}"
    assert found.rejected == found.letters == expected.rejected, plan
    assert found.sent == Counter(expected.forecast.keys()), plan


def _run(stack: Stack, plan: Schedule, load: Traffic, expected: Rows, prefix: str) -> Rows:
    deployment = Deployment.on(stack, prefix, partitions=4)
    options = [*deployment.options, *OPTIONS, "--parallelism", str(plan.parallelism)]
    ids = submit(deployment.settings, deployment.where, ("ingest", "forecast"), options)
    chaos = Chaos(stack, deployment, ids, OPTIONS)
    producer = Producer(deployment.where.kafka, deployment.prefix + "meter.readings")
    try:
        _replay(chaos, plan, load, producer)
        _wait(chaos, deployment, expected, lambda: producer.send(load.closing))
        producer.close()
        for job in ("ingest", "forecast"):
            chaos.stop(job)  # commits the last transaction
    finally:
        chaos.end()
    return _found(deployment, prefix)


def _replay(chaos: Chaos, plan: Schedule, load: Traffic, producer: Producer) -> None:
    """Sends the records, and does each fault when its share of them is on its way."""
    producer.send(load.context)
    sent = 0
    faults = list(plan.faults)
    running = []
    pool = ThreadPoolExecutor(1)  # one after another, without waiting until the stack is well again
    began = time.monotonic()
    try:
        for number, part in enumerate(slices(load.records, SLICES)):
            time.sleep(max(0.0, began + number * REPLAY_S / SLICES - time.monotonic()))
            producer.send(part)
            sent += len(part)
            while faults and sent >= faults[0].at * len(load.records):
                running.append(pool.submit(chaos.run, faults.pop(0)))
        for fault in running:
            fault.result()
    except BaseException:
        chaos.abandon()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    producer.flush()


def _wait(chaos: Chaos, deployment: Deployment, expected: Rows, beat: Callable[[], None]) -> None:
    """Until all readings, forecasts and rejected records are in the database.

    Meters go on sending meanwhile, as they do: a watermark is no part of Flink's state, so that after a restart open
    windows wait for the next record in each partition.
    """
    wanted = (len(expected.reading), len(expected.forecast), expected.rejected.total())
    seen: list[int] = []
    next_beat = 0.0

    def all_there() -> bool:
        nonlocal next_beat
        chaos.states()  # a job that has ended is the answer
        if time.monotonic() >= next_beat:
            next_beat = time.monotonic() + BEAT_S
            beat()
        try:
            counts = deployment.rows(
                "SELECT (SELECT count(*) FROM reading WHERE starts_with(meter_id, %(prefix)s)),"
                " (SELECT count(*) FROM forecast_issue WHERE starts_with(meter_id, %(prefix)s)),"
                " (SELECT count(*) FROM rejected_reading WHERE starts_with(topic, %(prefix)s))",
                {"prefix": deployment.prefix},
            )
        except psycopg2.Error as error:
            print(f"no count: {error}")
            return False
        seen[:] = counts[0]
        return all(have >= want for have, want in zip(seen, wanted, strict=True))

    until(all_there, lambda: f"rows {seen} of {wanted}; jobs {chaos.states()}", ALL_WITHIN_S)


def _expected(load: Traffic, prefix: str) -> Rows:
    forecasts = plain_python(load.readings, until_ms=2**62)
    rejected = Counter((code, _stored(value)) for code, value in load.rejected)
    return Rows(
        reading_truth(load.readings),
        energy_truth(load.readings),
        forecasts,
        rejected,
        Counter((code, readable(value)) for code, value in load.rejected),
        Counter(forecasts.keys()),
    )


def _stored(value: bytes) -> str:
    """A record as text of the database, which holds no NUL."""
    text = readable(value)
    return base64.b64encode(value).decode() if "\0" in text else text


def _found(deployment: Deployment, prefix: str) -> Rows:
    rejected = deployment.rows("SELECT reason, raw FROM rejected_reading WHERE starts_with(topic, %s)", (prefix,))
    letters = deployment.consume("meter.readings.rejected")
    sent = deployment.consume("forecasts")
    return Rows(
        deployment.readings(prefix),
        deployment.energy(prefix),
        deployment.issues(prefix),
        Counter((reason, raw) for reason, raw in rejected),
        Counter((letter["reason"], letter["raw"]) for letter in letters),
        Counter((m["meter_id"], _ms(m["issued_at"])) for m in sent),
    )


def _ms(iso: str) -> int:
    return int(np.datetime64(iso.rstrip("Z"), "ms").astype(np.int64))


def _same(found: Rows, expected: Rows) -> bool:
    return (
        (found.reading, found.energy, found.rejected, found.letters, found.sent)
        == (expected.reading, expected.energy, expected.rejected, expected.letters, expected.sent)
        and found.forecast.keys() == expected.forecast.keys()
        and all(apart(found.forecast[key], kwh) <= 1e-6 for key, kwh in expected.forecast.items())
    )
