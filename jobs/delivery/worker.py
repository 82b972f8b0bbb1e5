"""The delivery worker: a task a receiver, so that a slow or dead one holds no other back.

What waits is in the outbox, not in memory: a receiver holds a few requests at most.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from psycopg2.extensions import cursor as Cursor  # noqa: N812

from jobs.delivery import outbox
from jobs.delivery.intake import Intake, receivers_of
from jobs.delivery.metrics import DeliveryMetrics
from jobs.delivery.outbox import Batch
from jobs.delivery.receivers import Receiver
from jobs.delivery.send import NotDeliveredError, Rate, Sender, backoff_s
from jobs.errors import UserError
from operators.pg import Session, StoreError

log = logging.getLogger(__name__)
T = TypeVar("T")
AT_ONCE = 4
"""Requests of one receiver at a time, each of another group."""
LOOK_EVERY_S = 0.5
"""How often a receiver looks for what has become due without being woken."""
CONFIGURED_EVERY_S = 2.0
LEAVE_S = 15.0
"""How long requests may still take when the worker ends."""


class Database:
    """The outbox for many tasks: one connection, one thread."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._thread = ThreadPoolExecutor(1, "alerts-outbox")

    async def do(self, work: Callable[[Cursor], T]) -> T:
        """What `work(cursor)` returns, once it is committed; waits while the database is away."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._session.transaction, work)

    def close(self) -> None:
        """Closes the connection after the work that has begun."""
        self._thread.submit(self._session.close)
        self._thread.shutdown(wait=False)


class Lane:
    """One receiver: claims what is due, sends, settles."""

    def __init__(self, receiver: Receiver, database: Database, metrics: DeliveryMetrics) -> None:
        self.receiver = receiver
        self.wake = asyncio.Event()
        self._database, self._metrics = database, metrics
        self._sender = Sender(receiver)
        self._rate = Rate(receiver.rate_per_minute)
        self._free = asyncio.Semaphore(AT_ONCE)
        self._sending: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`, then ends what has begun."""
        try:
            while not stop.is_set():
                if self._rate.delay_s():
                    await asyncio.sleep(min(LOOK_EVERY_S, self._rate.delay_s()))
                    continue
                await self._free.acquire()
                if stop.is_set():
                    break
                batch = await self._database.do(lambda cursor: outbox.claim(cursor, self.receiver))
                if batch is None:
                    self._free.release()
                    if await _wait(self.wake, LOOK_EVERY_S):
                        self.wake.clear()
                    continue
                self._rate.take()
                task = asyncio.create_task(self._deliver(batch))
                self._sending.add(task)
                task.add_done_callback(self._sending.discard)
                task.add_done_callback(_ended)
        finally:
            if self._sending:
                await asyncio.wait(self._sending, timeout=LEAVE_S)
            await self._sender.close()

    async def _deliver(self, batch: Batch) -> None:
        name, begun = self.receiver.name, time.monotonic()
        status, error, wait = "delivered", None, 0.0
        try:
            await self._sender.send(batch.batch_id, batch.group, batch.alerts)
        except NotDeliveredError as failure:
            error = str(failure)
            dead = batch.attempts >= self.receiver.attempts
            status, wait = ("dead", 0.0) if dead else ("pending", backoff_s(batch.attempts))
            log.warning(
                "receiver %s: %s (attempt %d, %d alerts): %s", name, error, batch.attempts, len(batch.alerts),
                "given up, see `energyai alerts dead`" if dead else f"again in {wait:.0f} s",
            )  # fmt: skip
        finally:
            self._free.release()
        self._metrics.seconds.labels(name).observe(time.monotonic() - begun)
        self._metrics.attempts.labels(name, "delivered" if status == "delivered" else "failed").inc()
        if status != "pending":
            self._metrics.alerts.labels(name, status).inc(len(batch.alerts))
        await self._database.do(lambda cursor: outbox.settle(cursor, batch, status, error, wait))
        self.wake.set()


class Worker:
    """All receivers, and the intake that feeds the outbox."""

    def __init__(self, kafka: str, database_url: str, topic: str = "alerts") -> None:
        """
        Args:
            kafka: bootstrap servers.
            database_url: libpq URL.
            topic: `alerts`, as it is called in this deployment.
        """
        self.metrics = DeliveryMetrics()
        self._kafka, self._database_url, self._topic = kafka, database_url, topic
        self._lanes: dict[str, tuple[Lane, asyncio.Task[None], asyncio.Event]] = {}
        self._leaving = threading.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Delivers until `stop`.

        Raises:
            UserError: the database has no tables, or turns the worker away.
        """
        database = Database(self._session())
        intake = Intake(self._kafka, self._topic, self._session(), self._woken_in(asyncio.get_running_loop()))
        leaves = asyncio.create_task(self._leave(stop))
        intake.start()
        try:
            while not stop.is_set():
                if not intake.is_alive():
                    raise UserError(f"topic {self._topic} is no longer read: {intake.error}")
                await self._configure(await database.do(receivers_of), database)
                self.metrics.pending(await database.do(outbox.pending), self._lanes)
                await _wait(stop, CONFIGURED_EVERY_S)
        except StoreError as error:
            if not stop.is_set():
                raise UserError(str(error)) from error
        finally:
            stop.set()
            intake.stop()
            await self._configure({}, database)
            await asyncio.get_running_loop().run_in_executor(None, intake.join, LEAVE_S)
            await leaves
            database.close()

    def _session(self) -> Session:
        def pause(seconds: float) -> None:
            if self._leaving.wait(seconds):
                raise StoreError("the worker ends while the database is away")

        return Session(self._database_url, sleep=pause)

    async def _leave(self, stop: asyncio.Event) -> None:
        """After `stop`, nobody waits for a database that is away."""
        await stop.wait()
        self._leaving.set()

    def _woken_in(self, loop: asyncio.AbstractEventLoop) -> Callable[[Mapping[str, int], int], None]:
        def woken(counts: Mapping[str, int], read: int) -> None:
            loop.call_soon_threadsafe(self._woken, counts, read)

        return woken

    def _woken(self, counts: Mapping[str, int], read: int) -> None:
        self.metrics.messages.inc(read)
        for name in counts:
            if name in self._lanes:
                self._lanes[name][0].wake.set()

    async def _configure(self, receivers: Mapping[str, Receiver], database: Database) -> None:
        """Ends the lanes of receivers that are gone or changed, and begins those that are new."""
        over = {
            name: (task, ended)
            for name, (lane, task, ended) in self._lanes.items()
            if receivers.get(name) != lane.receiver or task.done()
        }
        for name, (_, ended) in over.items():
            ended.set()
            self._lanes.pop(name)[0].wake.set()
        if over:
            await asyncio.wait([task for task, _ in over.values()], timeout=2 * LEAVE_S)
        for name, (task, _) in over.items():
            if task.done() and not task.cancelled() and task.exception() is not None and not self._leaving.is_set():
                log.error("receiver %s: %s; it begins anew", name, task.exception())
        for name, receiver in receivers.items():
            if receiver.enabled and name not in self._lanes:
                lane, ended = Lane(receiver, database, self.metrics), asyncio.Event()
                self._lanes[name] = (lane, asyncio.create_task(lane.run(ended)), ended)


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event came in time."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


def _ended(task: asyncio.Task[None]) -> None:
    """A request that could not be noted is made again when its claim has run out."""
    if not task.cancelled() and task.exception() is not None:
        log.warning("what became of a request cannot be noted: %s", task.exception())
