"""The demo's live display: a table on a terminal, a plain line now and then elsewhere. It writes to stderr."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import Any

from jobs import demo_counts
from jobs.settings import Addresses

PLAIN_EVERY_S = 5.0
RATE_OVER = 10


class Display:
    """Shows how far the jobs are; a context manager."""

    def __init__(self, where: Addresses, *, quiet: bool) -> None:
        self._where = where
        self._quiet = quiet
        self._begun = time.monotonic()
        self._said = 0.0
        self._seen: deque[tuple[float, int]] = deque(maxlen=RATE_OVER)
        self._live: Any = None

    def __enter__(self) -> Display:
        if not self._quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), refresh_per_second=2, transient=False)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, sent: int, event_time: str, *, replaying: bool = True) -> None:
        """Counts and shows.

        Args:
            sent: readings put on the topic so far.
            event_time: of the newest of them.
            replaying: whether more will come.
        """
        if self._quiet:
            return
        counts = demo_counts.stored(self._where.database_url)
        rows = counts.rows
        done = rows["readings_stored"] + rows["readings_rejected"]
        now = time.monotonic()
        self._seen.append((now, done))
        then, before = self._seen[0]
        rate = (done - before) / (now - then) if now > then else 0.0
        fields = {
            "readings sent": f"{sent:,}" + ("" if replaying else " (all)"),
            "readings stored": f"{rows['readings_stored']:,}",
            "readings rejected": f"{rows['readings_rejected']:,}",
            "readings/s stored": f"{rate:,.0f}",
            "behind": f"{max(0, sent - done):,} readings (repeats among them)",
            "event time sent": event_time,
            "event time stored": counts.newest_reading,
            "forecasts": f"{rows['forecasts']:,}",
            "newest forecast": counts.newest_issue or "(after 168 h of readings)",
            "anomalies, alerts": f"{rows['anomalies']:,}, {rows['alerts']:,}",
            "setpoints (shadow)": f"{rows['setpoints']:,}",
        }
        if self._live is not None:
            self._live.update(self._table(fields))
        elif now - self._said > PLAIN_EVERY_S:
            self._said = now
            print(
                f"{now - self._begun:5.0f} s  " + "; ".join(f"{k} {v}" for k, v in fields.items()),
                file=sys.stderr,
                flush=True,
            )

    def _table(self, fields: dict[str, str]) -> Any:
        from rich.table import Table

        table = Table(
            title="EnergyAI demo: real-… are measured homes, sim-… are generated",
            title_justify="left",
            box=None,
            show_header=False,
        )
        table.add_column(style="dim")
        table.add_column()
        for name, value in fields.items():
            table.add_row(name, value)
        table.add_row("", "")
        table.add_row("Flink Web UI", self._where.flink_url)
        table.add_row("database", f"psql {self._where.database_url}")
        table.add_row("stop", "Ctrl-C; the data stays")
        return table
