"""The embedded stack from a program: `Stack(StackOptions(folder)).up()`, `.down()`, `.status()`."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from infra.embedded import flink, processes, state
from infra.embedded.errors import StackError
from infra.embedded.options import PROJECT_ROOT, StackOptions
from infra.embedded.supervisor import hold_lock

Progress = Callable[[dict[str, Any]], None]
UP_WITHIN_S = 300.0
DOWN_WITHIN_S = 60.0


class Stack:
    """One stack, known by its data folder."""

    def __init__(self, options: StackOptions) -> None:
        self.options = options

    def status(self) -> dict[str, Any]:
        """What runs now.

        `phase` (`down`, `starting`, `up`, `stopping`, `failed`), `kafka`, `database_url`, `flink_url`, `metrics_url`,
        and `parts`: name → `state`, `pid`, `port`, `restarts`.
        """
        found = state.read(self.options.state_file)
        if not found:
            return {
                "phase": "down",
                "kafka": None,
                "database_url": None,
                "flink_url": None,
                "metrics_url": None,
                "parts": {},
            }
        return state.checked(found)

    def up(self, progress: Progress | None = None) -> dict[str, Any]:
        """Starts the stack (or finds it up, or waits for one that is starting) and returns its status.

        Interrupted (Ctrl-C), it stops what it started.

        Raises:
            StackError: a part does not start; all the others are stopped again.
        """
        if self._is_supervised():
            return self._wait_up(None, progress)
        child = self._spawn()
        try:
            return self._wait_up(child, progress)
        except BaseException:
            self._stop_supervisor(child.pid, processes.create_time(child.pid))
            raise

    def foreground(self) -> int:
        """Runs the supervisor in this process until it is told to stop; returns its exit code."""
        from infra.embedded import supervisor

        if self._is_supervised():
            raise StackError(f"a stack already runs in {self.options.data_dir}: `energyai down` first")
        return supervisor.main([str(self._save_options())])

    def down(self) -> bool:
        """Stops everything, in order; False when nothing ran. Data and ports stay.

        Raises:
            StackError: a process does not even end when killed.
        """
        found = state.read(self.options.state_file)
        ran = False
        if state.supervisor_alive(found):
            ran = True
            self._stop_supervisor(found["supervisor"]["pid"], found["supervisor"]["started"])
        left = processes.owned(self.options.data_dir)  # of a supervisor that was killed
        if left:
            ran = True
            processes.stop(left, grace_s=10)
        left = processes.owned(self.options.data_dir)
        if left:
            raise StackError(f"still running after SIGKILL: {', '.join(str(p.pid) for p in left)}")
        return ran

    @contextmanager
    def running(self) -> Iterator[dict[str, Any]]:
        """`up`, and `down` at the end, whatever happens between."""
        status = self.up()
        try:
            yield status
        finally:
            self.down()

    def flink_env(self) -> dict[str, str]:
        """Environment of a client (`python job.py`, `flink run`) of this stack's cluster, embedded or external."""
        return flink.Cluster(self.options, state.read(self.options.state_file).get("ports", {})).env()

    @property
    def flink_command(self) -> Path:
        """The `flink` command of this stack's cluster."""
        return self.options.data_dir / "flink" / "bin" / "flink"

    def _is_supervised(self) -> bool:
        if not self.options.lock_file.exists():
            return False
        lock = hold_lock(self.options.lock_file)
        if lock is None:
            return True
        lock.close()
        return False

    def _save_options(self) -> Path:
        self.options.logs.mkdir(parents=True, exist_ok=True)
        path = self.options.data_dir / "options.json"
        self.options.save(path)
        return path

    def _spawn(self) -> subprocess.Popen[bytes]:
        try:
            options = self._save_options()
            self.options.state_file.unlink(missing_ok=True)  # of an earlier life: its `failed` must not be read now
        except OSError as error:
            raise StackError(
                f"{self.options.data_dir} cannot be written ({error}): choose another --data-dir"
            ) from error
        argv = [sys.executable, "-m", "infra.embedded.supervisor", str(options)]
        command = processes.Command(argv, cwd=PROJECT_ROOT)
        return processes.start(command, self.options.data_dir, "supervisor", self.options.logs / "supervisor.out")

    def _wait_up(self, child: subprocess.Popen[bytes] | None, progress: Progress | None) -> dict[str, Any]:
        end = time.monotonic() + UP_WITHIN_S
        while time.monotonic() < end:
            found = state.read(self.options.state_file)
            if found and progress:
                progress(found)
            if found.get("phase") == "up":
                return state.checked(found)
            if found.get("phase") == "failed":
                raise StackError(found.get("error") or "the stack did not start")
            gone = child.poll() is not None if child else not self._is_supervised()
            if gone:
                if child and child.returncode == 4:  # another `up` was quicker: wait for its stack
                    child = None
                    continue
                why = processes.tail(self.options.logs / "supervisor.out") or "it was stopped"
                raise StackError(f"the stack did not start: {why}; see {self.options.logs}")
            time.sleep(0.1)
        raise StackError(f"the stack is not up after {UP_WITHIN_S:.0f} s; see {self.options.logs}")

    def _stop_supervisor(self, pid: int, started: float | None) -> None:
        if started is None or not processes.is_same(pid, started):
            return
        try:
            supervisor = psutil.Process(pid)
            supervisor.terminate()
        except psutil.NoSuchProcess:
            return
        if not processes.wait_until_gone(pid, started, DOWN_WITHIN_S):
            processes.stop([supervisor, *processes.owned(self.options.data_dir)], grace_s=0)
