"""The present jobs go on from an earlier version's savepoint: nothing read twice, nothing skipped, equal forecasts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from infra.embedded.stack import Stack
from jobs.submission import submit
from tests.faults.chaos import Chaos, until
from tests.faults.saved import FILE, PREFIX, Saved, to_batch
from tests.faults.traffic import PARTITIONS, Producer
from tests.pipeline import Deployment, apart, energy_truth, plain_python, reading_truth


@pytest.mark.long
@pytest.mark.skipif(not FILE.is_file(), reason="no savepoint yet: `python -m tests.faults.make_savepoint` writes it")
@pytest.mark.timeout(1800)
def test_the_jobs_go_on_from_an_earlier_versions_savepoint(stack: Stack, tmp_path: Path) -> None:
    saved = Saved.unpack(FILE, tmp_path)
    everything = to_batch(saved.records)
    issued = set(saved.issued)
    # That version had no calibration: what it had issued taught the bands nothing.
    expected = plain_python(everything, until_ms=2**62, before=issued)
    stored = set(saved.stored)
    new = np.array([key not in stored for key in reading_truth(everything)])
    rest = everything.take(new)

    deployment = Deployment.on(stack, PREFIX, PARTITIONS)
    producer = Producer(deployment.where.kafka, PREFIX + "meter.readings")
    producer.send(saved.records)
    producer.close()
    ids = {}
    for job in ("ingest", "forecast"):
        options = [*deployment.options, "--savepoint", (tmp_path / job).as_uri()]
        ids |= submit(deployment.settings, deployment.where, (job,), options)
    chaos = Chaos(stack, deployment, ids)
    try:
        until(
            lambda: len(deployment.readings(PREFIX)) >= len(rest) and len(deployment.issues(PREFIX)) >= len(expected),
            lambda: f"all readings and forecasts; jobs {chaos.states()}",
        )
        for job in ids:
            chaos.stop(job)
    finally:
        chaos.end()
    # The database is another one, without what the earlier version had written: what is there now came after it.
    assert deployment.readings(PREFIX) == reading_truth(rest)
    assert deployment.energy(PREFIX) == energy_truth(rest)
    found = deployment.issues(PREFIX)
    assert found.keys() == expected.keys()
    for key, kwh in expected.items():
        assert apart(found[key], kwh) <= 1e-6, key
    assert len(deployment.consume("forecasts")) == len(expected)
