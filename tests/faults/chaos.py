"""Does to a running stack and its jobs what a schedule says."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psutil
import psycopg2

from infra.embedded import timescaledb
from infra.embedded.stack import Stack
from jobs.errors import UserError
from jobs.flink_rest import ENDED, FlinkRest
from jobs.submission import submit
from tests.faults.schedule import KILLS, Fault
from tests.pipeline import Deployment

WITHIN_S = 600.0
FILLED = ("energy_slot", "series_state", "forecast_issue", "rejected_reading")
"""Tables of which each writer writes at least one: where they refuse, nothing can be stored."""
FULL = """
CREATE OR REPLACE FUNCTION energyai_test_full() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full';
END $$"""


def until(
    condition: Callable[[], Any],
    what: str | Callable[[], str],
    within_s: float = WITHIN_S,
    abandoned: threading.Event | None = None,
) -> Any:
    """The condition's value, once it is true; `what` says what was waited for, `abandoned` ends the wait."""
    deadline = time.monotonic() + within_s
    pause = abandoned or threading.Event()
    while not (found := condition()):
        if time.monotonic() > deadline or pause.is_set():
            raise AssertionError(f"{what if isinstance(what, str) else what()}: not within {within_s:.0f} s")
        pause.wait(0.5)
    return found


@contextmanager
def told(what: str) -> Iterator[None]:
    """Prints an error that another try may not meet."""
    try:
        yield
    except (UserError, psycopg2.Error) as error:
        print(f"{what}: {error}")


class Chaos:
    """The faults of one schedule, on a deployment whose jobs run."""

    def __init__(self, stack: Stack, deployment: Deployment, jobs: dict[str, str], options: Sequence[str] = ()) -> None:
        """
        Args:
            stack: that runs.
            deployment: of the jobs.
            jobs: name → id of those that run.
            options: of theirs, besides the deployment's own.
        """
        self.stack = stack
        self.deployment = deployment
        self.jobs = dict(jobs)
        self.options = options
        self.flink = FlinkRest(deployment.where.flink_url)
        self._abandoned = threading.Event()

    def run(self, fault: Fault) -> None:
        """One fault; returns when it has happened, not when the stack has recovered."""
        if fault.what in KILLS:
            self._kill(fault.what)
        elif fault.what.startswith("restart-"):
            self.restart(fault.what.removeprefix("restart-"), fault.parallelism)
        else:
            trouble = {
                "database-stopped": self._stopped,
                "database-locked": self._locked,
                "disk-full": self._full,
            }[fault.what]
            with trouble():
                self._abandoned.wait(fault.seconds)

    def abandon(self) -> None:
        """Ends the faults that are under way in other threads."""
        self._abandoned.set()

    def restart(self, job: str, parallelism: int) -> None:
        """Stops a job with a savepoint, and goes on from it."""
        where = self.deployment
        options = [*where.options, *self.options, "--parallelism", str(parallelism), "--savepoint", self.stop(job)]

        def submitted() -> dict[str, str] | None:
            with told(f"{job} not submitted yet"):  # a part that it asks before it submits is away
                return submit(where.settings, where.where, (job,), options)
            return None

        self.jobs |= self._until(submitted, f"{job} is submitted")

    def stop(self, job: str) -> str:
        """Stops a job with a savepoint, as soon as it is well enough for that; where the savepoint is."""

        def stopped() -> str | None:
            if self._state(job) != "RUNNING":
                return None
            with told(f"{job} not stopped yet"):  # a task of it is starting again, or the JobManager is away
                return self.flink.savepoint(self.jobs[job], stop=True)
            return None

        return str(self._until(stopped, f"{job} stops"))

    def end(self) -> None:
        """Cancels what still runs."""
        for job_id in self.jobs.values():
            with suppress(UserError):
                self.flink.cancel_if_running(job_id)

    def states(self) -> dict[str, str]:
        """Each job's state, and why it failed if it did."""
        states = {name: self._state(name) for name in self.jobs}
        return {
            name: state if state != "FAILED" else f"FAILED: {self.flink.cause(self.jobs[name])}"
            for name, state in states.items()
        }

    def _until(self, condition: Callable[[], Any], what: str) -> Any:
        return until(condition, what, abandoned=self._abandoned)

    def _state(self, job: str) -> str:
        try:
            state = self.flink.state(self.jobs[job])
        except UserError as error:
            return f"unknown ({error})"
        assert state not in ENDED, f"{job} ended by itself: {state}: {self.flink.cause(self.jobs[job])}"
        return state

    def _kill(self, what: str) -> None:
        process = self._until(lambda: self._process(what), f"a process of {what}")
        with suppress(psutil.NoSuchProcess):  # it died by itself: its part was killed just before
            process.kill()

    def _process(self, what: str) -> psutil.Process | None:
        """The process that a kill is for, once there is one."""
        part = {"worker": "taskmanager", "database": "timescaledb", "gate": "timescaledb"}.get(what, what)
        pid = self.stack.status()["parts"][part]["pid"]
        try:
            owner = psutil.Process(pid) if pid else None
            if owner is None or what not in ("worker", "database"):
                return owner
            children = owner.children(recursive=True)
            wanted = [child for child in children if what != "worker" or child.name().startswith("python")]
            return wanted[-1] if wanted else None
        except psutil.NoSuchProcess:
            return None

    @contextmanager
    def _stopped(self) -> Iterator[None]:
        """The database process neither works nor dies."""
        process = self._until(lambda: self._process("database"), "a database process")
        os.kill(process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Another session holds the tables."""

        def locked() -> Any:
            with told("no lock yet"):
                connection = self._connect()
                with connection.cursor() as cursor:
                    cursor.execute("BEGIN; LOCK TABLE reading, series_state, forecast_issue IN ACCESS EXCLUSIVE MODE")
                return connection
            return None

        connection = self._until(locked, "a lock")
        try:
            yield
        finally:
            connection.close()

    @contextmanager
    def _full(self) -> Iterator[None]:
        """No table takes a row: what a full disk answers."""
        drop = [f"DROP TRIGGER IF EXISTS energyai_test_full ON {table}" for table in FILLED]
        create = [
            f"CREATE TRIGGER energyai_test_full BEFORE INSERT OR UPDATE ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION energyai_test_full()"
            for table in FILLED
        ]
        self._as_owner(FULL, *drop, *create)
        try:
            yield
        finally:
            self._as_owner(*drop)

    def _as_owner(self, *statements: str) -> None:
        def run() -> bool:
            with told("the owner tries again"):  # the database was killed just before
                connection = self._connect()
                try:
                    with connection.cursor() as cursor:
                        for statement in statements:
                            cursor.execute(statement)
                finally:
                    connection.close()
                return True
            return False

        self._until(run, "the database does as its owner says")

    def _connect(self) -> Any:
        """As the owner of all tables."""
        port = self.stack.status()["parts"]["timescaledb"]["port"]
        connection = psycopg2.connect(timescaledb.url(port, "postgres"), connect_timeout=10)
        connection.autocommit = True
        return connection
