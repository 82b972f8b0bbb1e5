"""Thin Flink wrapper of the detector: a shard's windows in, messages of the topic `anomalies` out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from numpy.typing import NDArray
from pyflink.common.typeinfo import Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from operators.detection.finding_watch import FindingWatch
from operators.detection.next_step import next_step
from operators.detection.shard_watch import ShardWatch
from operators.energy import SLOT_MS
from operators.packing import joined, unpack
from operators.serving.live import LiveModels
from operators.serving.server import Server
from operators.serving.settings import ShardSettings
from operators.shard import Shard
from operators.shard_states import BYTES, ShardStates

SILENT_MS = 2 * 86_400_000
"""A shard of which nothing comes is looked at for so long: what is missing has been said by then."""
LAST_MS = 2**63 - 2
"""A watermark that only the end of all input reaches."""


class DetectShard(KeyedProcessFunction):  # type: ignore[misc]
    """Keyed by shard: (shard, window end, readings as text) → messages of the topic `anomalies`, as one text.

    A shard that is silent has no windows: a timer closes them in their place.
    """

    def __init__(self, model: bytes, model_sha256: str, settings: ShardSettings) -> None:
        self._model = model
        self._model_sha256 = model_sha256
        self._settings = settings

    def open(self, runtime_context: RuntimeContext) -> None:
        self._findings: dict[int, FindingWatch] = {}
        self._found_before = runtime_context.get_state(ValueStateDescriptor("findings", BYTES))
        self._shards = ShardStates(runtime_context, self._settings.kafka, self._settings.meters_topic)
        self._live = LiveModels(self._model, self._model_sha256, self._settings)
        self._servers: dict[int, Server] = {}
        self._serving = runtime_context.get_state(ValueStateDescriptor("serving", BYTES))
        self._watches: dict[int, ShardWatch] = {}
        self._bases: dict[int, int] = {}
        self._entries: dict[int, set[int]] = {}
        self._heard: dict[int, int] = {}
        self._watch = runtime_context.get_state(ValueStateDescriptor("watch", BYTES))
        self._base = runtime_context.get_state(ValueStateDescriptor("watch-base", BYTES))
        self._steps = runtime_context.get_map_state(MapStateDescriptor("watch-steps", Types.LONG(), BYTES))
        metrics = runtime_context.get_metrics_group()
        self._found = metrics.counter("anomalies")
        metrics.gauge("models_refused", self._live.refused)

    def close(self) -> None:
        self._shards.close()
        self._live.close()

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Iterator[str]:
        key, end_ms, series, numbers = value
        shard, watch = self._shards.get(key), self._of(key)
        findings = self._finding(key, shard)
        changed = self._shards.configure(key) | shard.apply(unpack(series, numbers))
        server = self._server(key, watch)
        messages = watch.window(shard, end_ms, changed, partial(_predict, server))
        self._shards.save(key, changed)
        self._save(key, watch)
        self._heard[key] = end_ms
        ctx.timer_service().register_event_time_timer(end_ms + SLOT_MS)
        yield from self._said(messages, server, watch.clock_ms)
        odd = findings.messages(shard, end_ms)
        if odd:
            self._found_before.update(findings.said())
            yield joined(odd, "meter_id")

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[str]:
        key = ctx.get_current_key()
        timers = ctx.timer_service()
        if timers.current_watermark() >= LAST_MS:
            return  # the input has ended: nobody is missing
        shard, watch = self._shards.get(key), self._of(key)
        if timestamp <= watch.clock_ms:
            return  # its window came
        server = self._server(key, watch)
        messages = watch.window(shard, timestamp, set(), partial(_predict, server))
        self._save(key, watch)
        if timestamp - self._heard.setdefault(key, timestamp) < SILENT_MS:
            timers.register_event_time_timer(timestamp + SLOT_MS)
        yield from self._said(messages, server, watch.clock_ms)

    def _of(self, key: int) -> ShardWatch:
        watch = self._watches.get(key)
        if watch is None:
            header = self._watch.value()
            steps = {} if header is None else {number: bytes(step) for number, step in self._steps.items()}
            if header is None:
                watch = ShardWatch()
            else:
                watch = ShardWatch.restore(bytes(header), bytes(self._base.value()), steps)
                self._bases[key] = watch.watch.base_number
            self._watches[key], self._entries[key] = watch, set(steps)
        return watch

    def _finding(self, key: int, shard: Shard) -> FindingWatch:
        findings = self._findings.get(key)
        if findings is None:
            findings = self._findings[key] = FindingWatch(bytes(self._found_before.value() or b"[]")).listen(shard)
        return findings

    def _server(self, key: int, watch: ShardWatch) -> Server:
        """Which models serve the shard, with what was announced by now."""
        server = self._servers.get(key)
        if server is None:
            header = self._serving.value()
            if header is None:
                server = Server(self._live.models, issued_ms=watch.clock_ms)
            else:
                server = Server.restore(self._live.models, bytes(header), {}, watch.clock_ms)
            self._servers[key] = server
        self._live.announce(key, server)
        return server

    def _save(self, key: int, watch: ShardWatch) -> None:
        server = self._servers[key]
        if server.changed:
            self._serving.update(server.header())
            server.clean()
        self._watch.update(watch.header())
        if self._bases.get(key) != watch.watch.base_number:
            self._bases[key] = watch.watch.base_number
            self._base.update(watch.watch.base())
        before, now = self._entries[key], set(watch.watch.numbers())
        for number in before - now:
            self._steps.remove(number)
        for number in (now - before) | watch.watch.changed:
            self._steps.put(number, watch.watch.entry(number))
        watch.watch.changed.clear()
        self._entries[key] = now

    def _said(self, messages: list[dict[str, Any]], server: Server, at_ms: int) -> Iterator[str]:
        self._found.inc(sum(message["status"] == "open" for message in messages))
        if messages:
            model_id = server.champion(at_ms).model_id
            yield joined([{**message, "model_id": model_id} for message in messages], "meter_id")


def _predict(
    server: Server, history: NDArray[Any], end_ms: NDArray[Any], step_s: int, zones: Sequence[str]
) -> NDArray[Any]:
    """The next step's forecast by who serves when it begins; all histories end at one time."""
    return next_step(server.champion(int(end_ms[0])), history, end_ms, step_s, zones)
