"""Lanes of the delivery worker over an outbox in memory, and a worker that has neither brokers nor database."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from jobs.delivery import outbox
from jobs.delivery.metrics import DeliveryMetrics
from jobs.delivery.outbox import Batch
from jobs.delivery.receivers import Receiver
from jobs.delivery.worker import Database, Lane, Worker
from tests.catcher import LOCAL, catcher, message


class Shelf:
    """An outbox in memory: batches of a receiver, and what became of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.due: dict[str, list[Batch]] = {}
        self.settled: dict[str, list[tuple[str, str | None]]] = {}
        monkeypatch.setattr(outbox, "claim", self.claim)
        monkeypatch.setattr(outbox, "settle", self.settle)

    def put(self, receiver: str, n: int) -> None:
        batches = [Batch(f"{receiver}-{i}", {"site": str(i)}, [f"{i}"], [message(f"m{i}")], 1) for i in range(n)]
        self.due.setdefault(receiver, []).extend(batches)

    async def do(self, work: Callable[[Any], Any]) -> Any:
        return work(self)

    def claim(self, _: Any, receiver: Receiver) -> Batch | None:
        waiting = self.due.get(receiver.name)
        return waiting.pop(0) if waiting else None

    def settle(self, _: Any, batch: Batch, status: str, error: str | None = None, wait_s: float = 0.0) -> None:
        self.settled.setdefault(batch.batch_id.rpartition("-")[0], []).append((status, error))


def lane(shelf: Shelf, name: str, url: str, **more: Any) -> Lane:
    entry = {"receiver": name, "url": url, "allow_networks": LOCAL, "timeout": "3s", "rate_per_minute": 60_000} | more
    return Lane(Receiver.of(entry), cast(Database, shelf), DeliveryMetrics())


def test_who_hangs_holds_no_other_back(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf(monkeypatch)
    shelf.put("dead", 20)
    shelf.put("live", 20)

    async def run(dead_url: str, live_url: str) -> float:
        stop = asyncio.Event()
        lanes = [lane(shelf, "dead", dead_url), lane(shelf, "live", live_url)]
        tasks = [asyncio.create_task(each.run(stop)) for each in lanes]
        begun = time.monotonic()
        async with asyncio.timeout(60):
            while len(shelf.settled.get("live", [])) < 20:
                await asyncio.sleep(0.01)
        took = time.monotonic() - begun
        stop.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks)
        return took

    with catcher(lambda _: "hang") as hangs, catcher() as lives:
        assert asyncio.run(run(hangs.url, lives.url)) < 3, "before the first of the other has timed out"
    assert {status for status, _ in shelf.settled["live"]} == {"delivered"}
    assert shelf.settled["dead"][0] == ("pending", "no answer within 3 s"), "what had begun was ended and noted"
    assert len(hangs.requests) == 4, "so many at once, and no more"


def test_the_last_attempt_makes_a_dead_letter(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shelf = Shelf(monkeypatch)
    shelf.put("ops", 1)

    async def run(url: str) -> None:
        stop = asyncio.Event()
        one = lane(shelf, "ops", url, attempts=1)
        task = asyncio.create_task(one.run(stop))
        async with asyncio.timeout(30):
            while not shelf.settled:
                await asyncio.sleep(0.01)
        stop.set()
        await task

    with catcher(lambda _: "500") as fails, caplog.at_level(logging.WARNING):
        asyncio.run(run(fails.url))
    assert shelf.settled == {"ops": [("dead", "answered 500")]}
    assert "given up, see `energyai alerts dead`" in caplog.text


def test_a_worker_without_services_waits_and_ends_when_told() -> None:
    async def run() -> None:
        stop = asyncio.Event()
        worker = Worker("127.0.0.1:9", "postgresql://nobody@127.0.0.1:9/none")
        task = asyncio.create_task(worker.run(stop))
        await asyncio.sleep(1)
        assert not task.done()
        stop.set()
        async with asyncio.timeout(30):
            await task

    asyncio.run(run())
