"""Weather on real parts: topic → table and dead letter, topic → forecasts of the job, table → training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
from gate_support import GateHandle
from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic
from store_support import gate  # noqa: F401 - a fixture

from infra.embedded.stack import Stack
from jobs.backtest import weather as stored_weather
from jobs.commands.submit import wait
from jobs.flink_rest import FlinkRest
from jobs.submission import submit
from operators import weather
from operators.forecaster import Forecaster
from operators.pg import Session
from operators.weather import Report
from operators.weather_rows import store
from tests.live_models import HOUR, START, records
from tests.pipeline import Deployment
from tests.unit.serving_support import model_bytes

pytestmark = pytest.mark.integration

PREFIX = "weather-"
HOURS = 200
SITE = "weather-hq"
METERS = [f"{PREFIX}{name}" for name in "ab"]


def message(hour: int, issued: float | None, celsius: float, **more: object) -> bytes:
    fields = {"site_id": SITE, "ts": START + hour * HOUR, "temperature_c": celsius, **more}
    if issued is not None:
        fields["issued_at"] = int(START + issued * HOUR)
    return orjson.dumps(fields)


def said() -> list[bytes]:
    """Each hour measured; foreseen 30 hours before; and foreseen anew, with a large change, half an hour before."""
    rng = np.random.default_rng(1)
    celsius = rng.uniform(0, 20, HOURS + 24).round(1).tolist()
    measured = [message(hour, None, value) for hour, value in enumerate(celsius[:HOURS])]
    foreseen = [message(hour, hour - 30, value + 1, irradiance_w_m2=50) for hour, value in enumerate(celsius)]
    corrected = [message(hour, hour - 0.5, value + 9) for hour, value in enumerate(celsius)]
    everything = [*measured, *foreseen, *corrected, *measured[:20]]
    return [everything[i] for i in rng.permutation(len(everything))]


BAD = [b"\xff", b'{"site_id": "hq"}', b'{"ts": 1, "temperature_c": 2}', b'{"ts": 0, "temperature_c": "warm"}']


def test_any_order_gives_the_rows_that_training_reads(gate: GateHandle) -> None:  # noqa: F811
    session = Session(gate.url)
    reports = [Report.of_message(each) for each in said()]
    try:
        for part in (reports[:100], reports[100:], reports[::-1], []):
            store(session, part)
    finally:
        session.close()
    with gate.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM weather WHERE site_id = %s", (SITE,))
        assert cursor.fetchone() == (len(set(said())),)
    found = stored_weather.from_database(gate.url)
    assert found is not None
    at = START + np.array([180, 190, 220], np.int64) * HOUR
    expected = weather.of_reports(reports).known([SITE] * 3, at)
    assert np.isfinite(expected).any()
    assert np.array_equal(found.known([SITE] * 3, at), expected, equal_nan=True)


@pytest.mark.long
def test_the_job_forecasts_from_the_weather_as_it_was_known(stack: Stack, tmp_path: Path) -> None:
    deployment = Deployment.on(stack, PREFIX)
    admin = KafkaAdminClient(bootstrap_servers=deployment.where.kafka)
    admin.create_topics([NewTopic(PREFIX + "weather", 1, 1), NewTopic(PREFIX + "meters", 1, 1)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=deployment.where.kafka, acks="all")
    for value in (*said()[:100], *BAD, *said()[100:]):
        producer.send(PREFIX + "weather", key=SITE.encode(), value=value)
    # One of the meters is at the site, the other somewhere of which nothing is known.
    config = orjson.dumps({"meter_id": METERS[0], "site_id": SITE})
    producer.send(PREFIX + "meters", key=METERS[0].encode(), value=config)
    producer.flush()
    producer.close()
    deployment.produce(records(METERS, range(1, HOURS + 1)))
    path = tmp_path / "forecaster.onnx"
    path.write_bytes(model_bytes(weather=0.5))
    options = ["--until-complete", "--model", str(path), *deployment.options]
    ids = submit(deployment.settings, deployment.where, ("weather", "forecast"), options)
    wait(FlinkRest(deployment.where.flink_url), ids)

    (rows,) = deployment.rows("SELECT count(*) FROM weather WHERE site_id = %s", (SITE,))
    assert rows == (len(set(said())),)
    letters = deployment.consume("meter.readings.rejected")
    refused = deployment.rows(
        "SELECT reason FROM rejected_reading WHERE topic = %s ORDER BY reason", (PREFIX + "weather",)
    )
    codes = ["bad_ts", "bad_type", "missing_field", "not_json"]
    assert sorted(letter["reason"] for letter in letters) == [reason for (reason,) in refused] == codes

    issues = deployment.issues(PREFIX)
    assert len(issues) == 2 * (HOURS - 168 + 1)
    model = Forecaster.load(path)
    sky = weather.of_reports(Report.of_message(each) for each in said())
    kwh = {name: np.full(HOURS, np.nan) for name in METERS}
    for _, value in records(METERS, range(1, HOURS + 1)):
        usage = orjson.loads(value)
        kwh[usage["meter_id"]][(usage["ts"] - START) // HOUR - 1] = usage["value"]
    for (meter, at), issued in issues.items():
        hour = (at - START) // HOUR
        history = kwh[meter][None, hour - 168 : hour]
        sites = [SITE if meter == METERS[0] else "default"]
        known = sky.known(sites, np.array([at], np.int64))
        expected = model.predict(history, at, 3600, weather=known)[0, 4]
        assert np.abs(issued.reshape(9, 24)[4] - expected).max() < 1e-4, (meter, hour)
        without = model.predict(history, at, 3600)[0, 4]
        assert (np.abs(expected - without).max() > 0.1) == (meter == METERS[0])
