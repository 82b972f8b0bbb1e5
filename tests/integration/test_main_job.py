"""The main job on real parts: every record accounted for, energy exact, forecasts as in plain Python."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from infra.embedded.stack import Stack
from jobs.commands.submit import wait
from jobs.flink_rest import FlinkRest
from jobs.replay import messages
from jobs.replay.fleet import Fleet
from jobs.replay.fleet_faults import bad_record
from jobs.submission import submit
from operators.forecaster import Forecaster
from tests.pipeline import Deployment, meters, plain_python, steps_with_context

PREFIX = "main-"
DAYS = 9
CODES = (
    *("not_json", "missing_field", "bad_type", "bad_unit", "bad_ts"),
    *("ts_in_future", "not_finite", "unknown_kind", "too_large"),
)
REPEATS = 40


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return meters(PREFIX, 8, DAYS)


@pytest.fixture(scope="module")
def done(stack: Stack, fleet: Fleet) -> tuple[Deployment, int]:
    """Both jobs have read everything; with them, how many records there were."""
    deployment = Deployment.on(stack, PREFIX)
    batch = fleet.readings
    good = list(zip(messages.keys(batch), messages.encode(batch), strict=True))
    first = int(batch.ts_ms[0])
    bad = [(b"main-bad", bad_record(code, "main-bad", first)) for code in CODES]
    bad += [(b"main-bad", b"\xff\xfe not UTF-8"), (b"main-bad", b'{"a":1}{"b":2}'), (b"main-bad", b"")]
    n = deployment.produce([*good[:1000], *bad, *good[1000:], *good[:REPEATS]])
    ids = submit(
        deployment.settings, deployment.where, ("ingest", "forecast"), ["--until-complete", *deployment.options]
    )
    wait(FlinkRest(deployment.where.flink_url), ids)
    return deployment, n


def test_every_record_is_a_row_or_a_repeat_or_rejected(done: tuple[Deployment, int], fleet: Fleet) -> None:
    deployment, n = done
    (stored,) = deployment.rows("SELECT count(*) FROM reading WHERE starts_with(meter_id, %s)", (PREFIX,))[0]
    rejected = deployment.rows(
        'SELECT reason, "offset", raw FROM rejected_reading WHERE topic = %s', (PREFIX + "meter.readings",)
    )
    assert stored == len(fleet.readings)
    assert stored + REPEATS + len(rejected) == n
    expected = Counter(CODES) + Counter({"not_json": 3})
    assert Counter(reason for reason, *_ in rejected) == expected
    letters = deployment.consume("meter.readings.rejected")
    assert sorted((x["reason"], x["offset"], x["raw"]) for x in letters) == sorted(rejected)
    assert {x["raw"] for x in letters} >= {"//4gbm90IFVURi04", '{"a":1}{"b":2}', ""}


def test_daily_energy_is_the_sources_energy(done: tuple[Deployment, int], fleet: Fleet) -> None:
    deployment, _ = done
    found = {
        (meter, int(day)): kwh
        for meter, day, kwh in deployment.rows(
            "SELECT meter_id, extract(epoch FROM bucket) / 86400, kwh FROM energy_daily"
            " WHERE starts_with(meter_id, %s)",
            (PREFIX,),
        )
    }
    for i, row in enumerate(fleet.meters.itertuples()):
        net = (fleet.wh[0, i] - (fleet.wh[1, i] if row.feeds_in else 0)) / 1000
        slots = net.reshape(DAYS, 96)
        for day in range(DAYS):
            key = (row.meter_id, fleet.spec.start_ms // 86_400_000 + day)
            assert found[key] == pytest.approx(slots[day].sum(), rel=1e-9, abs=1e-9), key


def test_each_meter_and_step_with_context_has_a_forecast(done: tuple[Deployment, int], fleet: Fleet) -> None:
    deployment, _ = done
    issued = Counter(meter for meter, _ in deployment.issues(PREFIX))
    for row in fleet.meters.itertuples():
        ts = fleet.readings.ts_ms[fleet.readings.meter_id == row.meter_id]
        begins = int(ts.min()) - (0 if str(row.kind).startswith("register") else int(row.step_s) * 1000)
        expected = steps_with_context(begins, int(ts.max()), int(row.step_s) * 1000)
        assert issued[row.meter_id] == expected > 0, row


def test_stored_numbers_are_those_of_plain_python_on_the_databases_energy(done: tuple[Deployment, int]) -> None:
    deployment, _ = done
    forecaster = Forecaster.load()
    sample = deployment.rows(
        "SELECT meter_id, (extract(epoch FROM issued_at) * 1000)::bigint, step_s, kwh FROM forecast_issue"
        " WHERE starts_with(meter_id, %s) ORDER BY md5(meter_id || issued_at::text) LIMIT 60",
        (PREFIX,),
    )
    assert {step for _, _, step, _ in sample} == {900, 3600}
    first = {
        meter: int(at)
        for meter, at in deployment.rows(
            "SELECT meter_id, (extract(epoch FROM min(issued_at)) * 1000)::bigint FROM forecast_issue"
            " WHERE starts_with(meter_id, %s) GROUP BY meter_id",
            (PREFIX,),
        )
    }
    for meter, at, step, kwh in sample:
        view = {900: "energy_15m", 3600: "energy_hourly"}[step]
        history = deployment.rows(
            f"SELECT kwh FROM {view} WHERE meter_id = %s AND bucket >= to_timestamp(%s) AND bucket < to_timestamp(%s)"
            " ORDER BY bucket",
            (meter, at / 1000 - 168 * 3600, at / 1000),
        )
        plain = forecaster.predict(np.array([[value for (value,) in history]]), at, step)[0]
        stored = np.array(kwh).reshape(plain.shape)
        difference = np.abs(plain - stored)
        # Calibration moves the band, from the day after a meter's first forecast on, and never the median.
        compared = difference if at < first[meter] + 86_400_000 else difference[4]
        assert compared.max() <= 1e-5 * max(1.0, float(np.abs(plain).max())), (meter, at)


def test_forecasts_are_those_of_the_pure_functions_and_once_on_the_topic(
    done: tuple[Deployment, int], fleet: Fleet
) -> None:
    deployment, _ = done
    stored = deployment.issues(PREFIX)
    plain = plain_python(fleet.readings, until_ms=2**62)
    assert stored.keys() == plain.keys()
    worst = max(float(np.abs(stored[key] - plain[key]).max() / max(1e-9, np.abs(plain[key]).max())) for key in plain)
    assert worst <= 1e-6
    sent: dict[Any, Any] = {}
    for message in deployment.consume("forecasts"):
        at = int(np.datetime64(message["issued_at"].rstrip("Z"), "ms").astype(np.int64))
        assert sent.setdefault((message["meter_id"], at), message) is message, "a forecast came twice"
        assert list(message["kwh"]) == [f"q{10 * i}" for i in range(1, 10)]
    assert sent.keys() == stored.keys()
    for key, message in list(sent.items())[::50]:
        values = np.array(list(message["kwh"].values()), np.float32)
        assert (values.ravel() == stored[key]).all()


def test_accuracy_against_the_baselines_is_in_sql(done: tuple[Deployment, int]) -> None:
    deployment, _ = done
    found = deployment.rows(
        "SELECT pairs, nrmse, nrmse_previous_week, nrmse_persistence_ensemble, nrmse_mean_day_week, wql, coverage_80"
        " FROM forecast_accuracy WHERE starts_with(meter_id, %s)",
        (PREFIX,),
    )
    assert len(found) == 8
    assert all(value is not None and np.isfinite(value) for row in found for value in row)
    table = np.array(found, np.float64)
    assert np.median(table[:, 1]) < np.median(table[:, 2])
