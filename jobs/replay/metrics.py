"""A replay's metrics for Prometheus: `energyai replay --metrics-port N`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from jobs.replay.batch import ReplayError
from jobs.replay.producer import Progress

HOST = "127.0.0.1"
WINDOW_S = 1.0


class ReplayMetrics:
    """What a replay has sent, told by `update`."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """`clock` gives epoch seconds; the lag is counted to it."""
        self.registry = CollectorRegistry()
        self._readings = Counter("energyai_replay_readings", "Readings sent to Kafka", registry=self.registry)
        self._rate = Gauge(
            "energyai_replay_readings_per_second", "Readings sent a second, lately", registry=self.registry
        )
        self._event = Gauge(
            "energyai_replay_event_time_seconds",
            "Event time of the last reading sent, epoch seconds; 0: none yet",
            registry=self.registry,
        )
        lag = Gauge(
            "energyai_replay_event_time_lag_seconds",
            "Now minus the event time of the last reading sent; NaN: none yet",
            registry=self.registry,
        )
        lag.set_function(lambda: clock() - self._event_s if self._event_s is not None else float("nan"))
        self._event_s: float | None = None
        self._last = Progress(0, 0, 0.0)
        self._sent = 0

    def update(self, progress: Progress) -> None:
        """Takes the replay's progress, as often as it likes."""
        self._readings.inc(progress.readings - self._sent)
        self._sent = progress.readings
        self._event_s = progress.event_ms / 1000
        self._event.set(self._event_s)
        seconds = progress.seconds - self._last.seconds
        if seconds >= WINDOW_S or not self._last.readings:
            self._rate.set((progress.readings - self._last.readings) / seconds if seconds > 0 else 0)
            self._last = progress


@contextmanager
def served(port: int | None) -> Iterator[tuple[Callable[[Progress], None], str]]:
    """`update` of metrics that are served on loopback for the body's time, and their address; nothing for no port.

    Args:
        port: 0 takes a free one; None serves nothing.

    Raises:
        ReplayError: the port is in use.
    """
    if port is None:
        yield (lambda _: None), ""
        return
    metrics = ReplayMetrics()
    try:
        server, _ = start_http_server(port, HOST, metrics.registry)
    except OSError as error:
        raise ReplayError(
            f"port {port} cannot serve metrics ({error.strerror}): choose another --metrics-port"
        ) from error
    try:
        yield metrics.update, f"http://{HOST}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
