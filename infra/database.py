"""The database from outside the jobs: connecting with patience, migrating, and running due policies.

Migrations are the files `sql/timescaledb/NNN_name.sql`, each run once, in order, in a transaction of its own.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812

log = logging.getLogger(__name__)

MIGRATIONS = Path(__file__).resolve().parent.parent / "sql" / "timescaledb"
_FILE = re.compile(r"^(\d{3})_[a-z0-9_]+\.sql$")
_HOPELESS = (
    "authentication failed",
    "no pg_hba.conf entry",
    "does not exist",
    "invalid connection option",
    "invalid dsn",
)


class DatabaseError(Exception):
    """The database cannot be used; the message is one line and says what to do."""


def connect(url: str, *, wait_s: float = 30.0) -> Connection:
    """A connection, tried for `wait_s` seconds with growing pauses (a starting server refuses at first).

    Raises:
        DatabaseError: it does not answer, or turns the user away.
    """
    deadline = time.monotonic() + wait_s
    pause = 0.1
    while True:
        try:
            return psycopg2.connect(url, connect_timeout=max(2, int(min(10.0, wait_s))))
        except psycopg2.OperationalError as error:
            reason = _line(error)
            if any(text in reason for text in _HOPELESS):
                raise DatabaseError(f"{reason}; check user, password and database in ENERGYAI_DATABASE_URL") from error
            if time.monotonic() + pause > deadline:
                raise DatabaseError(
                    f"no database after {wait_s:.0f} s: {reason}; run `energyai up` or set ENERGYAI_DATABASE_URL"
                ) from error
            time.sleep(pause)
            pause = min(2.0, pause * 2)
        except psycopg2.ProgrammingError as error:
            raise DatabaseError(f"ENERGYAI_DATABASE_URL is no libpq URL: {_line(error)}") from error


@contextmanager
def connected(url: str, *, wait_s: float = 30.0, autocommit: bool = False) -> Iterator[Connection]:
    """A connection that is closed at the end; what was not committed is rolled back."""
    connection = connect(url, wait_s=wait_s)
    connection.autocommit = autocommit
    try:
        yield connection
    finally:
        connection.close()


@dataclass(frozen=True)
class Migration:
    """One file: its number, its name, and the SHA-256 of its text."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """The folder's migrations by number.

    Raises:
        DatabaseError: a file's name has no number, or two have the same.
    """
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        match = _FILE.match(path.name)
        if match is None:
            raise DatabaseError(f"{path.name}: a migration is named NNN_name.sql; rename it")
        version = int(match[1])
        if version in found:
            raise DatabaseError(f"{path.name}: number {version} is taken by {found[version].name}; take the next one")
        found[version] = Migration(version, path.name, path.read_text(encoding="utf-8"))
    if not found:
        raise DatabaseError(f"no migrations in {folder}: the installation is incomplete")
    return list(found.values())


def migrate(url: str, *, folder: Path = MIGRATIONS, wait_s: float = 30.0) -> list[str]:
    """Bring the database up to date; the names of the migrations that ran now.

    Safe to call from several processes at once: the second waits for the first and finds nothing to do.

    Raises:
        DatabaseError: no database, no TimescaleDB, a migration that fails (rolled back) or was changed after it ran.
    """
    migrations = read_migrations(folder)
    with connected(url, wait_s=wait_s, autocommit=True) as connection:
        _create_extension(connection)
        _create_ledger(connection)
    done: list[str] = []
    with connected(url, wait_s=wait_s) as connection:
        _check_order(connection, migrations)
        for migration in migrations:
            if _apply(connection, migration):
                log.info("migrated: %s", migration.name)
                done.append(migration.name)
    return done


def _create_extension(connection: Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'")
        if cursor.fetchone() != (0,):
            return
        try:
            cursor.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        except psycopg2.errors.UniqueViolation:
            log.debug("another process created the extension at the same time")
        except psycopg2.Error as error:
            raise DatabaseError(
                f"no TimescaleDB in this database ({_line(error)}); install TimescaleDB 2.20 or later, put it in "
                "shared_preload_libraries, or let the owner run CREATE EXTENSION timescaledb"
            ) from error


def _create_ledger(connection: Connection) -> None:
    with connection.cursor() as cursor:
        try:
            cursor.execute(
                """CREATE TABLE IF NOT EXISTS schema_migration (
                    version integer PRIMARY KEY,
                    name text NOT NULL,
                    checksum text NOT NULL,
                    applied_at timestamptz NOT NULL DEFAULT now()
                )"""
            )
        except psycopg2.errors.UniqueViolation:
            log.debug("another process created the ledger at the same time")


def _check_order(connection: Connection, migrations: Sequence[Migration]) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT version, name FROM schema_migration ORDER BY version")
        applied = cursor.fetchall()
    connection.commit()
    known = {migration.version for migration in migrations}
    newer = [name for version, name in applied if version not in known]
    if newer:
        raise DatabaseError(f"the database is newer than this installation (it has {newer[-1]}); update EnergyAI")


def _apply(connection: Connection, migration: Migration) -> bool:
    """Run one migration unless it ran before; the lock on the ledger makes other migrators wait."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE schema_migration IN EXCLUSIVE MODE")
            cursor.execute("SELECT checksum FROM schema_migration WHERE version = %s", (migration.version,))
            row = cursor.fetchone()
            if row is None:
                cursor.execute(migration.sql)
                cursor.execute(
                    "INSERT INTO schema_migration (version, name, checksum) VALUES (%s, %s, %s)",
                    (migration.version, migration.name, migration.checksum),
                )
        connection.commit()
    except psycopg2.Error as error:
        connection.rollback()
        raise DatabaseError(f"migration {migration.name} failed and was rolled back: {_line(error)}") from error
    if row is not None and row[0] != migration.checksum:
        raise DatabaseError(f"{migration.name} was changed after it ran; restore it and write a new migration instead")
    return row is None


def run_due_policies(url: str, *, wait_s: float = 30.0, everything: bool = False) -> list[str]:
    """Run the policies (refresh, compression, retention) that are due, where no background worker does; what ran.

    For the embedded database: call it every minute or so. When each ran last is kept in table `policy_run`. A policy
    that fails is logged and tried again when it is next due.

    Args:
        url: libpq URL.
        wait_s: how long to try to connect.
        everything: run all, due or not.
    """
    ran: list[str] = []
    with connected(url, wait_s=wait_s, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(
            """SELECT j.job_id, concat_ws(' ', j.proc_name, j.hypertable_name)
            FROM timescaledb_information.jobs AS j
            LEFT JOIN policy_run AS p ON p.job_id = j.job_id
            WHERE j.scheduled AND j.job_id >= 1000
                AND (%s OR p.ran_at IS NULL OR p.ran_at + j.schedule_interval <= now())
            ORDER BY j.proc_name DESC, j.job_id""",
            (everything,),
        )
        for job, name in cursor.fetchall():
            try:
                cursor.execute("CALL run_job(%s)", (job,))
                ran.append(name)
            except psycopg2.Error as error:
                log.warning("policy %s (job %s) failed: %s", name, job, _line(error))
            cursor.execute(
                "INSERT INTO policy_run (job_id, ran_at) VALUES (%s, now()) "
                "ON CONFLICT (job_id) DO UPDATE SET ran_at = excluded.ran_at",
                (job,),
            )
    return ran


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())
