"""The supervisor process: starts the parts of one stack together, keeps them running, and stops them in order.

`python -m infra.embedded.supervisor OPTIONS.json`; `stack.Stack` starts it. It holds a lock on the data folder for as
long as it lives, so there is never a second one, and a killed one leaves nothing that needs tidying by hand.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import logging
import logging.handlers
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import IO, Any

from infra import database
from infra.embedded import artifacts, flink, kafka, processes, timescaledb, topics
from infra.embedded.errors import StackError
from infra.embedded.keeper import Keeper, Part
from infra.embedded.metrics import StackMetrics, write_targets
from infra.embedded.options import StackOptions
from infra.embedded.ports import HOST, load_or_assign
from infra.embedded.state import StateFile

log = logging.getLogger("infra.embedded.supervisor")

FAILED_STARTS = 3
"""After so many starts in a row that came to nothing, `up` gives up (a stack that was up once never does)."""
UP_WITHIN_S = 240.0
POLICIES_EVERY_S = 30.0
STOP_ORDER = (("taskmanager", "jobmanager"), ("kafka", "timescaledb", "zookeeper"))


class Supervisor:
    """One stack's life, from start to stop."""

    def __init__(self, options: StackOptions) -> None:
        self.options = options
        me = os.getpid()
        self.state = StateFile(
            options.state_file,
            phase="starting",
            supervisor={"pid": me, "started": processes.create_time(me)},
            data_dir=str(options.data_dir),
            versions=versions(),
        )
        self.keepers: dict[str, Keeper] = {}
        self.stopping = threading.Event()
        self.metrics = StackMetrics(self.state.get)
        self._migrated = threading.Event()
        self._giving_up = threading.Event()

    def run(self) -> int:
        """Starts, watches and stops; returns the process's exit code."""
        try:
            self._start()
            self._bring_up()
            self.state.set(phase="up", up_s=round(time.time() - self._began, 1))
            log.info("up")
        except StackError as error:
            if not self.stopping.is_set():
                log.error("%s", error)
                self._stop(error=str(error))
                return 1
        except Exception as error:
            log.exception("start failed")
            self._stop(error=f"{type(error).__name__}: {error}; see {self.options.logs / 'supervisor.log'}")
            return 1
        while not self.stopping.is_set():
            self._run_policies()
            self.stopping.wait(POLICIES_EVERY_S)
        self._stop()
        return 0

    def _start(self) -> None:
        self._began = time.time()
        options = self.options
        absent = artifacts.missing(options.home / "parts")
        if absent:
            raise StackError(f"{len(absent)} parts are not fetched yet ({absent[0]} …): run `make setup`")
        processes.stop(processes.owned(options.data_dir), grace_s=5)  # orphans of a killed supervisor
        temp = options.data_dir / "tmp"
        shutil.rmtree(temp, ignore_errors=True)  # left by processes that were killed
        temp.mkdir()
        ports = load_or_assign(options.data_dir / "ports.json", options.ports, self._port_names())
        write_targets(options.data_dir, ports)
        metrics_url = self.metrics.serve(ports["supervisor-metrics"])
        self.state.set(ports=ports, metrics_url=metrics_url, **self._addresses(ports))
        for part in self._parts(ports):
            keeper = Keeper(part, options.data_dir, options.logs, self.state.set_part)
            self.keepers[part.name] = keeper
            keeper.start()

    def _port_names(self) -> list[str]:
        names = ["supervisor-metrics"]
        if not self.options.kafka:
            names += ["kafka", "kafka-controller"]
        if not self.options.database_url:
            names += ["database"]
        if not self.options.flink_url:
            names += ["zookeeper", "flink", "jobmanager-metrics", "taskmanager-metrics"]
        return names

    def _addresses(self, ports: dict[str, int]) -> dict[str, str]:
        options = self.options
        return {
            "kafka": options.kafka or f"{HOST}:{ports['kafka']}",
            "database_url": options.database_url or timescaledb.url(ports["database"], "energyai_writer"),
            "flink_url": options.flink_url or f"http://{HOST}:{ports['flink']}",
        }

    def _parts(self, ports: dict[str, int]) -> list[Part]:
        options = self.options
        parts: list[Part] = []
        for name, external in (
            ("kafka", options.kafka),
            ("timescaledb", options.database_url),
            ("flink", options.flink_url),
        ):
            if external:
                self.state.set_part(name, state="external", pid=None, port=None)
        if not options.kafka:
            parts.append(kafka.part(options, ports))
        if not options.database_url:
            parts.append(timescaledb.part(options, ports))
        if options.flink_url:
            flink.Cluster(options, ports).prepare()  # for the clients
        else:
            parts += flink.parts(options, ports)
        return parts

    def _bring_up(self) -> None:
        """Waits for all the parts; topics and migrations follow their part at once."""
        jobs: list[Callable[[], None]] = [self._create_topics, self._migrate]
        jobs += [lambda name=name: self._wait_for(name) for name in self.keepers]  # type: ignore[misc]
        with ThreadPoolExecutor(len(jobs)) as pool:
            outcomes = [pool.submit(job) for job in jobs]
            wait(outcomes, return_when=FIRST_EXCEPTION)
            for outcome in outcomes:
                if outcome.done() and outcome.exception():
                    self._giving_up.set()  # the others need not wait for their part any longer
                    outcome.result()

    def _wait_for(self, name: str) -> None:
        keeper = self.keepers.get(name)
        if keeper is None:  # external
            return
        while not keeper.up.wait(0.1):
            late = time.time() - self._began > UP_WITHIN_S
            if self.stopping.is_set() or self._giving_up.is_set():
                raise StackError("stopped while starting")
            if late or keeper.failed_starts >= FAILED_STARTS:
                raise StackError(f"{name} does not start: {keeper.reason or 'no answer'}; see {keeper.output.parent}")

    def _create_topics(self) -> None:
        self._wait_for("kafka")
        made = topics.create(self.state.get()["kafka"], self.options.partitions)
        if made:
            log.info("topics created: %s", ", ".join(made))

    def _migrate(self) -> None:
        self._wait_for("timescaledb")
        try:
            done = database.migrate(self._owner_url())
            if not self.options.database_url:
                timescaledb.let_roles_log_in(self._owner_url())
        except database.DatabaseError as error:
            raise StackError(str(error)) from error
        if done:
            log.info("migrations: %s", ", ".join(done))
        self._migrated.set()

    def _owner_url(self) -> str:
        """Migrations create tables and roles: on the embedded database as its owner, elsewhere as the given user."""
        state = self.state.get()
        return self.options.database_url or timescaledb.url(state["ports"]["database"], "postgres")

    def _run_policies(self) -> None:
        """The embedded database has no background workers: refresh, compression and retention run from here."""
        keeper = self.keepers.get("timescaledb")
        if keeper is None or not keeper.up.is_set() or not self._migrated.is_set():
            return
        try:
            with self.metrics.policy_run() as count:
                ran = database.run_due_policies(self._owner_url())
                count(len(ran))
            log.info("policies run: %d", len(ran))
        except Exception:
            log.exception("policies; tried again in %.0f s", POLICIES_EVERY_S)

    def _stop(self, error: str | None = None) -> None:
        self.state.set(phase="failed" if error else "stopping", **({"error": error} if error else {}))
        for group in STOP_ORDER:
            going = [self.keepers[name] for name in group if name in self.keepers]
            for keeper in going:
                keeper.stop()
            for keeper in going:
                keeper.join(keeper.part.stop_within_s + 10)
        processes.stop(processes.owned(self.options.data_dir), grace_s=2)
        shutil.rmtree(self.options.data_dir / "tmp", ignore_errors=True)
        if not error:
            self.state.set(phase="down")
        self.metrics.close()
        log.info("stopped")


