"""Thin Flink wrapper around the watch: the shards' reports in, what it found out as texts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import orjson
from pyflink.common.typeinfo import Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from operators.serving.plan import CHALLENGER, CHAMPION, PREVIOUS, message
from operators.serving.watch import HOUR_MS, Policy, Watch

BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())
THOUSAND = 1000


class ModelWatch(KeyedProcessFunction):  # type: ignore[misc]
    """One key for all shards: reports wait for event time to pass their hour, then they are looked at together."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def open(self, runtime_context: RuntimeContext) -> None:
        self._waiting = runtime_context.get_map_state(MapStateDescriptor("waiting", Types.STRING(), Types.LONG()))
        self._state = runtime_context.get_state(ValueStateDescriptor("watch", BYTES))
        self._watch: Watch | None = None
        metrics = runtime_context.get_metrics_group()
        self._rollbacks = metrics.counter("model_rollbacks")
        for role in (CHAMPION, PREVIOUS, CHALLENGER):
            group = metrics.add_group("role", role)
            for name in ("nrmse", "loss", "bias", "coverage"):
                # PyFlink's gauges are whole numbers.
                group.gauge(f"model_{name}_permille", lambda role=role, name=name: self._figure(role, name))
        for figure in ("last_day", "day_change", "peak", "missing"):
            group = metrics.add_group("figure", figure)
            group.gauge("model_psi_permille", lambda figure=figure: self._psi(figure))

    def process_element(self, value: str, ctx: KeyedProcessFunction.Context) -> None:
        at = orjson.loads(value)["at"]
        self._waiting.put(value, at)
        ctx.timer_service().register_event_time_timer(-(-at // HOUR_MS) * HOUR_MS)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[str]:
        ripe = [text for text, at in self._waiting.items() if at <= timestamp]
        if not ripe:
            return
        watch = self._loaded()
        found = watch.look([orjson.loads(text) for text in ripe], timestamp)
        for text in ripe:
            self._waiting.remove(text)
        self._state.update(watch.to_bytes())
        told: dict[str, Any] = {"errors": found.errors, "drifts": found.drifts, "announcements": [], "message": None}
        if found.rollback is not None:
            self._rollbacks.inc()
            told["announcements"] = [found.rollback.fields()]
            told["message"] = message(self._policy.model_name, found.plan).decode()
        # What the database stores; `message` is what the topic `models` gets, or null.
        yield orjson.dumps({"model_name": self._policy.model_name, **told}).decode()

    def _loaded(self) -> Watch:
        if self._watch is None:
            stored = self._state.value()
            self._watch = Watch(self._policy) if stored is None else Watch.from_bytes(self._policy, bytes(stored))
        return self._watch

    def _figure(self, role: str, name: str) -> int:
        sums = self._watch.latest.get(role) if self._watch is not None else None
        value = getattr(sums, name)() if sums is not None else math.nan
        return round(value * THOUSAND) if math.isfinite(value) else -1

    def _psi(self, figure: str) -> int:
        return round(self._watch.psi.get(figure, 0.0) * THOUSAND) if self._watch is not None else 0
