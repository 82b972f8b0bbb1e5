"""What a tree of processes uses: CPU seconds and memory, by sampling it and all that descends from it."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import numpy as np
import psutil

CPU_EVERY_S = 0.25
MEMORY_EVERY_S = 1.0


class Watch(threading.Thread):
    """Samples from `with` to its end. A process that ended counts with what it had used when it was last seen."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(root)
        self._used: dict[tuple[int, float], float] = {}
        self._over = threading.Event()
        self._at: list[float] = []
        self._cpu: list[float] = []
        self.peak_bytes = 0
        """Largest proportional set size (a shared page counted once) of the whole tree."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._over.set()
        self.join()

    def run(self) -> None:
        """Until the `with` ends."""
        memory_at = 0.0
        while True:
            over = self._over.is_set()
            tree = self._tree()
            self._sample_cpu(tree)
            if time.monotonic() >= memory_at:
                memory_at = time.monotonic() + MEMORY_EVERY_S
                self.peak_bytes = max(self.peak_bytes, sum(map(_pss, tree)))
            if over:
                return
            self._over.wait(CPU_EVERY_S)

    def cpu_s(self, since: float | None = None, until: float | None = None) -> float:
        """CPU seconds between two moments (epoch seconds), in between of samples by a straight line."""
        begin = self._at[0] if since is None else since
        end = self._at[-1] if until is None else until
        return float(np.interp(end, self._at, self._cpu) - np.interp(begin, self._at, self._cpu))

    def _tree(self) -> list[psutil.Process]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.Error:
            return []

    def _sample_cpu(self, tree: list[psutil.Process]) -> None:
        for process in tree:
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    self._used[process.pid, process.create_time()] = times.user + times.system
            except psutil.Error:
                continue
        self._at.append(time.time())
        self._cpu.append(sum(self._used.values()))


def _pss(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0
