"""(f) Quix Streams: a tumbling window, then a stateful function; changelog topics on. Two processes of one group.

python -m tests.bench.engines.quix
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from quixstreams import Application, State
from quixstreams.dataframe.windows.aggregations import Mean

from tests.bench.workload import CLOSING, HISTORY, MINUTE_MS, Job, Network

PROCESSES = 2
IDLE_S = 15.0
"""A process stops when nothing has come for so long; the time of the last result is what counts."""


def run(number: int) -> None:
    """One process: readings → one-minute means → the last 96 → network → results."""
    job = Job.from_environment()
    network = Network(job.model)
    app = Application(
        broker_address=job.kafka,
        consumer_group=f"bench-{job.sink}",
        auto_offset_reset="earliest",
        state_dir=str(Path(job.folder) / str(number)),
        loglevel="WARNING",
    )
    source = app.topic(job.source, value_deserializer="json", timestamp_extractor=event_time)
    sink = app.topic(job.sink, value_serializer="json")

    def forecast(window: dict[str, Any], key: Any, timestamp: int, _headers: Any, state: State) -> dict[str, Any]:
        history = state.get("history") or [0.0] * HISTORY
        history = [*history[1:], window["value"]]
        state.set("history", history)
        y = network.forecast(np.array([history], np.float32))
        name = key.decode() if isinstance(key, bytes) else key
        return {"meter_id": name, "ts": timestamp + MINUTE_MS, "y": round(float(y[0]), 6)}

    sdf = app.dataframe(source)
    sdf = sdf.apply(lambda reading: reading["value"])
    sdf = sdf.tumbling_window(MINUTE_MS).agg(value=Mean()).final(closing_strategy="partition")
    sdf = sdf.apply(forecast, stateful=True, metadata=True)
    sdf = sdf.filter(lambda value: not value["meter_id"].startswith(CLOSING))
    sdf.to_topic(sink)
    print("ready", time.time(), flush=True)
    app.run(timeout=IDLE_S, collect=False)


def event_time(value: dict[str, Any], _headers: Any, _timestamp: float, _type: Any) -> int:
    """A reading's own time, epoch ms."""
    return int(value["ts"])


def main() -> int:
    """Starts the processes; called with a number, is one of them."""
    if len(sys.argv) > 1:
        run(int(sys.argv[1]))
        return 0
    command = [sys.executable, "-m", "tests.bench.engines.quix"]
    children = [subprocess.Popen([*command, str(number)]) for number in range(PROCESSES)]
    return max(child.wait() for child in children)


if __name__ == "__main__":
    sys.exit(main())
