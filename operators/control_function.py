"""Thin Flink wrappers of control: records to their site, a site's controller in keyed state, what was said into tables.

Live records are decided on at once, at the broker's time of them, and every few seconds between them. Records of the
past (a replay) wait for the watermark, are decided on in the order of event time, and are never acted on. A live
backlog is taken in without deciding: what would have been said an hour ago is of no use to a device.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import orjson
import pandas as pd
from pyflink.common.typeinfo import Types
from pyflink.datastream import KeyedProcessFunction, RuntimeContext, TimeDomain
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor
from pyflink.table import DataTypes
from pyflink.table.udf import FunctionContext, ScalarFunction, udf

from operators.compacted_topic import CompactedTopic
from operators.control.solver import Solver
from operators.control_lifecycle.dr_book import DrBook
from operators.control_lifecycle.dr_events import DrError
from operators.control_lifecycle.times import parse_ts_ms
from operators.control_places import Places
from operators.control_records import rows, write
from operators.control_site import feeds
from operators.control_site.controller import JUMP_MS, SiteController
from operators.control_site.memory import Memory
from operators.control_site.outputs import Output
from operators.packing import RECORD, UNIT
from operators.sinks import SessionFunction

log = logging.getLogger(__name__)

BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())
CURRENT_MS = 900_000
"""A record that tells of a time further before its arrival tells of the past."""
AHEAD_MS = 60_000
"""One that tells of a time further after it is not believed."""
BACKLOG_MS = 30_000
"""A live record that is read later than this after its arrival is backlog."""
BEAT_MS = 5_000
"""A live site is looked at so often without news: leases are renewed, answers are waited for."""
SILENT_S = 4 * 3600.0
"""A site that said nothing for so long is looked at no more."""
KEPT_DR_MS = 7 * 86_400_000


class _SiteOf(ScalarFunction):  # type: ignore[misc]
    """Kind (a literal, which comes as itself and not as a column) and name → site; null: of none that is controlled."""

    def __init__(self, kafka: str, sites: str, meters: str) -> None:
        self._args = kafka, sites, meters

    def open(self, function_context: FunctionContext) -> None:
        self._places = Places(*self._args)

    def close(self) -> None:
        self._places.close()

    def is_deterministic(self) -> bool:
        return False  # It depends on what is configured by now

    def eval(self, kind: str, name: pd.Series[Any]) -> pd.Series[Any]:
        self._places.look()
        return pd.Series([self._places.site_of(kind, one) for one in name], dtype=object)


class _WriteControl(SessionFunction):
    def eval(self, kind: str, payload: pd.Series[Any]) -> pd.Series[Any]:
        write(self.session, rows((kind, one) for one in payload))
        return pd.Series([1] * len(payload), dtype="int64")


def write_control(database_url: str) -> Any:
    """SQL function (kind, a literal; record) that stores control's records; 1 for each when they are committed."""
    return udf(_WriteControl(database_url), result_type=DataTypes.BIGINT(), func_type="pandas")


def site_of(kafka: str, sites: str, meters: str) -> Any:
    """SQL function (kind, a literal; name of a meter or asset) → its site, or null."""
    return udf(_SiteOf(kafka, sites, meters), result_type=DataTypes.STRING(), func_type="pandas")


