"""Delivery order over sources of any size: a merge of ordered ones, and a sort of an unordered one."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from jobs.replay.batch import Batch, concat, empty

SORTED_AT_ONCE = 500_000
"""Readings that are sorted in memory; beyond that, sorted runs of so many are spilled to disk and merged."""
RUN_BLOCK = 50_000
"""Readings of a spilled run that are in memory at a time."""


@dataclass(frozen=True)
class Ordered:
    """A source for `merge`, opened no earlier than its first message is due."""

    first_ms: int
    """No message of it is delivered before this."""
    open: Callable[[], Iterator[Batch]]
    """Its messages in delivery order."""


@dataclass
class _Stream:
    blocks: Iterator[Batch]
    held: Batch = field(default_factory=empty)
    live: bool = True

    def pull(self) -> None:
        """Appends the next block that is not empty, or finds that there is none."""
        for b in self.blocks:
            if len(b):
                self.held = concat([self.held, b]) if len(self.held) else b
                return
        self.live = False

    def give(self, bound: int | None) -> Batch:
        """Takes out what is delivered before `bound`; all, if None."""
        cut = len(self.held) if bound is None else int(np.searchsorted(self.held.deliver_ms, bound, side="left"))
        given, self.held = self.held.take(slice(0, cut)), self.held.take(slice(cut, None))
        return given


def merge(sources: Sequence[Ordered]) -> Iterator[Batch]:
    """All messages of `sources` in delivery order; of those of one time, an earlier source's come first.

    Holds about one block of each source that is open, and opens one when its time has come.
    """
    if len(sources) == 1:
        yield from sources[0].open()
        return
    waiting = sorted(enumerate(sources), key=lambda item: item[1].first_ms)
    streams: dict[int, _Stream] = {}
    while waiting or streams:
        if waiting and not any(stream.live for stream in streams.values()):
            index, source = waiting.pop(0)
            streams[index] = _Stream(source.open())
        for stream in streams.values():
            if stream.live and not len(stream.held):
                stream.pull()
        ends = [int(stream.held.deliver_ms[-1]) for stream in streams.values() if stream.live]
        while waiting and ends and waiting[0][1].first_ms <= min(ends):
            index, source = waiting.pop(0)
            streams[index] = opened = _Stream(source.open())
            opened.pull()
            if opened.live:
                ends.append(int(opened.held.deliver_ms[-1]))
        # Nothing still to come is due before this; a source at the bound may add to that very time.
        bounds = ends + [source.first_ms for _, source in waiting[:1]]
        bound = min(bounds, default=None)
        given = [stream.give(bound) for _, stream in sorted(streams.items())]
        ready = [b for b in given if len(b)]
        if ready:
            yield concat(ready).by_delivery()
        for stream in streams.values():
            if stream.live and int(stream.held.deliver_ms[-1]) == bound:
                stream.pull()
        streams = {index: stream for index, stream in streams.items() if stream.live or len(stream.held)}


def time_ordered(blocks: Iterable[Batch]) -> Iterator[Batch]:
    """The messages of `blocks`, which are in any order, in delivery order; more than fit in memory go by disk."""
    held: list[Batch] = []
    count = 0
    with tempfile.TemporaryDirectory(prefix="energyai-sort-") as folder:
        runs: list[Ordered] = []
        for b in blocks:
            held.append(b)
            count += len(b)
            if count >= SORTED_AT_ONCE:
                runs.append(_spill(concat(held).by_delivery(), Path(folder) / f"run-{len(runs)}"))
                held, count = [], 0
        if count and not runs:
            yield concat(held).by_delivery()
            return
        if count:
            runs.append(_spill(concat(held).by_delivery(), Path(folder) / f"run-{len(runs)}"))
        yield from merge(runs)


def _spill(run: Batch, path: Path) -> Ordered:
    with path.open("wb") as file:
        for start in range(0, len(run), RUN_BLOCK):
            pickle.dump(run.take(slice(start, start + RUN_BLOCK)), file, protocol=pickle.HIGHEST_PROTOCOL)
    return Ordered(int(run.deliver_ms[0]), partial(_run_blocks, path))


def _run_blocks(path: Path) -> Iterator[Batch]:
    size = path.stat().st_size
    with path.open("rb") as file:
        while file.tell() < size:
            yield pickle.load(file)  # our own file, of a folder that only we can write
