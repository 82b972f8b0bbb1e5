"""The embedded database loses and mixes nothing: many clients, killed clients, killed processes, the second start."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from gate_support import GateHandle, start_gate, wait_until
from psycopg2.extras import execute_values

pytestmark = pytest.mark.integration

WRITERS, READERS = 8, 4
ACCOUNTS, BALANCE = 20, 100


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GateHandle]:
    handle = start_gate(tmp_path_factory.mktemp("gate") / "data")
    yield handle
    assert handle.stop() == 0


class Workers:
    """Threads that run until told to stop; `check` raises what went wrong in them."""

    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.failures: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def add(self, work: Callable[..., None], *arguments: Any) -> None:
        def guarded() -> None:
            try:
                work(*arguments)
            except BaseException as error:  # noqa: BLE001 (a thread's failure belongs to the test)
                self.failures.append(error)

        thread = threading.Thread(target=guarded, daemon=True)
        self._threads.append(thread)
        thread.start()

    def check(self, timeout_s: float = 120.0) -> None:
        self.stopping.set()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive()
        if self.failures:
            raise self.failures[0]


def drop_connection(connection: psycopg2.extensions.connection) -> None:
    """Ends the connection as a killed process does: the socket closes, no Terminate is sent."""
    os.close(connection.fileno())
    os.open(os.devnull, os.O_RDWR)  # takes the descriptor's number, so that the driver closes nothing of another
    connection.close()


def test_writers_readers_and_killed_clients(gate: GateHandle) -> None:
    gate.sql("CREATE TABLE line (writer int, batch int, n int, body text, PRIMARY KEY (writer, batch, n))")
    gate.sql("CREATE TABLE account (id int PRIMARY KEY, balance int)")
    gate.sql(f"INSERT INTO account SELECT i, {BALANCE} FROM generate_series(1, {ACCOUNTS}) i")
    batches, rows = 25, 40
    workers = Workers()

    def transfer(cursor: psycopg2.extensions.cursor, chance: random.Random) -> None:
        source, target = chance.sample(range(1, ACCOUNTS + 1), 2)
        cursor.execute("UPDATE account SET balance = balance - 1 WHERE id = %s", (source,))
        cursor.execute("UPDATE account SET balance = balance + 1 WHERE id = %s", (target,))

    def write(writer: int) -> None:
        chance = random.Random(writer)
        connection = gate.connect()
        for batch in range(batches):
            lines = [(writer, batch, n, f"{writer}/{batch}/{n}") for n in range(rows)]
            if chance.random() < 0.3:  # dies in the middle, comes back, and does the batch again
                with connection.cursor() as cursor:
                    execute_values(cursor, "INSERT INTO line VALUES %s", lines[: rows // 2])
                    cursor.execute("UPDATE account SET balance = balance - 1000 WHERE id = 1")
                drop_connection(connection)
                connection = gate.connect()
            with connection, connection.cursor() as cursor:
                execute_values(cursor, "INSERT INTO line VALUES %s", lines[: rows // 2])
                transfer(cursor, chance)
                execute_values(cursor, "INSERT INTO line VALUES %s", lines[rows // 2 :])
        connection.close()

    def read() -> None:
        with closing(gate.connect(autocommit=True)) as connection, connection.cursor() as cursor:
            while not workers.stopping.is_set():
                cursor.execute("SELECT sum(balance), count(*) FROM account")
                assert cursor.fetchone() == (ACCOUNTS * BALANCE, ACCOUNTS)
                cursor.execute("SELECT writer, batch, count(*) FROM line GROUP BY 1, 2 HAVING count(*) <> %s", (rows,))
                assert cursor.fetchall() == []

    writers = Workers()
    for _ in range(READERS):
        workers.add(read)
    for writer in range(WRITERS):
        writers.add(write, writer)
    writers.check(240)
    workers.check()
    assert gate.sql("SELECT count(*), count(DISTINCT (writer, batch, n)) FROM line") == [
        (WRITERS * batches * rows,) * 2
    ]
    assert gate.sql("SELECT count(*) FROM line WHERE body <> writer || '/' || batch || '/' || n") == [(0,)]
    assert gate.sql("SELECT sum(balance) FROM account") == [(ACCOUNTS * BALANCE,)]


class Journal:
    """Writers of transactions of three rows; what was acknowledged, and what was under way when the database died."""

    def __init__(self, handle: GateHandle) -> None:
        self.handle = handle
        self.acknowledged: set[tuple[int, int]] = set()
        self.lost = 0
        self._guard = threading.Lock()

    def write(self, writer: int, stopping: threading.Event) -> None:
        connection: psycopg2.extensions.connection | None = None
        number = 0
        while not stopping.is_set():
            number += 1
            try:
                connection = connection or self.handle.connect()
                with connection.cursor() as cursor:
                    for part in range(3):
                        cursor.execute("INSERT INTO entry VALUES (%s, %s, %s)", (writer, number, part))
                connection.commit()
            except psycopg2.Error:
                connection = None
                self.lost += 1
                stopping.wait(0.05)
            else:
                with self._guard:
                    self.acknowledged.add((writer, number))

    def stored(self) -> set[tuple[int, int]]:
        """Transactions in the database; each whole."""
        rows = self.handle.sql("SELECT writer, number, count(*) FROM entry GROUP BY 1, 2")
        assert {count for _, _, count in rows} <= {3}
        return {(writer, number) for writer, number, _ in rows}


def entry_table(handle: GateHandle) -> None:
    handle.sql(
        "CREATE TABLE IF NOT EXISTS entry (writer int, number int, part int, PRIMARY KEY (writer, number, part))"
    )
    handle.sql("TRUNCATE entry")


def test_killed_database_keeps_every_acknowledged_row(gate: GateHandle) -> None:
    entry_table(gate)
    journal, workers = Journal(gate), Workers()
    with closing(gate.connect(autocommit=True, options="-c timezone=Asia/Tokyo")) as quiet, quiet.cursor() as cursor:
        cursor.execute("PREPARE mine AS SELECT 7")
        for writer in range(4):
            workers.add(journal.write, writer, workers.stopping)
        for _ in range(3):
            seen, pid = len(journal.acknowledged), gate.database_pid
            wait_until(lambda seen=seen: len(journal.acknowledged) > seen + 50, 60, "writes")
            gate.kill_database()
            wait_until(lambda pid=pid: gate.database_pid != pid, 60, "restart")
        cursor.execute("SHOW timezone")  # a client that was idle keeps its connection and its settings
        assert cursor.fetchone() == ("Asia/Tokyo",)
        workers.check()
    stored = journal.stored()
    assert journal.acknowledged <= stored
    assert len(stored - journal.acknowledged) <= journal.lost
    assert gate.process.poll() is None


def test_statement_under_way_is_told_and_waiting_ones_are_served(gate: GateHandle) -> None:
    owner = gate.connect()
    answers: list[Any] = []
    with owner.cursor() as cursor:
        cursor.execute("SELECT 1")
        waiter = threading.Thread(target=lambda: answers.append(gate.sql("SELECT 2")))
        waiter.start()
        gate.kill_database()
        with pytest.raises((psycopg2.OperationalError, psycopg2.InterfaceError, psycopg2.DatabaseError)):
            cursor.execute("SELECT 3")
    waiter.join(60)
    assert answers == [[(2,)]]


def process_ended(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    return True


def test_killed_gate_takes_its_database_along_and_loses_nothing(tmp_path: Path) -> None:
    handle = start_gate(tmp_path / "data")
    entry_table(handle)
    journal, workers = Journal(handle), Workers()
    for writer in range(3):
        workers.add(journal.write, writer, workers.stopping)
    wait_until(lambda: len(journal.acknowledged) > 50, 60, "writes")
    database = handle.database_pid
    handle.kill()
    killed = time.monotonic()
    wait_until(lambda: process_ended(database), 10, "end of the orphan")
    assert time.monotonic() - killed < 2
    workers.check()
    again = start_gate(tmp_path / "data")
    try:
        journal.handle = again
        stored = journal.stored()
        assert journal.acknowledged <= stored
        assert len(stored - journal.acknowledged) <= 3
    finally:
        assert again.stop() == 0


TIMESERIES = """
CREATE EXTENSION IF NOT EXISTS timescaledb;
CREATE TABLE reading (meter_id text, ts timestamptz, value float8, PRIMARY KEY (meter_id, ts));
SELECT create_hypertable('reading', by_range('ts', INTERVAL '1 day'));
ALTER TABLE reading SET (timescaledb.compress, timescaledb.compress_segmentby = 'meter_id');
"""
AGGREGATES = (
    """CREATE MATERIALIZED VIEW hourly WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
       SELECT meter_id, time_bucket(INTERVAL '1 hour', ts) AS bucket, sum(value) AS kwh
       FROM reading GROUP BY 1, 2 WITH NO DATA""",
    """CREATE MATERIALIZED VIEW daily WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
       SELECT meter_id, time_bucket(INTERVAL '1 day', bucket, 'Europe/Amsterdam') AS bucket, sum(kwh) AS kwh
       FROM hourly GROUP BY 1, 2 WITH NO DATA""",
    "SELECT add_compression_policy('reading', INTERVAL '7 days')",
    "SELECT add_retention_policy('reading', INTERVAL '60 days')",
    "SELECT add_continuous_aggregate_policy('hourly', NULL, INTERVAL '1 hour', INTERVAL '1 hour')",
)


def fill(handle: GateHandle, since_days: int, days: int) -> None:
    handle.sql(
        """INSERT INTO reading SELECT 'm' || m, now() - make_interval(days => %s) + i * INTERVAL '15 minutes', 0.25
           FROM generate_series(1, 5) m, generate_series(0, 96 * %s - 1) i ON CONFLICT DO NOTHING""",
        (since_days, days),
    )


def run_jobs(handle: GateHandle) -> None:
    jobs = handle.sql("SELECT job_id FROM timescaledb_information.jobs WHERE hypertable_name IS NOT NULL ORDER BY 1")
    assert len(jobs) == 3
    for (job,) in jobs:
        handle.sql("CALL run_job(%s)", (job,))


@pytest.mark.parametrize("crash", [False, True], ids=["clean stop", "kill -9"])
def test_second_start_answers_all_of_timescaledb(tmp_path: Path, crash: bool) -> None:
    first = start_gate(tmp_path / "data")
    first.sql(TIMESERIES)
    for statement in AGGREGATES:
        first.sql(statement)
    fill(first, 20, 19)
    first.sql("CALL refresh_continuous_aggregate('hourly', NULL, now() - INTERVAL '2 days')")
    total = first.sql("SELECT count(*), sum(value) FROM reading")
    if crash:
        first.kill()
    else:
        assert first.stop() == 0
    second = start_gate(tmp_path / "data")
    try:
        assert second.start_ms < 30_000
        assert second.sql("SELECT count(*), sum(value) FROM reading") == total
        assert second.sql("SELECT sum(kwh) FROM hourly") == [(total[0][1],)]
        fill(second, 100, 5)
        run_jobs(second)
        assert second.sql("SELECT count(*) > 5 FROM timescaledb_information.chunks WHERE is_compressed") == [(True,)]
        assert second.sql("SELECT count(*), sum(value) FROM reading") == total  # retention dropped what fill added
        second.sql("CALL refresh_continuous_aggregate('daily', NULL, NULL)")
        assert second.sql("SELECT sum(kwh) FROM daily")[0][0] == pytest.approx(total[0][1], rel=1e-12)
        gaps = second.sql(
            """SELECT count(*) FROM (SELECT time_bucket_gapfill(INTERVAL '1 hour', ts), locf(avg(value)) FROM reading
               WHERE meter_id = 'm1' AND ts BETWEEN now() - INTERVAL '3 days' AND now() GROUP BY 1) g"""
        )
        assert gaps[0][0] >= 72
        fill(second, 2, 1)  # compressed chunks beside, new rows still upsert
    finally:
        assert second.stop() == 0


def test_housekeeping_keeps_the_log_small_and_the_statistics_fresh(tmp_path: Path) -> None:
    handle = start_gate(tmp_path / "data", "--housekeeping", "0.5", "--verbose")
    try:
        handle.sql("CREATE TABLE wide AS SELECT i, repeat('x', 1000) AS body FROM generate_series(1, 20000) i")
        for _ in range(5):
            handle.sql("UPDATE wide SET i = i + 1")
        wait_until(lambda: any(line.get("event") == "checkpoint" for line in handle.log), 60, "checkpoint")
        wait_until(
            lambda: any(line.get("event") == "vacuum" and "wide" in line["table"] for line in handle.log), 60, "vacuum"
        )
        assert handle.sql("SELECT reltuples::int FROM pg_class WHERE relname = 'wide'") == [(20000,)]
        size = sum(
            file.stat().st_size for file in (tmp_path / "data" / "pgdata" / "pg_wal").iterdir() if file.is_file()
        )
        assert size < 400 * 1024 * 1024
    finally:
        assert handle.stop() == 0
