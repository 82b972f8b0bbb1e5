"""(e) Bytewax: windowing and stateful operators, the network by batches, recovery store on. Two processes.

python -m tests.bench.engines.bytewax_flow; the flow itself is what `python -m bytewax.run` is given.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import numpy as np
import orjson
from bytewax.connectors.kafka import KafkaSinkMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.operators import windowing
from numpy.typing import NDArray

from tests.bench.workload import CLOSING, HISTORY, MINUTE_MS, START_MS, Job, Network, result

PROCESSES = 2
SNAPSHOT_S = 10
ALIGN = datetime.fromtimestamp(START_MS / 1000, UTC)
Window = NDArray[np.float32]


def flow() -> Dataflow:
    """Kafka → one-minute means by event time → the last 96 → network → Kafka."""
    job = Job.from_environment()
    network = Network(job.model)
    dataflow = Dataflow("workload_w")
    messages = kop.input("readings", dataflow, brokers=[job.kafka], topics=[job.source], tail=False)
    keyed = op.map("parse", messages.oks, lambda message: parsed(message.value))
    clock = windowing.EventClock(
        lambda reading: reading[0],
        wait_for_system_duration=timedelta(seconds=10),
        # A replay: windows close by the readings' time, and none by waiting.
        to_system_utc=lambda _: None,
    )
    minute = windowing.TumblingWindower(length=timedelta(minutes=1), align_to=ALIGN)
    folded = windowing.fold_window(
        "minute",
        keyed,
        clock,
        minute,
        lambda: (0.0, 0),
        lambda state, reading: (state[0] + reading[1], state[1] + 1),
        lambda a, b: (a[0] + b[0], a[1] + b[1]),
        ordered=False,
    )
    histories = op.stateful_map("history", folded.down, remember)
    results = op.flat_map_batch("forecast", histories, lambda batch: forecast(network, batch))
    kop.output("results", results, brokers=[job.kafka], topic=job.sink)
    print("ready", time.time(), flush=True)
    return dataflow


def parsed(payload: bytes) -> tuple[str, tuple[datetime, float]]:
    """Key, time and value of a message."""
    value = orjson.loads(payload)
    return value["meter_id"], (datetime.fromtimestamp(value["ts"] / 1000, UTC), value["value"])


def remember(history: Window | None, window: tuple[int, tuple[float, int]]) -> tuple[Window, tuple[int, Window]]:
    """The state with one mean more, given on with the number of the minute."""
    number, (total, count) = window
    before = np.zeros(HISTORY, np.float32) if history is None else history
    now = np.append(before[1:], np.float32(total / count))
    return now, (number, now)


def forecast(network: Network, batch: list[tuple[str, tuple[int, Window]]]) -> Iterable[KafkaSinkMessage[Any, Any]]:
    """The messages of the windows that come together."""
    batch = [item for item in batch if not item[0].startswith(CLOSING)]
    if not batch:
        return
    ys = network.forecast(np.stack([history for _, (_, history) in batch])).tolist()
    for (name, (number, _)), y in zip(batch, ys, strict=True):
        end = START_MS + (number + 1) * MINUTE_MS
        yield KafkaSinkMessage(name.encode(), result(name, end, y).encode())


def main() -> int:
    """Makes the recovery store and runs the processes as a cluster."""
    store = Path(Job.from_environment().folder)
    subprocess.run([sys.executable, "-m", "bytewax.recovery", str(store), str(PROCESSES)], check=True)
    addresses = ";".join(f"127.0.0.1:{port}" for port in free_ports(PROCESSES))
    command = [sys.executable, "-m", "bytewax.run", f"{__spec__.name}:flow", "-r", str(store), "-b", "0"]
    command += ["-s", str(SNAPSHOT_S), "-a", addresses, "-i"]
    children = [subprocess.Popen([*command, str(number)], env=os.environ) for number in range(PROCESSES)]
    return max(child.wait() for child in children)


def free_ports(n: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(n)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


if __name__ == "__main__":
    sys.exit(main())
