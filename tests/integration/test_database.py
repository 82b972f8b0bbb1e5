"""Migrations and policies on the embedded TimescaleDB: once, in order, by one of several, and a clear line when not."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psycopg2
import pytest
from gate_support import GateHandle, start_gate
from store_support import HOUR, START, query, readings

from infra.database import MIGRATIONS, DatabaseError, connect, migrate, read_migrations, run_due_policies
from operators.store import Store

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GateHandle]:
    """A database of this file's own: its tests build on each other from top to bottom."""
    handle = start_gate(tmp_path_factory.mktemp("empty"))
    yield handle
    handle.stop()


def test_two_migrators_at_once_run_each_file_once(empty: GateHandle) -> None:
    done: list[str] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            done.extend(migrate(empty.url))
        except BaseException as error:  # noqa: BLE001 — shown by the test's thread
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(done) == [migration.name for migration in read_migrations()]
    assert migrate(empty.url) == []


def test_contract_tables_and_columns_are_there(empty: GateHandle) -> None:
    rows = query(
        empty.url, "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
    )
    columns: dict[str, set[str]] = {}
    for table, column in rows:
        columns.setdefault(table, set()).add(column)
    quantiles = {f"q{q}0" for q in range(1, 10)}
    contract = {
        "site": {"site_id", "tz", "tenant_id"},
        "meter": {"meter_id", "tz", "tenant_id", "site_id", "parent_meter_id", "register_max", "commodity"},
        "asset": {"asset_id", "tz", "tenant_id"},
        "reading": {"meter_id", "register", "ts", "kind", "value", "unit", "revision", "quality", "received_at"},
        "rejected_reading": {"topic", "partition", "offset", "reason", "detail", "raw", "received_at"},
        "energy_15m": {"meter_id", "bucket", "kwh", "readings", "coverage"},
        "energy_hourly": {"meter_id", "bucket", "kwh", "readings", "coverage"},
        "energy_daily": {"meter_id", "bucket", "kwh", "readings", "coverage"},
        "forecast": {"meter_id", "issued_at", "target_ts", "step_s", "model_id"} | quantiles,
        "forecast_latest": {"meter_id", "issued_at", "target_ts", "step_s", "model_id"} | quantiles,
        "forecast_accuracy": {"meter_id", "model_id", "step_s", "pairs", "nrmse", "nrmse_previous_week", "wql"},
        "anomaly": {"anomaly_id", "meter_id", "kind", "start_ts", "end_ts", "score", "observed_kwh", "expected_kwh",
                    "lower_kwh", "upper_kwh", "model_id"},
        "alert": {"fingerprint", "starts_at", "status", "labels", "annotations", "ends_at", "acknowledged_at",
                  "acknowledged_by"},
        "webhook_delivery": {"delivery_id", "fingerprint", "url", "attempts", "status", "last_error"},
        "setpoint": {"setpoint_id", "asset_id", "site_id", "type", "value_w", "execution_time", "duration_s", "ttl_s",
                     "failsafe", "priority", "mode", "reason", "supersedes", "inputs", "expected"},
        "setpoint_ack": {"setpoint_id", "asset_id", "status", "ts", "measured_w", "detail"},
        "model_version": {"model_name", "version", "alias", "sha256", "uri", "trained_at", "metrics", "data_range"},
    }  # fmt: skip
    assert {
        name: wanted - columns.get(name, set())
        for name, wanted in contract.items()
        if wanted - columns.get(name, set())
    } == {}
    hypertables = {
        row[0] for row in query(empty.url, "SELECT hypertable_name FROM timescaledb_information.hypertables")
    }
    assert hypertables >= {"reading", "rejected_reading", "anomaly", "webhook_delivery", "setpoint", "setpoint_ack"}


