"""The embedded TimescaleDB: a gate (Node.js) that serves many clients on one WebAssembly database."""

from __future__ import annotations

from contextlib import suppress

from infra.embedded import artifacts
from infra.embedded.keeper import Part
from infra.embedded.options import StackOptions
from infra.embedded.ports import HOST
from infra.embedded.processes import Command


def url(port: int, role: str) -> str:
    """libpq URL of the embedded database for one role."""
    return f"postgresql://{role}@{HOST}:{port}/postgres"


def answers(database_url: str, timeout_s: int = 5) -> bool:
    """Whether the database runs a statement within `timeout_s` seconds."""
    import psycopg2

    with suppress(psycopg2.Error):
        link = psycopg2.connect(database_url, connect_timeout=timeout_s)
        try:
            with link.cursor() as cursor:
                cursor.execute("SELECT 1")
                return bool(cursor.fetchone() == (1,))
        finally:
            link.close()
    return False


def let_roles_log_in(owner_url: str) -> None:
    """The migrations' roles are groups; here, on loopback and without passwords, they are users as well."""
    from infra import database

    with database.connected(owner_url, autocommit=True) as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT rolname FROM pg_roles WHERE rolname IN ('energyai_writer', 'energyai_reader') AND NOT rolcanlogin"
        )
        for (role,) in cursor.fetchall():
            cursor.execute(f"ALTER ROLE {role} LOGIN")


def part(options: StackOptions, ports: dict[str, int]) -> Part:
    """The gate as a part of the stack; it keeps its database process running by itself."""
    folder = options.data_dir / "timescaledb"
    node = artifacts.node_binary(options.node)
    modules = options.home / "parts" / "timescaledb" / "node_modules"
    gate = artifacts.GATE_SOURCE / "gate.mjs"
    port = ports["database"]

    def command() -> Command:
        folder.mkdir(parents=True, exist_ok=True)
        argv = [str(node), str(gate), "--data", str(folder), "--modules", str(modules), "--port", str(port)]
        return Command(argv, env={"TMPDIR": str(options.data_dir / "tmp")})

    return Part(
        name="timescaledb",
        port=port,
        command=command,
        healthy=lambda: answers(url(port, "postgres")),
        stop_within_s=25.0,  # the gate lets a statement end, and the database write its last checkpoint
    )
