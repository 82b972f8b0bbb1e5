"""The plain loop on workload R: confluent-kafka, orjson, arrays over the meters, the project's model and INSERT.

One process, no recovery; it begins with the week before in memory. python -m tests.bench.engines.loop_r METERS QUARTERS
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from datetime import datetime

import numpy as np
import orjson
from confluent_kafka import Producer

from operators import forecast_messages
from operators.forecaster import Forecaster
from operators.packing import RECORD, UNIT
from operators.store import Store
from tests.bench.drain import batches
from tests.bench.loop_meters import ZONE, Meters
from tests.bench.realistic import CLOSING, PARTITIONS, STEP_MS, WEEK, Size, meter_number


def main() -> int:
    """Reads what comes after the week, to the end."""
    size = Size(int(sys.argv[1]), int(sys.argv[2]))
    kafka, sink = os.environ["BENCH_KAFKA"], os.environ["BENCH_SINK"]
    model, meters = Forecaster.load(), Meters(size)
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 20, "compression.type": "gzip"})
    begin = {p: WEEK * len(range(p, size.meters, PARTITIONS)) for p in range(PARTITIONS)}
    newest = dict.fromkeys(begin, 0)
    print("ready", time.time(), flush=True)
    with closing(Store(os.environ["BENCH_DATABASE_URL"])) as store:
        for messages in batches(kafka, os.environ["BENCH_SOURCE"], begin=begin):
            rows, ts, kwh = [], [], []
            for message in messages:
                value = orjson.loads(message.value())
                at = round(datetime.fromisoformat(value["ts"]).timestamp() * 1000)
                newest[message.partition()] = max(newest[message.partition()], at)
                if not value["meter_id"].startswith(CLOSING):
                    rows.append(meter_number(value["meter_id"]))
                    ts.append(at)
                    kwh.append(value["value"] / 1000)
            if rows:
                meters.add(np.array(rows), np.array(ts), np.array(kwh))
            for slot in sorted(slot for slot in meters.open if (slot + 1) * STEP_MS < min(newest.values())):
                due = meters.close(slot)
                forecast = model.predict(due.history, due.issued_at_ms, due.step_s, zones=ZONE)
                issued = np.full(size.meters, due.issued_at_ms)
                steps = np.full(size.meters, due.step_s)
                store.write_forecasts(due.meter_id, issued, steps, forecast, model.model_id, model.sha256)
                for piece in forecast_messages.write(due, forecast, model.model_id, model.sha256).split(RECORD):
                    key, _, text = piece.partition(UNIT)
                    producer.produce(sink, text, key)
                    producer.poll(0)
                producer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
