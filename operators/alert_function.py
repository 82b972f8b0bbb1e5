"""Thin Flink wrappers of alerts: evidence to its site, a site's book in keyed state, the rows of table `alert`."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson
from pyflink.common import Row
from pyflink.common.typeinfo import Types
from pyflink.datastream import KeyedProcessFunction, ProcessFunction, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, ValueStateDescriptor

from operators.alerting import rows
from operators.alerting.book import SiteBook
from operators.alerting.configured import rules_of, site_of
from operators.alerting.evidence import Evidence, EvidenceError
from operators.compacted_topic import CompactedTopic
from operators.packing import UNIT, joined
from operators.pg import Session

log = logging.getLogger(__name__)

BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())
LOOK_EVERY_S = 2.0
"""How often the topics of configuration are asked for news."""
GATHER_MS = 50
"""How long news of a site is gathered when its alerts were looked at just now."""
BEAT_MS = 5_000
"""How often a site with something open is looked at without news: rules may have changed."""
RECALL_AFTER_MS = 30_000
"""How long after a start the evidence since the checkpoint has come again."""
LAST_MS = 2**63 - 2
"""A timer that only the end of all input reaches."""
AHEAD_MS = 3_600_000
"""Evidence from further in the future is not believed, or it would move the site's time for ever."""


class RouteEvidence(ProcessFunction):  # type: ignore[misc]
    """A message → (tenant and site, packed evidence). What is none is logged and counted."""

    def __init__(self, kafka: str, meters_topic: str) -> None:
        self._kafka = kafka
        self._topic = meters_topic

    def open(self, runtime_context: RuntimeContext) -> None:
        self._meters = CompactedTopic(self._kafka, self._topic, site_of)
        self._look_at = time.monotonic() + LOOK_EVERY_S
        self._refused = runtime_context.get_metrics_group().counter("alert_evidence_refused")

    def close(self) -> None:
        self._meters.close()

    def process_element(self, value: Any, ctx: ProcessFunction.Context) -> Iterator[Row]:
        if time.monotonic() >= self._look_at:
            self._meters.look()
            self._look_at = time.monotonic() + LOOK_EVERY_S
        try:
            evidence = self._evidence(bytes(value[0] or b""))
        except EvidenceError as error:
            self._refused.inc()
            log.warning("no evidence: %s", error)
            return
        yield Row(f"{evidence.tenant}{UNIT}{evidence.site}", evidence.pack().decode())

    def _evidence(self, payload: bytes) -> Evidence:
        try:
            fields = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise EvidenceError(f"not JSON: {error}") from error
        if not isinstance(fields, dict):
            raise EvidenceError("no JSON object")
        if "labels" in fields:
            evidence = Evidence.of_alert(fields)
        else:
            meter = fields.get("meter_id")
            evidence = Evidence.of_anomaly(fields, self._meters.values.get(meter) if isinstance(meter, str) else None)
        if max(evidence.seen_ms, evidence.end_ms or 0) > time.time() * 1000 + AHEAD_MS:
            raise EvidenceError(f"{evidence.evidence_id} is of the future")
        return evidence