def versions() -> dict[str, str]:
    """What this stack is made of."""
    jar = next(jar for jar in artifacts.read_lock() if jar.coordinate.startswith("org.apache.kafka:kafka_"))
    return {
        "kafka": jar.coordinate.rpartition(":")[2],
        "flink": importlib.metadata.version("apache-flink"),
        "python": sys.version.split()[0],
    }


def hold_lock(path: Path) -> IO[str] | None:
    """The data folder's lock for this process's life; None when another supervisor holds it."""
    file = path.open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def _log_to(path: Path) -> None:
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=5_000_000, backupCount=2)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("kafka").setLevel(logging.ERROR)


def main(argv: list[str] | None = None) -> int:
    """Runs one stack until SIGTERM or SIGINT."""
    options = StackOptions.load(Path((argv or sys.argv[1:])[0]))
    options.logs.mkdir(parents=True, exist_ok=True)
    _log_to(options.logs / "supervisor.log")
    lock = hold_lock(options.lock_file)
    if lock is None:
        log.error("another supervisor holds %s", options.lock_file)
        return 4
    supervisor = Supervisor(options)

    def ask_to_stop(number: int, _frame: Any) -> None:
        log.info("signal %d", number)
        supervisor.stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, ask_to_stop)
    try:
        return supervisor.run()
    finally:
        lock.close()


if __name__ == "__main__":
    sys.exit(main())
