"""Keeps one part of the stack running: start, wait until it answers, watch, restart with backoff."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.embedded import processes
from infra.embedded.processes import Command

log = logging.getLogger(__name__)

POLL_S = 0.2
HEALTH_EVERY_S = 5.0
# On a busy laptop a healthy JVM may not answer for a while: a restart too many costs more than a minute's wait.
UNHEALTHY_S = 90.0
BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STABLE_S = 60.0
"""A part that stayed up this long begins again at the shortest backoff."""


@dataclass(frozen=True)
class Part:
    """One process of the stack and how to tell that it works."""

    name: str
    port: int
    command: Callable[[], Command]
    """Writes what configuration the process needs and says how to run it; called before each start."""
    healthy: Callable[[], bool]
    """Whether it answers now; quick, and False instead of an error."""
    ready_within_s: float = 90.0
    stop_within_s: float = 15.0


class Keeper(threading.Thread):
    """Runs one `Part` until told to stop; reports each change through `report(name, **fields)`."""

    def __init__(self, part: Part, stack_dir: Path, logs: Path, report: Callable[..., None]) -> None:
        super().__init__(name=part.name, daemon=True)
        self.part = part
        self.output = logs / f"{part.name}.out"
        self.up = threading.Event()
        self.failed_starts = 0
        self.reason = ""
        self._stack_dir = stack_dir
        self._report = report
        self._halt = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._restarts = 0

    def run(self) -> None:
        backoff = 0
        while not self._halt.is_set():
            begun = time.monotonic()
            try:
                self._start_once()
                if self._became_ready(begun):
                    self._watch()
            except Exception as error:  # whatever it is, the part must be tried again
                log.exception("%s", self.part.name)
                self.reason = f"{type(error).__name__}: {error}"
            self._end()
            if self._halt.is_set():
                break
            backoff = 0 if time.monotonic() - begun > STABLE_S else backoff
            delay = BACKOFF_S[min(backoff, len(BACKOFF_S) - 1)]
            backoff += 1
            self._restarts += 1
            log.warning("%s %s; again in %.1f s", self.part.name, self.reason, delay)
            self._tell(state="restarting", pid=None, restarts=self._restarts, reason=self.reason)
            self._halt.wait(delay)
        self._tell(state="stopped", pid=None)

    def stop(self) -> None:
        """Tells the part to end; `join` waits until it has."""
        self._halt.set()

    def _tell(self, **fields: Any) -> None:
        self._report(self.part.name, **fields)

    def _start_once(self) -> None:
        # What an earlier life of this part left behind (Python workers of a killed TaskManager hold 200 MB each).
        processes.stop(processes.owned(self._stack_dir, self.part.name), grace_s=2)
        self._tell(state="starting", pid=None, port=self.part.port)
        command = self.part.command()
        self._process = processes.start(command, self._stack_dir, self.part.name, self.output)
        pid = self._process.pid
        self._tell(pid=pid, started=processes.create_time(pid))
        log.info("%s started, pid %d", self.part.name, pid)

    def _became_ready(self, begun: float) -> bool:
        while not self._halt.wait(POLL_S):
            if self._exited():
                break
            if self.part.healthy():
                self.failed_starts = 0
                ready_s = round(time.monotonic() - begun, 1)
                log.info("%s up after %.1f s", self.part.name, ready_s)
                self._tell(state="up", ready_s=ready_s)
                self.up.set()
                return True
            if time.monotonic() - begun > self.part.ready_within_s:
                self.reason = f"did not answer within {self.part.ready_within_s:.0f} s"
                break
        self.failed_starts += 1
        return False

    def _watch(self) -> None:
        answered = checked = time.monotonic()
        while not self._halt.wait(POLL_S):
            if self._exited():
                return
            now = time.monotonic()
            if now - checked < HEALTH_EVERY_S:
                continue
            checked = now
            processes.rotate(self.output)
            if self.part.healthy():
                answered = now
            elif now - answered > UNHEALTHY_S:
                self.reason = f"has not answered for {UNHEALTHY_S:.0f} s"
                return

    def _exited(self) -> bool:
        if self._process is None or self._process.poll() is None:
            return False
        code = self._process.returncode
        how = f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
        self.reason = f"{how} ({processes.tail(self.output)})" if code > 0 else how
        return True

    def _end(self) -> None:
        self.up.clear()
        if self._process is not None:
            processes.stop_popen(self._process, self.part.stop_within_s)
            self._process = None
        if self._halt.is_set():
            processes.stop(processes.owned(self._stack_dir, self.part.name), grace_s=2)
