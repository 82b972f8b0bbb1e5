"""Processes of one stack: started with a mark, found again by it, and stopped without ever touching another's.

A pid alone says little (the kernel gives it again), so a process is known by its pid and start time, and every process
that a stack starts, with all its descendants, carries the stack's folder in its environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

STACK_MARK = "ENERGYAI_STACK_DIR"
PART_MARK = "ENERGYAI_STACK_PART"


@dataclass(frozen=True)
class Command:
    """What to run: arguments, and what to add to the environment."""

    argv: list[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None


def start(command: Command, stack_dir: Path, part: str, output: Path) -> subprocess.Popen[bytes]:
    """Starts a part in a process group of its own, its output appended to the file `output`."""
    env = {**os.environ, **command.env, STACK_MARK: str(stack_dir), PART_MARK: part}
    with output.open("ab") as log:
        return subprocess.Popen(
            command.argv,
            env=env,
            cwd=command.cwd or stack_dir,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in a terminal is for the supervisor: it stops the parts in order
        )


def create_time(pid: int) -> float | None:
    """When the process started (epoch seconds); None when there is none."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


def is_same(pid: int | None, started: float | None) -> bool:
    """Whether `pid` is still the process that started at `started`, and is more than a zombie."""
    if not pid or not started:
        return False
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - started) < 0.05 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def owned(stack_dir: Path, part: str | None = None) -> list[psutil.Process]:
    """Living processes that carry this stack's mark (and this part's), without the calling one."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            env = process.environ()
            if env.get(STACK_MARK) == str(stack_dir) and part in (None, env.get(PART_MARK)):
                found.append(process)
        except (psutil.Error, OSError):  # gone meanwhile, or another user's
            continue
    return found


def stop(processes: Iterable[psutil.Process], grace_s: float) -> None:
    """Asks the processes to end, and kills those that have not after `grace_s` seconds."""
    living = list(processes)
    for sign, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 5.0)):
        for process in living:
            with suppress(psutil.Error):  # psutil checks the start time itself before it signals
                process.send_signal(sign)
        _, living = psutil.wait_procs(living, timeout=wait_s)
        if not living:
            return


def stop_popen(process: subprocess.Popen[bytes], grace_s: float) -> None:
    """The same for a child of ours, which is also reaped."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def tail(path: Path, lines: int = 3, width: int = 300) -> str:
    """The last lines of a log, for an error message."""
    try:
        text = path.read_bytes()[-8192:].decode(errors="replace")
    except OSError:
        return ""
    return " | ".join(line.strip()[:width] for line in text.strip().splitlines()[-lines:])


def rotate(path: Path, limit: int = 10_000_000) -> None:
    """Keeps one older copy of an output file that grew past `limit` bytes.

    Copied and cut, not renamed: the process keeps its descriptor, and appends at the new end.
    """
    try:
        if path.stat().st_size > limit:
            path.with_name(path.name + ".1").write_bytes(path.read_bytes())
            os.truncate(path, 0)
    except OSError:
        return


def wait_until_gone(pid: int, started: float, timeout_s: float) -> bool:
    """Waits until the process is no more; False when it still is after `timeout_s` seconds."""
    end = time.monotonic() + timeout_s
    while is_same(pid, started):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