class AlertBook(KeyedProcessFunction):  # type: ignore[misc]
    """Keyed by tenant and site: (key, packed evidence) → messages of topic `alerts`, as one text.

    A site's time is the watermark; without news it goes on with the clock from where it was, which decides when
    something is said, and not what.
    """

    def __init__(self, kafka: str, rules_topic: str, meters_topic: str, database_url: str) -> None:
        self._kafka = kafka
        self._topics = (rules_topic, meters_topic)
        self._database_url = database_url

    def open(self, runtime_context: RuntimeContext) -> None:
        self._books: dict[str, SiteBook] = {}
        self._due: dict[str, int] = {}
        self._looked: dict[str, int] = {}
        self._moved: dict[str, tuple[int, int]] = {}
        self._recalls: dict[str, tuple[int, int]] = {}
        self._session = Session(self._database_url)
        self._slow_ms = 0.0
        self._header = runtime_context.get_state(ValueStateDescriptor("header", BYTES))
        self._evidence = runtime_context.get_map_state(MapStateDescriptor("evidence", Types.STRING(), BYTES))
        self._said = runtime_context.get_map_state(MapStateDescriptor("said", Types.STRING(), BYTES))
        rules, meters = self._topics
        self._rules = CompactedTopic(self._kafka, rules, rules_of)
        self._meters = CompactedTopic(self._kafka, meters, site_of)
        self._look_at = time.monotonic() + LOOK_EVERY_S
        self._site_meters = Counter(self._meters.values.values())
        self._late = runtime_context.get_metrics_group().counter("alert_evidence_late")

    def close(self) -> None:
        self._rules.close()
        self._meters.close()
        self._session.close()

    def process_element(self, value: Any, ctx: KeyedProcessFunction.Context) -> Iterator[str]:
        key = ctx.get_current_key()
        book = self._book(key)
        timers = ctx.timer_service()
        late = book.late
        changed = book.add(Evidence.unpack(value[1].encode()))
        self._late.inc(book.late - late)
        if changed is not None:
            self._evidence.put(f"{changed.meter}{UNIT}{changed.evidence_id}", changed.pack())
        if len(book.evidence) == 1:
            timers.register_event_time_timer(LAST_MS)
        # A look takes longer with the site's evidence: in a burst, three quarters of the time are left for taking it.
        wait_ms = self._looked.get(key, 0) + GATHER_MS + int(3 * self._slow_ms) - _now_ms()
        if wait_ms > 0:
            self._look_in(key, wait_ms, timers)
        else:
            yield from self._news(key, book, timers)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[str]:
        key = ctx.get_current_key()
        timers = ctx.timer_service()
        if timers.current_watermark() >= LAST_MS and timestamp != LAST_MS:
            return  # The input has ended. A timer set now for a later time would come at once, again and again.
        self._due.pop(key, None)
        yield from self._news(key, self._book(key), timers, ended=timestamp == LAST_MS)

    def _news(self, key: str, book: SiteBook, timers: Any, *, ended: bool = False) -> Iterator[str]:
        """Looks at a site's alerts: what is new, as one text."""
        self._look()
        begun = time.monotonic()
        tenant, site = key.split(UNIT)
        meters = self._site_meters[site]
        self._configure(book)
        self._recall(key, book, tenant, site, ended=ended)
        if ended:
            news = book.finish(meters)
        else:
            news, again_ms = book.evaluate(self._time(key, book, timers.current_watermark()), meters)
            self._again(key, book, again_ms, timers)
        self._save(book)
        self._slow_ms = (time.monotonic() - begun) * 1000
        self._looked[key] = _now_ms()
        if news:
            yield joined(news, "fingerprint")

    def _time(self, key: str, book: SiteBook, watermark: int) -> int:
        """The site's event time: it follows the watermark, and between its news the clock."""
        known = max(book.clock_ms, watermark if watermark < LAST_MS - 1 else -1)
        at, since = self._moved.get(key, (-1, 0))
        going_on = at + _now_ms() - since
        if known > going_on or at < 0:
            self._moved[key] = (known, _now_ms())
            return known
        return going_on

    def _again(self, key: str, book: SiteBook, again_ms: int | None, timers: Any) -> None:
        if again_ms is not None:
            timers.register_event_time_timer(again_ms)
        if again_ms is not None or key in self._recalls or book.active():
            wait = BEAT_MS if again_ms is None else min(BEAT_MS, max(GATHER_MS, again_ms - max(0, book.clock_ms)))
            self._look_in(key, wait, timers)

    def _look_in(self, key: str, wait_ms: int, timers: Any) -> None:
        """Asks for a look at the latest after `wait_ms`."""
        at = _now_ms() + wait_ms
        if at < self._due.get(key, LAST_MS):
            self._due[key] = at
            timers.register_processing_time_timer(at)

    def _book(self, key: str) -> SiteBook:
        book = self._books.get(key)
        if book is None:
            header = self._header.value()
            if header is None:
                book = SiteBook()  # new, or what was said of it was after the last checkpoint
            else:
                said = [(name, bytes(packed)) for name, packed in self._said.items()]
                book = SiteBook.restore(bytes(header), [bytes(packed) for packed in self._evidence.values()], said)
            self._recalls[key] = (_now_ms() + RECALL_AFTER_MS, book.clock_ms)
            self._books[key] = book
            self._configure(book)
        return book

    def _recall(self, key: str, book: SiteBook, tenant: str, site: str, *, ended: bool) -> None:
        """Some time after a start: what the table says that was written after the checkpoint.

        Where there was none, or none with a time, the evidence that comes says how far back it may judge.
        """
        at, since_ms = self._recalls.get(key, (LAST_MS, 0))
        if _now_ms() >= at or (ended and at < LAST_MS):
            del self._recalls[key]
            from_ms = book.oldest_ms() if since_ms < 0 else 0
            book.recall(rows.recall(self._session, tenant, site, since_ms, from_ms))

    def _look(self) -> None:
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._rules.look()
            if self._meters.look():
                self._site_meters = Counter(self._meters.values.values())

    def _configure(self, book: SiteBook) -> None:
        for rules in self._rules.values.values():
            book.configure(rules.version, rules.entries, rules.from_ms)

    def _save(self, book: SiteBook) -> None:
        self._header.update(book.header())
        for name in book.changed:
            packed = book.packed(name)
            if packed is None:
                self._said.remove(name)
            else:
                self._said.put(name, packed)
        for meter, evidence_id in book.dropped:
            self._evidence.remove(f"{meter}{UNIT}{evidence_id}")
        book.changed.clear()
        book.dropped.clear()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
