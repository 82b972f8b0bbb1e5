"""stack.json: what runs, where, and since when; written by the supervisor, read by everybody."""

from __future__ import annotations

import copy
import json
import threading
from pathlib import Path
from typing import Any

from infra.embedded import processes
from infra.embedded.options import write_atomic

FORMAT = 1


class StateFile:
    """The supervisor's side: each change is on disk at once."""

    def __init__(self, path: Path, **first: Any) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._state: dict[str, Any] = {"format": FORMAT, "parts": {}, **first}

    def set(self, **fields: Any) -> None:
        """Sets fields of the stack."""
        with self._lock:
            self._state.update(fields)
            self._write()

    def set_part(self, name: str, **fields: Any) -> None:
        """Sets fields of one part."""
        with self._lock:
            part = self._state["parts"].setdefault(name, {"restarts": 0})
            part.update(fields)
            self._write()

    def get(self) -> dict[str, Any]:
        """A copy of everything."""
        with self._lock:
            return copy.deepcopy(self._state)

    def _write(self) -> None:
        write_atomic(self._path, json.dumps(self._state, indent=1))


def read(path: Path) -> dict[str, Any]:
    """stack.json as it is; empty when there is none (or none that can be read)."""
    try:
        state = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) and state.get("format") == FORMAT else {}


def supervisor_alive(state: dict[str, Any]) -> bool:
    """Whether the supervisor that wrote the state still runs."""
    supervisor = state.get("supervisor") or {}
    return processes.is_same(supervisor.get("pid"), supervisor.get("started"))


def checked(state: dict[str, Any]) -> dict[str, Any]:
    """The state as it is now: what died without a word (kill -9, a power cut) is `down`."""
    state = copy.deepcopy(state)
    alive = supervisor_alive(state)
    if not alive:
        state["phase"] = "failed" if state.get("phase") == "failed" else "down"
    for part in state.get("parts", {}).values():
        if part.get("state") == "external":
            continue
        if not alive:
            part["state"] = "orphaned" if processes.is_same(part.get("pid"), part.get("started")) else "down"
        elif part.get("state") == "up" and not processes.is_same(part.get("pid"), part.get("started")):
            part["state"] = "restarting"
        if part["state"] == "down":
            part["pid"] = None
    return state


def is_up(state: dict[str, Any]) -> bool:
    """Whether everything runs."""
    return state.get("phase") == "up" and all(p.get("state") in ("up", "external") for p in state["parts"].values())
