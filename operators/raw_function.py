"""Thin Flink wrapper of the fast path: a shard's readings of a moment in, messages of the topic `anomalies` out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from pyflink.datastream import KeyedProcessFunction, RuntimeContext, TimeDomain
from pyflink.datastream.state import ValueStateDescriptor

from operators.detection.raw_watch import RawWatch
from operators.meters_topic import MetersTopic
from operators.packing import joined, unpack
from operators.shard_states import BYTES, LOOK_EVERY_S

SAVE_EVERY_MS = 1_000
"""How often the series' past is written to the state: ten times a second would cost more than all the rest."""


class RawShard(KeyedProcessFunction):  # type: ignore[misc]
    """Keyed by shard: (shard, time, readings as two texts) → messages of the topic `anomalies`, as one text.

    Breaches are in the state at once. The past of the series is up to `SAVE_EVERY_MS` older than a checkpoint: after a
    failure, a counter's first rise may be taken over a reading more, and its mean power be less than it was. The closed
    quarter hour does not miss it.
    """

    def __init__(self, kafka: str, meters_topic: str) -> None:
        self._kafka = kafka
        self._topic = meters_topic

    def open(self, runtime_context: RuntimeContext) -> None:
        self._meters = MetersTopic(self._kafka, self._topic)
        self._look_at = time.monotonic() + LOOK_EVERY_S
        self._watches: dict[int, RawWatch] = {}
        self._named: dict[int, int] = {}
        self._unsaved: set[int] = set()
        self._names = runtime_context.get_state(ValueStateDescriptor("raw-names", BYTES))
        self._header = runtime_context.get_state(ValueStateDescriptor("raw-header", BYTES))
        self._breaches = runtime_context.get_state(ValueStateDescriptor("raw-breaches", BYTES))
        self._found = runtime_context.get_metrics_group().counter("raw_breaches")

    def close(self) -> None:
        self._meters.close()

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Iterator[str]:
        key, _, series, numbers = value
        now = time.monotonic()
        if now >= self._look_at:
            self._meters.look()
            self._look_at = now + LOOK_EVERY_S
        watch = self._of(key)
        messages = watch.take(unpack(series, numbers), self._meters.configs)
        timers = ctx.timer_service()
        if len(watch.series) != self._named.get(key):
            self._names.update(watch.names())
            self._header.update(watch.header())
            self._named[key] = len(watch.series)
        elif key not in self._unsaved:
            self._unsaved.add(key)
            timers.register_processing_time_timer(time.time_ns() // 1_000_000 + SAVE_EVERY_MS)
        if messages:
            self._breaches.update(watch.breaches())
            for end_ms in set(watch.ends_ms()):
                timers.register_event_time_timer(end_ms)
        self._found.inc(sum(message["status"] == "open" for message in messages))
        if messages:
            yield joined(messages, "meter_id")

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[str]:
        key = ctx.get_current_key()
        watch = self._of(key)
        if ctx.time_domain() == TimeDomain.PROCESSING_TIME:
            self._unsaved.discard(key)
            self._header.update(watch.header())
            return
        messages = watch.close(timestamp)
        self._breaches.update(watch.breaches())
        if messages:
            yield joined(messages, "meter_id")

    def _of(self, key: int) -> RawWatch:
        watch = self._watches.get(key)
        if watch is None:
            header = self._header.value()
            if header is None:
                watch = RawWatch()
            else:
                parts = (self._names.value(), header, self._breaches.value() or b"[]")
                watch = RawWatch.restore(*map(bytes, parts))
                self._named[key] = len(watch.series)
            self._watches[key] = watch
        return watch
