"""An empty database for a replay: one of our own for its time, or a given one; configured as production is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from infra import database
from infra.database import connected
from infra.embedded.options import StackOptions
from infra.embedded.stack import Stack
from jobs.errors import UserError
from jobs.flink_rest import FlinkRest
from jobs.settings import Addresses, Settings
from jobs.verify import recording
from jobs.verify.check import rows_in

RUN = "verify-"
RESULTS = ("reading", "energy_slot", "forecast_issue", "rejected_reading")
CONFIGURATION = {"site": "site_id", "meter": "meter_id", "asset": "asset_id"}
"""Tables and their keys, each after those that it refers to."""


def run_name() -> str:
    """A name for this run, by which a later one knows that it was killed."""
    return f"{RUN}{os.getpid()}"


@contextmanager
def empty_database(settings: Settings, where: Addresses, name: str) -> Iterator[str]:
    """A second embedded database beside the stack, on a folder that goes with it; its libpq URL.

    Raises:
        StackError: it does not start.
    """
    stack = Stack(_options(settings, where, name))
    shutil.rmtree(stack.options.data_dir, ignore_errors=True)
    try:
        yield stack.up()["database_url"]
    finally:
        stack.down()
        shutil.rmtree(stack.options.data_dir, ignore_errors=True)


def remove_leftovers(settings: Settings, where: Addresses) -> list[str]:
    """Takes away what runs that were killed have left: jobs, topics, databases; their names."""
    import psutil

    folders = _parent(settings).glob(RUN + "*")
    dead = [path.name for path in folders if not psutil.pid_exists(int(path.name.removeprefix(RUN)))]
    for name in dead:
        cancel_jobs(where.flink_url, name)
        recording.delete_topics(where.kafka, name + ".")
        stack = Stack(_options(settings, where, name))
        stack.down()
        shutil.rmtree(stack.options.data_dir, ignore_errors=True)
    return dead


def cancel_jobs(flink_url: str, name: str) -> None:
    """Cancels the jobs of a run."""
    flink = FlinkRest(flink_url)
    for job in flink.running():
        if job["name"].startswith(name + "."):
            flink.cancel_if_running(job["jid"])


def _parent(settings: Settings) -> Path:
    return settings.data_dir or settings.home


def _options(settings: Settings, where: Addresses, name: str) -> StackOptions:
    # Kafka and Flink are the stack's own, so that only the database is started.
    return replace(
        settings.stack_options(), data_dir=_parent(settings) / name, kafka=where.kafka, flink_url=where.flink_url,
        database_url=None, ports={},
    )  # fmt: skip


def given_database(url: str) -> str:
    """A database that the user names, migrated.

    Raises:
        UserError: it has rows.
        DatabaseError: it does not answer, or is no TimescaleDB.
    """
    database.migrate(url)
    full = [name for name, has in rows_in(url, RESULTS).items() if has]
    if full:
        raise UserError(f"the database of --against is not empty ({', '.join(full)} has rows): give an empty one", 2)
    return url


def copy_configuration(production_url: str, replay_url: str) -> None:
    """Sites, meters and assets as production has them: where a register rolls over decides what energy is.

    Meters that nobody configured register themselves, as in production.
    """
    from psycopg2.extras import Json, execute_values

    def stored(value: Any) -> Any:
        return Json(value) if isinstance(value, (dict, list)) else value

    with connected(production_url, autocommit=True) as source, connected(replay_url) as target:
        for table, key in CONFIGURATION.items():
            with source.cursor() as reading, target.cursor() as writing:
                reading.execute(f"SELECT * FROM {table}" + (" WHERE configured" if table == "meter" else ""))
                columns = [column.name for column in reading.description or ()]
                changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name != key)
                rows = [tuple(map(stored, row)) for row in reading.fetchall()]
                execute_values(
                    writing,
                    f"INSERT INTO {table} ({', '.join(columns)}) VALUES %s ON CONFLICT ({key}) DO UPDATE SET {changes}",
                    rows,
                )
        target.commit()
