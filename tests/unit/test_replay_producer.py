"""Pace, progress and the summary, on a clock and a transport of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import numpy as np
import pytest

from jobs.replay import Progress, ReplayError, producer, send
from jobs.replay.batch import Batch, batch, empty
from jobs.replay.producer import paced


class Clock(threading.Event):
    """A stop event whose naps move a clock of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0

    def wait(self, timeout: float | None = None) -> bool:
        self.now += timeout or 0.0
        return self.is_set()

    def __call__(self) -> float:
        return self.now


class Memory:
    """A transport that keeps what it is given."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.messages: list[bytes] = []
        self.flushed = 0

    def put(self, keys: Iterable[bytes], messages: Iterable[bytes]) -> None:
        self.keys += keys
        self.messages += messages

    def flush(self) -> None:
        self.flushed = len(self.messages)

    def close(self) -> None:
        raise AssertionError("a transport of the caller's stays open")


def at(*seconds: float) -> Batch:
    return batch("m", (np.array(seconds) * 1000).astype(np.int64), np.ones(len(seconds)))


def test_each_reading_is_sent_when_it_is_due() -> None:
    clock = Clock()
    sent = [
        (stamp / 1000, clock.now - 100)
        for part in paced([at(10, 20), empty(), at(20, 70, 610)], speed=60, stop=clock, clock=clock)
        for stamp in part.ts_ms.tolist()
    ]
    assert [stamp for stamp, _ in sent] == [10, 20, 20, 70, 610]
    for stamp, when in sent:
        due = (stamp - 10) / 60
        assert due <= when + 1e-9 <= due + producer.TICK_S


def test_as_fast_as_it_goes_never_naps() -> None:
    clock = Clock()
    assert sum(len(part) for part in paced([at(*range(50))], None, stop=clock, clock=clock)) == 50
    assert clock.now == 100


def test_a_stop_ends_it_between_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer, "SLICE", 10)
    stop = threading.Event()
    memory = Memory()

    def on_progress(progress: Progress) -> None:
        if progress.readings >= 20:
            stop.set()

    summary = send([at(*range(100))], "nowhere:1", on_progress=on_progress, stop=stop, transport=memory)
    assert (summary.readings, summary.interrupted) == (20, True)
    assert memory.flushed == 20


def test_the_summary_counts_what_was_sent() -> None:
    memory = Memory()
    seen: list[Progress] = []
    two = batch(np.array(["a", "b"], dtype=object), np.array([0, 1_000]), np.ones(2))
    summary = send([two, at(5)], "nowhere:1", on_progress=seen.append, transport=memory)
    assert summary.as_dict() | {"seconds": 0} == {
        "readings": 3, "meters": 3, "first_ts": "1970-01-01T00:00:00Z", "last_ts": "1970-01-01T00:00:05Z",
        "seconds": 0, "interrupted": False,
    }  # fmt: skip
    assert memory.keys == [b"a", b"b", b"m"]
    assert [progress.readings for progress in seen] == [2, 3]


def test_nothing_to_send() -> None:
    summary = send([], "nowhere:1", transport=Memory())
    assert (summary.readings, summary.meters, summary.first_ts) == (0, 0, None)


def test_no_broker_is_one_line_that_says_what_to_do() -> None:
    with pytest.raises(ReplayError, match=r"127\.0\.0\.1:1 does not answer.*energyai up.*ENERGYAI_KAFKA") as caught:
        send([at(1)], "127.0.0.1:1")
    assert "\n" not in str(caught.value)
