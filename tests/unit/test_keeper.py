"""A kept process comes back when it dies or falls silent, and only a stack's own processes are ever ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from infra.embedded import keeper, processes
from infra.embedded.keeper import Keeper, Part
from infra.embedded.processes import Command
from infra.embedded.state import StateFile, checked, is_up

SLEEPER = "import time; time.sleep(60)"


def until(condition: Callable[[], Any], within_s: float = 20.0) -> Any:
    """Waits for a condition; its value."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {within_s} s")


@pytest.fixture
def state(tmp_path: Path) -> StateFile:
    return StateFile(tmp_path / "stack.json", phase="up")


@pytest.fixture
def keep(tmp_path: Path, state: StateFile) -> Iterator[Callable[..., Keeper]]:
    started: list[Keeper] = []

    def start(code: str = SLEEPER, healthy: Callable[[], bool] = lambda: True, **fields: Any) -> Keeper:
        part = Part("probe", 0, lambda: Command([sys.executable, "-c", code]), healthy, **fields)
        kept = Keeper(part, tmp_path, tmp_path, state.set_part)
        kept.start()
        started.append(kept)
        return kept

    yield start
    for kept in started:
        kept.stop()
    for kept in started:
        kept.join(20)
        assert not kept.is_alive()
    assert processes.owned(tmp_path) == []


def pid_of(state: StateFile) -> int | None:
    part = state.get()["parts"].get("probe", {})
    return part.get("pid") if part.get("state") == "up" else None


def test_a_killed_process_comes_back_with_a_new_pid(keep: Callable[..., Keeper], state: StateFile) -> None:
    keep()
    first = until(lambda: pid_of(state))
    os.kill(first, signal.SIGKILL)
    second = until(lambda: pid_of(state) not in (None, first) and pid_of(state))
    part = state.get()["parts"]["probe"]
    assert part["restarts"] == 1
    assert part["reason"] == "was killed by signal 9"
    assert psutil.pid_exists(second)


def test_children_of_a_killed_process_are_ended_before_it_starts_again(
    keep: Callable[..., Keeper], state: StateFile, tmp_path: Path
) -> None:
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]); time.sleep(60)"
    keep(code)
    first = until(lambda: pid_of(state))
    (child,) = until(lambda: psutil.Process(first).children())
    os.kill(first, signal.SIGKILL)
    until(lambda: pid_of(state) not in (None, first))
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_one_that_exits_at_once_is_counted_and_its_last_words_are_kept(keep: Callable[..., Keeper]) -> None:
    kept = keep("raise SystemExit('port taken')", healthy=lambda: False)
    until(lambda: kept.failed_starts >= 2)
    assert kept.reason.startswith("exited with code 1 (port taken")
    assert not kept.up.is_set()


def test_one_that_never_answers_is_started_again(keep: Callable[..., Keeper]) -> None:
    kept = keep(healthy=lambda: False, ready_within_s=0.3)
    until(lambda: kept.failed_starts >= 1)
    assert kept.reason == "did not answer within 0 s"


def test_one_that_falls_silent_is_started_again(
    keep: Callable[..., Keeper], state: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "HEALTH_EVERY_S", 0.1)
    monkeypatch.setattr(keeper, "UNHEALTHY_S", 0.5)
    silent: set[int] = set()
    keep(healthy=lambda: (state.get()["parts"]["probe"].get("pid") or 0) not in silent)
    first = until(lambda: pid_of(state))
    silent.add(first)
    until(lambda: pid_of(state) not in (None, first))
    assert "has not answered" in state.get()["parts"]["probe"]["reason"]


def test_a_configuration_that_cannot_be_written_is_tried_again(state: StateFile, tmp_path: Path) -> None:
    failures = [OSError("disk full")]

    def command() -> Command:
        if failures:
            raise failures.pop()
        return Command([sys.executable, "-c", SLEEPER])

    kept = Keeper(Part("probe", 0, command, lambda: True), tmp_path, tmp_path, state.set_part)
    kept.start()
    until(lambda: pid_of(state))
    assert state.get()["parts"]["probe"]["reason"] == "OSError: disk full"
    kept.stop()
    kept.join(20)
    assert state.get()["parts"]["probe"]["state"] == "stopped"


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )
    child = processes.start(Command([sys.executable, "-c", code]), tmp_path, "deaf", tmp_path / "out")
    until(lambda: (tmp_path / "out").read_text().startswith("ready"))
    processes.stop_popen(child, grace_s=0.3)
    assert child.returncode == -signal.SIGKILL


def test_only_processes_of_this_stack_are_its_own(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    children = []
    for folder in (one, other):
        folder.mkdir()
        children.append(processes.start(Command([sys.executable, "-c", SLEEPER]), folder, "p", folder / "out"))
    unmarked = subprocess.Popen([sys.executable, "-c", SLEEPER])
    try:
        assert [p.pid for p in until(lambda: processes.owned(one))] == [children[0].pid]
        processes.stop(processes.owned(one), grace_s=5)
        assert children[0].wait(5) is not None
        assert children[1].poll() is None
        assert unmarked.poll() is None
    finally:
        for child in (*children, unmarked):
            child.kill()
            child.wait()


def test_a_pid_that_was_given_to_another_process_is_not_ours() -> None:
    me = os.getpid()
    assert processes.is_same(me, processes.create_time(me))
    assert not processes.is_same(me, 1.0)
    assert not processes.is_same(None, None)


def test_a_stack_whose_supervisor_is_gone_is_down(tmp_path: Path) -> None:
    me = os.getpid()
    mine = processes.create_time(me)
    part = {"state": "up", "pid": me, "started": mine, "restarts": 0}
    state: dict[str, Any] = {"phase": "up", "supervisor": {"pid": me, "started": mine}, "parts": {"kafka": part}}
    assert is_up(checked(state))
    killed = {**state, "supervisor": {"pid": me, "started": 1.0}}
    assert checked(killed)["phase"] == "down"
    assert checked(killed)["parts"]["kafka"]["state"] == "orphaned"
    assert not is_up(checked({**state, "parts": {"kafka": {**part, "started": 1.0}}}))


def test_a_large_output_file_is_cut_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with path.open("ab") as file:
        file.write(b"x" * 100)
        file.flush()
        processes.rotate(path, limit=50)
        file.write(b"after")
    assert path.read_bytes() == b"after"
    assert (tmp_path / "out.1").stat().st_size == 100