class ControlSite(KeyedProcessFunction):  # type: ignore[misc]
    """Keyed by site: (site, kind, event time, arrival, body) → messages, each as "topic US key US value"."""

    def __init__(self, kafka: str, sites: str, meters: str, events: str, *, past_only: bool) -> None:
        """
        Args:
            kafka: bootstrap servers.
            sites, meters, events: topics `sites`, `meters` and `dr.events`.
            past_only: all records are of the past: a run to the end is the same each time.
        """
        self._args = kafka, sites, meters
        self._events = events
        self._past_only = past_only

    def open(self, runtime_context: RuntimeContext) -> None:
        self._core = runtime_context.get_state(ValueStateDescriptor("core", BYTES))
        self._plans = runtime_context.get_state(ValueStateDescriptor("plans", BYTES))
        self._past = runtime_context.get_state(ValueStateDescriptor("past", BYTES))
        self._waiting = runtime_context.get_map_state(MapStateDescriptor("waiting", Types.LONG(), Types.STRING()))
        self._sites: dict[str, SiteController] = {}
        self._configured: dict[str, int] = {}
        self._alive: dict[str, tuple[int, float]] = {}
        self._solver = Solver(warm=False)
        self._book = DrBook()
        self._heard = 0
        self._places = Places(*self._args)
        self._dr = CompactedTopic(self._args[0], self._events, self._take_event)
        metrics = runtime_context.get_metrics_group()
        self._unusable = metrics.counter("control_records_unusable")
        self._refused = metrics.counter("control_commands_refused")

    def close(self) -> None:
        self._places.close()
        self._dr.close()

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Iterator[str]:
        site, kind, at_ms, received_ms, body = value
        if kind != "reading":
            at_ms = _time_of(kind, body)
        if at_ms is None or at_ms > received_ms + AHEAD_MS:
            self._unusable.inc()
            return
        if self._past_only or received_ms - at_ms > CURRENT_MS:
            before = self._waiting.get(at_ms)
            record = f"{kind}{UNIT}{body}"
            self._waiting.put(at_ms, record if before is None else before + RECORD + record)
            ctx.timer_service().register_event_time_timer(at_ms)
            return
        controller = self._site(site)
        taken = self._take(controller, kind, body)
        now = ctx.timer_service().current_processing_time()
        if now - received_ms <= BACKLOG_MS:
            known = self._time(site)
            # Far behind what was known: the broker's clock was ahead, and was set right.
            at_now = received_ms if known - received_ms > JUMP_MS else max(received_ms, known)
            self._alive[site] = at_now, time.monotonic()
            ctx.timer_service().register_processing_time_timer((now // BEAT_MS + 1) * BEAT_MS)
            if taken and kind in ("reading", "ack"):
                yield from self._decide(controller, self._time(site), current=True)
        self._save(controller)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[str]:
        site = ctx.get_current_key()
        controller = self._site(site)
        if ctx.time_domain() == TimeDomain.EVENT_TIME:
            waiting = self._waiting.get(timestamp)
            self._waiting.remove(timestamp)
            for record in sorted((waiting or "").split(RECORD)):
                kind, _, body = record.partition(UNIT)
                self._take(controller, kind, body)
            yield from self._decide(controller, timestamp, current=False)
        elif site in self._alive and time.monotonic() - self._alive[site][1] < SILENT_S:
            ctx.timer_service().register_processing_time_timer(
                (max(timestamp, ctx.timer_service().current_processing_time()) // BEAT_MS + 1) * BEAT_MS
            )
            yield from self._decide(controller, self._time(site), current=True)
        self._save(controller)

    def _time(self, site: str) -> int:
        """The site's time: the broker's of its newest record, and what passed since then by a clock that never
        jumps."""
        known = self._alive.get(site)
        return 0 if known is None else known[0] + round(1000 * (time.monotonic() - known[1]))

    def _decide(self, controller: SiteController, now_ms: int, *, current: bool) -> Iterator[str]:
        before = controller.refused
        for output in controller.decide(now_ms, current=current):
            yield _text(output)
        self._refused.inc(controller.refused - before)

    def _take(self, controller: SiteController, kind: str, body: str) -> bool:
        try:
            if kind == "reading":
                return controller.reading(feeds.reading(body))
            message = orjson.loads(body)
            if kind == "forecast":
                return controller.forecast(feeds.forecast(message))
            if kind == "state":
                return controller.report(feeds.report(message))
            report = feeds.measured(message)
            return controller.ack(message) | (report is not None and controller.report(report))
        except (feeds.FeedError, orjson.JSONDecodeError, AttributeError, TypeError) as error:
            self._unusable.inc()
            log.debug("%s not usable: %s", kind, error)
            return False

    def _site(self, site: str) -> SiteController:
        """The site's controller, configured as the topics say by now."""
        if self._places.look() | self._dr.look():
            self._heard += 1
        controller = self._sites.get(site)
        if controller is None:
            parts = (self._core.value(), self._plans.value(), self._past.value())
            memory = Memory.restored(*(None if part is None else bytes(part) for part in parts))
            controller = self._sites[site] = SiteController(memory, self._solver)
            again = memory.replan
            controller.configure(self._places.places.get(site), self._book)
            memory.replan = again or memory.plan is None
            self._configured[site] = self._heard
        elif self._configured[site] != self._heard:
            controller.configure(self._places.places.get(site), self._book)
            self._configured[site] = self._heard
        return controller

    def _take_event(self, raw: bytes) -> bool | None:
        try:
            added = self._book.add(raw)
        except DrError as error:
            log.warning("dr.events: %s", error)
            return None
        self._book.prune(time.time_ns() // 1_000_000 - KEPT_DR_MS)
        return added

    def _save(self, controller: SiteController) -> None:
        memory = controller.memory
        self._core.update(memory.core())
        if "plans" in memory.changed:
            self._plans.update(memory.plans())
        if "past" in memory.changed:
            self._past.update(memory.past.dump())
        memory.changed.clear()


def _time_of(kind: str, body: str) -> int | None:
    """A record's own time, epoch ms; None when it says none."""
    try:
        return parse_ts_ms(orjson.loads(body)["issued_at" if kind == "forecast" else "ts"])
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def _text(output: Output) -> str:
    value = orjson.dumps(output.value, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return f"{output.topic}{UNIT}{output.key}{UNIT}{value}"
