"""Batches onto a topic, at a multiple of real time or as fast as they go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from jobs.replay.batch import Batch
from jobs.replay.messages import encode, keys
from jobs.replay.transport import KafkaTransport, Transport

TOPIC = "meter.readings"
SLICE = 20_000
"""Messages between two looks at the progress and at a stop: some tenths of a second at full speed."""
TICK_S = 0.2
"""The longest nap between two looks at the clock of a paced replay."""


@dataclass(frozen=True)
class Progress:
    """How far a replay is."""

    readings: int
    event_ms: int
    """Delivery time, on the axis of event time, of the last message sent."""
    seconds: float


@dataclass
class Summary:
    """What a replay has sent; every reading in it is acknowledged by the broker."""

    readings: int = 0
    meters: int = 0
    first_ts: str | None = None
    """Earliest reading's time, ISO-8601 UTC."""
    last_ts: str | None = None
    seconds: float = 0.0
    interrupted: bool = False

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass
class _Tally:
    readings: int = 0
    meters: set[str] = field(default_factory=set)
    first_ms: int | None = None
    last_ms: int | None = None

    def add(self, b: Batch) -> None:
        self.readings += len(b)
        self.meters.update(set(b.meter_id.tolist()))
        low, high = int(b.ts_ms.min()), int(b.ts_ms.max())
        self.first_ms = low if self.first_ms is None else min(self.first_ms, low)
        self.last_ms = high if self.last_ms is None else max(self.last_ms, high)

    def summary(self, seconds: float, interrupted: bool) -> Summary:
        return Summary(
            self.readings, len(self.meters), iso(self.first_ms), iso(self.last_ms), round(seconds, 3), interrupted
        )


def iso(ts_ms: int | None) -> str | None:
    """ISO-8601 text in UTC of epoch milliseconds."""
    if ts_ms is None:
        return None
    return str(np.datetime_as_string(np.datetime64(ts_ms, "ms"), unit="s")) + "Z"


def paced(
    batches: Iterable[Batch],
    speed: float | None,
    *,
    stop: threading.Event,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Batch]:
    """Slices of `batches`, each yielded when it is due; ends early when `stop` is set.

    Args:
        batches: in delivery order.
        speed: seconds of event time a second; None: no waiting.
        stop: looked at before every slice, and wakes a nap.
        clock: seconds, monotonic.
    """
    began: tuple[float, int] | None = None
    for b in batches:
        start = 0
        while start < len(b):
            if stop.is_set():
                return
            end = min(start + SLICE, len(b))
            if speed is not None:
                if began is None:
                    began = clock(), int(b.deliver_ms[0])
                due_ms = began[1] + (clock() - began[0]) * 1000 * speed
                end = min(end, int(np.searchsorted(b.deliver_ms, due_ms, side="right")))
                if end <= start:
                    stop.wait(min(TICK_S, max(0.001, (int(b.deliver_ms[start]) - due_ms) / 1000 / speed)))
                    continue
            yield b.take(slice(start, end))
            start = end


def send(
    batches: Iterable[Batch],
    bootstrap: str,
    topic: str = TOPIC,
    speed: float | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    iso_ts: bool = False,
    stop: threading.Event | None = None,
    transport: Transport | None = None,
) -> Summary:
    """Puts `batches` on `topic`; returns when the broker has acknowledged all of them.

    Args:
        batches: in delivery order; consumed lazily.
        bootstrap: Kafka's `host:port[,host:port]`.
        topic: must exist.
        speed: seconds of event time a second; None: as fast as it goes.
        on_progress: called after every slice, several times a second.
        iso_ts: write `ts` as text, not as epoch milliseconds.
        stop: set it (from a signal handler, or a thread) to end early; what was sent is flushed.
        transport: one to use and leave open, in place of a new Kafka producer.

    Returns:
        What was sent; `interrupted` when it ended early.

    Raises:
        ReplayError: no broker, no topic, or a message that the broker refused or never acknowledged.
    """
    stop = stop or threading.Event()
    used = transport or KafkaTransport(bootstrap, topic)
    tally = _Tally()
    began = time.monotonic()
    try:
        for b in paced(batches, speed, stop=stop):
            used.put(keys(b), encode(b, iso=iso_ts))
            tally.add(b)
            if on_progress:
                on_progress(Progress(tally.readings, int(b.deliver_ms[-1]), time.monotonic() - began))
        used.flush()
    finally:
        if transport is None:
            used.close()
    return tally.summary(time.monotonic() - began, stop.is_set())
