"""Samples of every format by `energyai replay`, Kafka and the ingest job into `reading`."""

from __future__ import annotations

import argparse
import json
from collections import Counter

import pytest

from infra.embedded.stack import Stack
from jobs.commands.submit import wait
from jobs.flink_rest import FlinkRest
from jobs.replay import command
from jobs.submission import submit
from tests.pipeline import Deployment
from tests.unit.adapter_support import SAMPLES

PREFIX = "formats-"
RED = "SELECT count(*), count(DISTINCT meter_id) FROM reading WHERE meter_id = ANY(%s)"


def test_every_format_arrives_in_the_database(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    deployment = Deployment.on(stack, PREFIX)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    where = ["--kafka", deployment.where.kafka, "--topic", PREFIX + "meter.readings"]
    assert command.run(parser.parse_args([str(SAMPLES), "--tz", "UTC", "--json", *where])) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    ids = submit(deployment.settings, deployment.where, ("ingest",), ["--until-complete", *deployment.options])
    wait(FlinkRest(deployment.where.flink_url), ids)

    sent = deployment.consume("meter.readings")
    meters = sorted({message["meter_id"] for message in sent})
    assert said["readings"] == len(sent)
    # The challenge's last record says the same again.
    assert deployment.rows(RED, (meters,)) == [(len(sent) - 1, len(meters))]
    assert deployment.rows("SELECT count(*) FROM rejected_reading WHERE topic = %s", (PREFIX + "meter.readings",)) == [
        (0,)
    ]

    stored = {
        (meter, register, int(ts)): (kind, value, unit)
        for meter, register, ts, kind, value, unit in deployment.rows(
            "SELECT meter_id, register, extract(epoch FROM ts) * 1000, kind::text, value, unit FROM reading"
            " WHERE meter_id = ANY(%s)",
            (meters,),
        )
    }
    for message in sent:
        row = stored[message["meter_id"], message["register"], message["ts"]]
        assert row == (message["kind"], pytest.approx(message["value"], rel=1e-12), message["unit"])
    assert Counter(kind for kind, _, _ in stored.values()).keys() == {"register", "interval", "instant"}

    ((kwh,),) = deployment.rows("SELECT sum(kwh) FROM energy_hourly WHERE meter_id = '9b6c7063-01'")
    assert kwh == pytest.approx(0.703 + 0.607 + 0.543 + 0.546 + 0.521 + 0.567)
    ((net,),) = deployment.rows("SELECT sum(kwh) FROM energy_15m WHERE meter_id = '9000000001'")
    assert net == pytest.approx(0.30 + 0.23 - 0.05)
