"""`energyai doctor`: is this machine fit, is everything there, and do the services answer?"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from jobs.commands._common import add_data_dir, add_json, coloured, print_json
from jobs.errors import UserError
from jobs.settings import Settings, addresses

NAME = "doctor"
HELP = "check versions, ports, memory, disk and connections; say how to mend"
MEMORY_GB = 6.0
DISK_GB = 4.0


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, how it is, and what to do when it is not well."""

    name: str
    state: Literal["ok", "warn", "fail"]
    detail: str
    mend: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `doctor`."""
    add_data_dir(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints one line a check; exit code 1 when one fails."""
    checks = list(examine(Settings.load(data_dir=args.data_dir)))
    failed = any(check.state == "fail" for check in checks)
    if args.json:
        print_json({"ok": not failed, "checks": [asdict(check) for check in checks]})
        return int(failed)
    for check in checks:
        print(f"{coloured(check.state, 4)}  {check.name:14} {check.detail}")
        if check.mend and check.state != "ok":
            print(f"      {'':14} → {check.mend}")
    return int(failed)


def examine(settings: Settings) -> Iterator[Check]:
    """All the checks, one after another; a check that breaks is itself a failed one."""
    probes: list[tuple[str, Callable[[Settings], Check]]] = [
        ("python", check_python),
        ("java", check_java),
        ("node", check_node),
        ("parts", check_parts),
        ("memory", check_memory),
        ("disk", check_disk),
        ("data folder", check_data_dir),
        ("ports", check_ports),
        ("stack", check_stack),
        ("kafka", check_kafka),
        ("database", check_database),
        ("flink", check_flink),
    ]
    for name, probe in probes:
        try:
            yield probe(settings)
        except Exception as error:  # noqa: BLE001 - a doctor reports, whatever it finds
            yield Check(name, "fail", " ".join(f"{type(error).__name__}: {error}".split())[:300])


def check_python(_: Settings) -> Check:
    """Python 3.11, with the packages of the lock."""
    from importlib.metadata import PackageNotFoundError, version

    found = sys.version.split()[0]
    if sys.version_info[:2] != (3, 11):
        return Check("python", "fail", found, "use the Python 3.11 in .venv: `make setup`")
    try:
        packages = [
            f"{name} {version(name)}" for name in ("apache-flink", "kafka-python", "onnxruntime", "psycopg2-binary")
        ]
    except PackageNotFoundError as error:
        return Check("python", "fail", f"{found}, without {error.name}", "`make setup`")
    return Check("python", "ok", f"{found}; {', '.join(packages)}")


def check_java(settings: Settings) -> Check:
    """A Java runtime that starts, 17 or 21."""
    from infra.embedded.artifacts import java_home

    java = java_home(settings.java_home) / "bin" / "java"
    line = _first_line([str(java), "-version"])
    major = line.partition('"')[2].partition(".")[0].strip('"')
    fit = major in ("17", "21")
    return Check("java", "ok" if fit else "fail", line, "unset ENERGYAI_JAVA_HOME, or point it at a Java 17 or 21")


def check_node(settings: Settings) -> Check:
    """Node.js 22 or newer."""
    from infra.embedded.artifacts import node_binary

    line = _first_line([str(node_binary(settings.node)), "--version"])
    fit = int(line.lstrip("v").partition(".")[0]) >= 22
    return Check("node", "ok" if fit else "fail", line, "unset ENERGYAI_NODE, or point it at Node.js 22 or newer")


def check_parts(settings: Settings) -> Check:
    """Jars and node modules, fetched."""
    from infra.embedded.artifacts import missing

    absent = missing(settings.home / "parts")
    if absent:
        return Check("parts", "fail", f"{len(absent)} missing, {absent[0]} first", "`make setup`")
    return Check("parts", "ok", f"complete in {settings.home / 'parts'}")


def check_memory(_: Settings) -> Check:
    """Room for the stack."""
    import psutil

    memory = psutil.virtual_memory()
    detail = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB available"
    fit = memory.available / 1e9 >= MEMORY_GB or memory.total / 1e9 >= 8
    return Check(
        "memory", "ok" if fit else "warn", detail, f"the whole stack with its jobs takes up to {MEMORY_GB:.0f} GB"
    )


def check_disk(settings: Settings) -> Check:
    """Room for parts and data."""
    free = shutil.disk_usage(_existing(settings.home)).free / 1e9
    mend = f"free some, or set ENERGYAI_HOME to another disk ({DISK_GB:.0f} GB are needed)"
    return Check("disk", "ok" if free >= DISK_GB else "warn", f"{free:.0f} GB free", mend)


def check_data_dir(settings: Settings) -> Check:
    """A folder that can be written."""
    import os

    folder = settings.stack_options().data_dir
    fit = os.access(_existing(folder), os.W_OK)
    mend = "choose another --data-dir, or correct its owner"
    return Check("data folder", "ok" if fit else "fail", str(folder), mend)