def test_policies_run_compress_and_keep_every_row(empty: GateHandle) -> None:
    store = Store(empty.url)
    ts = START + np.arange(20 * 24 + 1) * HOUR
    store.write_readings(readings("policy-a", ts, np.arange(len(ts)) * 1.0), 1_000)
    ran = run_due_policies(empty.url)
    assert "refresh_energy" in ran
    assert {"policy_compression reading", "policy_retention reading"} <= set(ran)
    assert run_due_policies(empty.url) == []
    materialised = "SELECT count(*) > 0 FROM _timescaledb_internal._materialized_hypertable_{}"
    (number,) = query(
        empty.url, "SELECT mat_hypertable_id FROM _timescaledb_catalog.continuous_agg ORDER BY 1 LIMIT 1"
    )[0]
    assert query(empty.url, materialised.format(number)) == [(True,)]
    connection = empty.connect(autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT compress_chunk(c) FROM show_chunks('reading') AS c")
        cursor.execute("SELECT compress_chunk(c) FROM show_chunks('energy_slot') AS c")
    connection.close()
    assert query(empty.url, "SELECT count(*), sum(value) FROM reading") == [(481, 480 * 481 / 2)]
    # A late reading finds its place among compressed ones, and the aggregates follow.
    store.write_readings(readings("policy-a", ts[[100]], [100.25], revision=1), 1_000)
    assert query(empty.url, "SELECT count(*), sum(value) FROM reading") == [(481, 480 * 481 / 2 + 0.25)]
    assert query(empty.url, "SELECT max(kwh), min(kwh), sum(kwh) FROM energy_hourly") == [(1.25, 0.75, 480)]


def test_all_of_it_after_a_restart(empty: GateHandle) -> None:
    before = query(empty.url, "SELECT * FROM energy_daily ORDER BY 1, 2")
    empty.kill_database()
    assert query(empty.url, "SELECT * FROM energy_daily ORDER BY 1, 2") == before
    assert len(run_due_policies(empty.url, everything=True)) > 5


def test_readers_read_and_writers_write_and_neither_alters(empty: GateHandle) -> None:
    def attempt(role: str, sql: str) -> bool:
        connection = empty.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"SET ROLE {role}")
                cursor.execute(sql)
            return True
        except psycopg2.errors.InsufficientPrivilege:
            return False
        finally:
            connection.rollback()
            connection.close()

    for table in ("reading", "energy_daily", "forecast", "forecast_accuracy", "alert"):
        assert attempt("energyai_reader", f"SELECT * FROM {table} LIMIT 1"), table
    assert not attempt("energyai_reader", "INSERT INTO site (site_id) VALUES ('x')")
    assert attempt("energyai_writer", "INSERT INTO site (site_id) VALUES ('x')")
    assert not attempt("energyai_writer", "DELETE FROM reading")
    assert not attempt("energyai_writer", "DROP TABLE reading")
    assert not attempt("energyai_writer", "DELETE FROM schema_migration")


def test_a_writer_without_more_rights_writes_late_readings(empty: GateHandle) -> None:
    store = Store(empty.url + "?options=-crole%3Denergyai_writer")
    store.write_readings(readings("policy-a", START + np.array([200]) * HOUR, [200.5], revision=1), 1_000)
    assert query(empty.url, "SELECT max(kwh) FROM energy_hourly WHERE bucket > '2023-11-22'") == [(1.5,)]


def test_a_failing_migration_leaves_nothing_and_a_changed_one_is_named(empty: GateHandle, tmp_path: Path) -> None:
    for path in MIGRATIONS.glob("*.sql"):
        (tmp_path / path.name).write_text(path.read_text())
    broken = tmp_path / "900_broken.sql"
    broken.write_text("CREATE TABLE half (a int); SELECT no_such_function();")
    with pytest.raises(DatabaseError, match=r"900_broken.sql failed and was rolled back: .*no_such_function"):
        migrate(empty.url, folder=tmp_path)
    assert query(empty.url, "SELECT to_regclass('half')") == [(None,)]
    broken.write_text("CREATE TABLE whole (a int);")
    assert migrate(empty.url, folder=tmp_path) == ["900_broken.sql"]
    broken.write_text("CREATE TABLE other (a int);")
    with pytest.raises(DatabaseError, match="changed after it ran"):
        migrate(empty.url, folder=tmp_path)
    with pytest.raises(DatabaseError, match="newer than this installation"):
        migrate(empty.url)


def test_misnamed_and_doubled_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "1_x.sql").write_text("")
    with pytest.raises(DatabaseError, match=r"NNN_name\.sql"):
        read_migrations(tmp_path)
    (tmp_path / "1_x.sql").rename(tmp_path / "001_x.sql")
    (tmp_path / "001_y.sql").write_text("")
    with pytest.raises(DatabaseError, match=r"001_y\.sql: number 1 is taken"):
        read_migrations(tmp_path)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://x@127.0.0.1:1/x", "no database after"),
        ("nonsense", "no libpq URL"),
    ],
)
def test_no_database_is_one_line_that_says_what_to_do(url: str, says: str) -> None:
    with pytest.raises(DatabaseError, match=says) as caught:
        connect(url, wait_s=0.5)
    assert "\n" not in str(caught.value)
    assert "ENERGYAI_DATABASE_URL" in str(caught.value)


def test_every_column_is_in_the_data_dictionary(empty: GateHandle) -> None:
    page = (MIGRATIONS.parents[1] / "docs" / "data_dictionary.md").read_text()
    named = set(re.findall(r"`([a-z0-9_]+)`", page))
    rows = query(
        empty.url, "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
    )
    ours = [(table, column) for table, column in rows if table not in {"whole"}]
    assert [name for row in ours for name in row if name not in named] == []
