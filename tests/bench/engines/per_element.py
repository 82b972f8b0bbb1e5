"""(c) PyFlink an element: a KeyedProcessFunction keyed by meter, with state and an event-time timer a minute.

The JVM parses and makes the watermarks; Python gets each reading. `python -m tests.bench.engines.per_element FLINK_URL`
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from pyflink.common.typeinfo import Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from jobs.launch import Statements
from operators.packing import UNIT
from tests.bench.engines.flink_tables import environment, exploded, submit
from tests.bench.workload import CLOSING, HISTORY, MINUTE_MS, Job, Network, result

BUNDLES = {"python.fn-execution.bundle.size": "100000", "python.fn-execution.bundle.time": "1000"}
"""PyFlink's defaults; the project's own are for elements that are whole shards."""


class ForecastMeter(KeyedProcessFunction):  # type: ignore[misc]
    """Keyed by meter: (meter, ts, value) → the message of each minute, when event time has passed it."""

    def __init__(self, model: str) -> None:
        self._model = model

    def open(self, runtime_context: RuntimeContext) -> None:
        self._network = Network(self._model)
        pair = Types.PICKLED_BYTE_ARRAY()
        self._open = runtime_context.get_map_state(MapStateDescriptor("open", Types.LONG(), pair))
        self._history = runtime_context.get_state(ValueStateDescriptor("history", pair))

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> None:
        _, ts, reading = value
        end = (ts // MINUTE_MS + 1) * MINUTE_MS
        known = self._open.get(end)
        if known is None:
            ctx.timer_service().register_event_time_timer(end - 1)
            known = (0.0, 0)
        self._open.put(end, (known[0] + reading, known[1] + 1))

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Any]:
        end = timestamp + 1
        total, count = self._open.get(end)
        self._open.remove(end)
        before = self._history.value()
        before = np.zeros(HISTORY, np.float32) if before is None else before
        history = np.append(before[1:], np.float32(total / count))
        self._history.update(history)
        name = ctx.get_current_key()
        if not name.startswith(CLOSING):
            yield name + UNIT + result(name, end, float(self._network.forecast(history[None])[0]))


def build(job: Job, flink_url: str) -> tuple[Any, Statements]:
    """Readings → Python, one by one → topic."""
    stream, t_env = environment(job, "bench per element", flink_url, BUNDLES)
    issued = (
        t_env.to_data_stream(t_env.sql_query("SELECT meter_id, ts, `value` FROM readings"))
        .key_by(lambda row: row[0], key_type=Types.STRING())
        .process(ForecastMeter(job.model), output_type=Types.STRING())
        .uid("forecast-meter")
    )
    return stream, exploded(t_env, issued)


if __name__ == "__main__":
    sys.exit(submit(build))