def check_ports(settings: Settings) -> Check:
    """Ports that were asked for are free, or this stack's own."""
    from infra.embedded import ports, state

    options = settings.stack_options()
    running = state.checked(state.read(options.state_file))
    own = set(running.get("ports", {}).values()) if running.get("phase") == "up" else set()
    taken = [f"{port} ({name})" for name, port in options.ports.items() if port not in own and not ports.is_free(port)]
    if taken:
        return Check("ports", "fail", f"in use: {', '.join(taken)}", "stop what listens there, or choose another port")
    return Check("ports", "ok", "told ones are free" if options.ports else "chosen among the free ones")


def check_stack(settings: Settings) -> Check:
    """The embedded stack's own word."""
    from infra.embedded import state
    from infra.embedded.stack import Stack

    status = Stack(settings.stack_options()).status()
    bad = [
        f"{name} {part['state']}" for name, part in status["parts"].items() if part["state"] not in ("up", "external")
    ]
    if state.is_up(status):
        restarts = sum(part.get("restarts", 0) for part in status["parts"].values())
        return Check("stack", "ok", f"up, {restarts} restarts")
    detail = ", ".join([status["phase"], *bad]) + (f": {status['error']}" if status.get("error") else "")
    return Check("stack", "warn", detail, "`energyai up` starts it")


def check_kafka(settings: Settings) -> Check:
    """A broker that answers, with the contracts' topics."""
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    from infra.embedded.topics import TOPICS

    where = _address(settings, "kafka")
    if where is None:
        return Check("kafka", "warn", "no address", "`energyai up`, or set ENERGYAI_KAFKA")
    try:
        _reach(where.split(",")[0])
        admin = KafkaAdminClient(bootstrap_servers=where, request_timeout_ms=10_000)
        present = set(admin.list_topics())
        admin.close()
    except (KafkaError, OSError) as error:
        return Check(
            "kafka", "fail", f"{where}: {error or type(error).__name__}", "correct ENERGYAI_KAFKA, or `energyai up`"
        )
    absent = [topic.name for topic in TOPICS if topic.name not in present]
    if absent:
        return Check("kafka", "warn", f"{where}: lacks {', '.join(absent)}", "`energyai up` creates topics")
    return Check("kafka", "ok", f"{where}, {len(TOPICS)} topics")


def check_database(settings: Settings) -> Check:
    """A TimescaleDB with the tables."""
    from infra import database

    where = _address(settings, "database_url")
    if where is None:
        return Check("database", "warn", "no address", "`energyai up`, or set ENERGYAI_DATABASE_URL")
    shown = hide_password(where)
    try:
        with database.connected(where, wait_s=3) as link, link.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('server_version'), (SELECT extversion FROM pg_extension "
                "WHERE extname = 'timescaledb'), to_regclass('reading') IS NOT NULL"
            )
            server, extension, migrated = cursor.fetchone()
    except database.DatabaseError as error:
        return Check("database", "fail", f"{shown}: {error}", "correct ENERGYAI_DATABASE_URL, or `energyai up`")
    detail = f"{shown}, PostgreSQL {server}, TimescaleDB {extension or 'missing'}"
    if not extension:
        return Check("database", "fail", detail, "CREATE EXTENSION timescaledb, on a server that has it")
    return Check("database", "ok" if migrated else "warn", detail, "`energyai up` creates the tables")


def check_flink(settings: Settings) -> Check:
    """A cluster that answers, with free slots."""
    import json
    from urllib.request import urlopen

    where = _address(settings, "flink_url")
    if where is None:
        return Check("flink", "warn", "no address", "`energyai up`, or set ENERGYAI_FLINK_URL")
    if urlsplit(where).scheme not in ("http", "https"):
        return Check("flink", "fail", where, "ENERGYAI_FLINK_URL must begin with http:// or https://")
    try:
        with urlopen(f"{where.rstrip('/')}/overview", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
    except (OSError, ValueError) as error:
        return Check("flink", "fail", f"{where}: {error}", "correct ENERGYAI_FLINK_URL, or `energyai up`")
    slots = f"{found['slots-available']} of {found['slots-total']} slots free"
    detail = f"{where}, Flink {found['flink-version']}, {slots}, {found['jobs-running']} jobs"
    full = found["slots-available"] == 0
    return Check("flink", "warn" if full else "ok", detail, "cancel a job, or `energyai up --slots N` after `down`")


def hide_password(url: str) -> str:
    """The URL without a password, for a screen that others may see.

    >>> hide_password("postgresql://me:secret@host:5432/db")
    'postgresql://me:…@host:5432/db'
    """
    parts = urlsplit(url)
    if not parts.password:
        return url
    return url.replace(f":{parts.password}@", ":…@", 1)


def _address(settings: Settings, name: str) -> str | None:
    try:
        return str(getattr(settings, name) or getattr(addresses(settings), name))
    except UserError:
        return None


def _reach(host_port: str) -> None:
    host, _, port = host_port.rpartition(":")
    with closing(socket.create_connection((host, int(port)), timeout=3)):
        pass


def _first_line(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    return (done.stdout or done.stderr).strip().splitlines()[0]


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
