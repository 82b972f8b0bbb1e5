"""Metrics of the delivery worker, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server


class DeliveryMetrics:
    """Counters of one worker."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.messages = Counter("energyai_alert_messages", "messages read from topic alerts", registry=self.registry)
        self.attempts = Counter(
            "energyai_alert_delivery_attempts", "requests made, by what became of them", ["receiver", "outcome"],
            registry=self.registry,
        )  # fmt: skip
        self.alerts = Counter(
            "energyai_alert_deliveries", "notifications settled", ["receiver", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "energyai_alert_delivery_seconds", "length of a request", ["receiver"], registry=self.registry
        )
        self._pending = Gauge(
            "energyai_alert_delivery_pending", "notifications that wait", ["receiver"], registry=self.registry
        )
        self._oldest = Gauge(
            "energyai_alert_delivery_oldest_pending_seconds", "age of the oldest of them", ["receiver"],
            registry=self.registry,
        )  # fmt: skip

    def pending(self, rows: Iterable[tuple[str, int, float]], receivers: Iterable[str]) -> None:
        """Notes what waits; nothing, for a receiver that is not named."""
        known = {receiver: (count, age) for receiver, count, age in rows}
        for name in {*known, *receivers}:
            count, age = known.get(name, (0, 0.0))
            self._pending.labels(name).set(count)
            self._oldest.labels(name).set(age)

    def serve(self, port: int, host: str = "127.0.0.1") -> int:
        """Serves them; the port (0 takes a free one)."""
        server, _ = start_http_server(port, host, self.registry)
        return int(server.server_port)
