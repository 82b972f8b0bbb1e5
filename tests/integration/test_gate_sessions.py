"""The gate keeps its clients apart: settings, roles, statements, locks, cancellation, malformed bytes."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from gate_support import SOURCE, GateHandle, node_command, start_gate, wait_until, wheel_node
from psycopg2 import errors

pytestmark = pytest.mark.integration
IDLE_TIMEOUT_S = 2.0


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GateHandle]:
    handle = start_gate(tmp_path_factory.mktemp("gate") / "data", "--idle-in-transaction-timeout", str(IDLE_TIMEOUT_S))
    handle.sql("CREATE TABLE fact (id int PRIMARY KEY, body text)")
    handle.sql("CREATE ROLE energyai_reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO energyai_reader")
    yield handle
    assert handle.stop() == 0


def value(connection: psycopg2.extensions.connection, statement: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        row = cursor.fetchone()
        return row[0] if row else None


def run(connection: psycopg2.extensions.connection, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def test_settings_stay_with_their_client_and_come_back(gate: GateHandle) -> None:
    with closing(gate.connect(autocommit=True)) as one, closing(gate.connect(autocommit=True)) as two:
        run(one, "SET timezone = 'Europe/Amsterdam'; SET search_path = 'pg_catalog'; SET energyai.tenant = 'a''b'")
        run(one, "SELECT set_config('work_mem', '8MB', false)")
        assert value(two, "SHOW timezone") == "UTC"
        assert value(two, "SHOW search_path") == '"$user", public'
        assert value(two, "SHOW work_mem") == "4MB"
        assert value(two, "SELECT current_setting('energyai.tenant', true)") in (None, "")
        assert value(one, "SHOW timezone") == "Europe/Amsterdam"
        assert value(one, "SHOW search_path") == "pg_catalog"
        assert value(one, "SHOW work_mem") == "8MB"
        assert value(one, "SHOW energyai.tenant") == "a'b"
        assert one.get_parameter_status("TimeZone") == "Europe/Amsterdam"
        assert two.get_parameter_status("TimeZone") == "UTC"


def test_startup_options_survive_reset_all(gate: GateHandle) -> None:
    with closing(gate.connect(autocommit=True, options="-c timezone=Asia/Tokyo", application_name="probe")) as one:
        run(one, "SET timezone = 'UTC'")
        gate.sql("SELECT 1")
        run(one, "RESET ALL")
        assert value(one, "SHOW timezone") == "Asia/Tokyo"
        assert value(one, "SHOW application_name") == "probe"
        run(one, "DISCARD ALL")
        assert value(one, "SHOW timezone") == "Asia/Tokyo"


def test_rolled_back_setting_does_not_come_back(gate: GateHandle) -> None:
    with closing(gate.connect()) as one:
        run(one, "SET timezone = 'Asia/Tokyo'")
        one.rollback()
        gate.sql("SELECT 1")
        assert value(one, "SHOW timezone") == "UTC"


def test_role_of_one_client_is_not_that_of_another(gate: GateHandle) -> None:
    with closing(gate.connect(autocommit=True)) as one, closing(gate.connect(autocommit=True)) as two:
        run(one, "SET ROLE energyai_reader")
        assert value(two, "SELECT current_user") == "postgres"
        assert value(one, "SELECT current_user") == "energyai_reader"
        with pytest.raises(errors.InsufficientPrivilege):
            run(one, "INSERT INTO fact VALUES (1000, '')")
        run(one, "RESET ROLE")
        assert value(one, "SELECT current_user") == "postgres"


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO fact VALUES (1001, '')",
        "RESET SESSION AUTHORIZATION; INSERT INTO fact VALUES (1001, '')",
        "SET SESSION AUTHORIZATION DEFAULT; INSERT INTO fact VALUES (1001, '')",
        "SET SESSION AUTHORIZATION postgres",
        "SET ROLE postgres",
        "RESET ROLE; INSERT INTO fact VALUES (1001, '')",
        "DISCARD ALL; INSERT INTO fact VALUES (1001, '')",
        "SELECT set_config('session_authorization', 'postgres', false)",
        "DO $$ BEGIN EXECUTE 'SET SESSION AUTHORIZATION postgres'; INSERT INTO fact VALUES (1001, ''); END $$",
        "SET log_statement = 'all'",
    ],
)
def test_reader_cannot_write_or_become_another(gate: GateHandle, statement: str) -> None:
    with closing(gate.connect("energyai_reader", autocommit=True)) as reader:
        with pytest.raises((errors.InsufficientPrivilege, errors.ActiveSqlTransaction)):
            run(reader, statement)
        assert value(reader, "SELECT session_user || '/' || current_user") == "energyai_reader/energyai_reader"
        assert value(reader, "SELECT count(*) FROM fact WHERE id = 1001") == 0


def test_pool_reset_keeps_the_role(gate: GateHandle) -> None:
    with closing(gate.connect("energyai_reader", autocommit=True)) as reader:
        reader.reset()  # psycopg2: ABORT; RESET ALL; SET SESSION AUTHORIZATION DEFAULT
        assert value(reader, "SELECT session_user") == "energyai_reader"


def test_temporary_tables_are_never_seen_by_others(gate: GateHandle) -> None:
    with closing(gate.connect(autocommit=True)) as one, closing(gate.connect(autocommit=True)) as two:
        run(one, "CREATE TEMP TABLE scratch AS SELECT 1 AS a")
        assert value(one, "SELECT a FROM scratch") == 1
        with pytest.raises(errors.UndefinedTable):
            run(two, "SELECT * FROM scratch")
        run(two, "CREATE TEMP TABLE scratch AS SELECT 2 AS a")
        assert value(two, "SELECT a FROM scratch") == 2
        with pytest.raises(errors.UndefinedTable):
            run(one, "SELECT * FROM scratch")
        assert any("temporary tables were dropped" in notice for notice in one.notices)


def test_statement_names_do_not_collide(gate: GateHandle) -> None:
    with closing(gate.connect(autocommit=True)) as one, closing(gate.connect(autocommit=True)) as two:
        run(one, "PREPARE plan AS SELECT 'one'")
        run(two, "PREPARE plan AS SELECT 'two'")
        assert (value(one, "EXECUTE plan"), value(two, "EXECUTE plan")) == ("one", "two")
        run(one, "DEALLOCATE ALL")
        assert value(two, "EXECUTE plan") == "two"
        with pytest.raises(errors.InvalidSqlStatementName):
            run(one, "EXECUTE plan")
        run(one, "PREPARE plan AS SELECT 'again'")
        assert value(one, "EXECUTE plan") == "again"


def test_advisory_lock_keeps_others_out_until_it_is_released(gate: GateHandle) -> None:
    with closing(gate.connect(autocommit=True)) as one:
        run(one, "SELECT pg_advisory_lock(7)")
        got: list[object] = []

        def other() -> None:
            with closing(gate.connect(autocommit=True)) as two:
                got.append(value(two, "SELECT pg_try_advisory_lock(7)"))
                run(two, "SELECT pg_advisory_unlock(7)")

        thread = threading.Thread(target=other)
        thread.start()
        run(one, "INSERT INTO fact VALUES (1, 'locked')")
        assert got == []
        run(one, "SELECT pg_advisory_unlock(7)")
        thread.join(10)
        assert got == [True]


def test_sequence_values_of_another_client_are_not_read(gate: GateHandle) -> None:
    gate.sql("CREATE SEQUENCE ids")
    with closing(gate.connect(autocommit=True)) as one, closing(gate.connect(autocommit=True)) as two:
        run(one, "SELECT nextval('ids')")
        run(two, "SELECT nextval('ids')")
        with pytest.raises(errors.ObjectNotInPrerequisiteState):
            run(one, "SELECT currval('ids')")
    with closing(gate.connect()) as one:
        run(one, "SELECT nextval('ids')")
        assert value(one, "SELECT currval('ids')") == 3
        one.commit()


def test_notifications_reach_those_who_listen(gate: GateHandle) -> None:
    with closing(gate.connect(autocommit=True)) as one, closing(gate.connect(autocommit=True)) as two:
        run(one, "LISTEN news")
        run(two, "LISTEN other; LISTEN news; UNLISTEN news")
        gate.sql("NOTIFY news, 'hello'")

        def arrived() -> bool:
            one.poll()
            return bool(one.notifies)

        wait_until(arrived, 10, "notification")
        two.poll()
        assert (one.notifies[0].channel, one.notifies[0].payload) == ("news", "hello")
        assert two.notifies == []


def test_idle_owner_is_ended_and_others_go_on(gate: GateHandle) -> None:
    with closing(gate.connect()) as idle, closing(gate.connect(autocommit=True)) as other:
        run(idle, "INSERT INTO fact VALUES (2, 'never')")
        started = time.monotonic()
        assert value(other, "SELECT count(*) FROM fact WHERE id = 2") == 0
        assert IDLE_TIMEOUT_S * 0.8 < time.monotonic() - started < IDLE_TIMEOUT_S + 10
        with pytest.raises((psycopg2.OperationalError, psycopg2.InterfaceError), match=r"idle-in-transaction|closed"):
            run(idle, "SELECT 1")


def test_new_connections_are_greeted_while_another_owns_the_session(gate: GateHandle) -> None:
    with closing(gate.connect()) as owner:
        run(owner, "SELECT 1")
        started = time.monotonic()
        gate.connect().close()
        assert time.monotonic() - started < 1.0
        owner.rollback()


@pytest.mark.parametrize("transaction", [False, True])
def test_copy_from_stdin_is_an_error_not_a_hang(gate: GateHandle, transaction: bool, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    rows.write_text("3\tx\n")
    with closing(gate.connect(autocommit=not transaction)) as one, one.cursor() as cursor, rows.open() as file:
        with pytest.raises(errors.FeatureNotSupported, match="COPY FROM STDIN"):
            cursor.copy_expert("/* c */ COPY fact (id, body) FROM STDIN", file)
        one.rollback()
        assert value(one, "SELECT 'copy x from stdin'") == "copy x from stdin"
        with (tmp_path / "out").open("w+") as out:
            cursor.copy_expert("COPY (SELECT 1, 'a') TO STDOUT", out)
            out.seek(0)
            assert out.read() == "1\ta\n"


def test_running_statement_is_cancelled(gate: GateHandle) -> None:
    with closing(gate.connect(autocommit=True)) as one:
        timer = threading.Timer(0.5, one.cancel)
        timer.start()
        with pytest.raises(errors.QueryCanceled):
            run(one, "DO $$ BEGIN LOOP END LOOP; END $$")
        assert value(one, "SELECT 1") == 1
        run(one, "SET statement_timeout = '300ms'")
        with pytest.raises(errors.QueryCanceled):
            run(one, "SELECT count(*) FROM generate_series(1, 1000000000)")
        assert value(one, "SHOW statement_timeout") == "300ms"
        assert gate.sql("SHOW statement_timeout") == [("0",)]


def test_waiting_statement_is_cancelled(gate: GateHandle) -> None:
    with closing(gate.connect()) as owner, closing(gate.connect(autocommit=True)) as waiter:
        run(owner, "SELECT 1")
        threading.Timer(0.3, waiter.cancel).start()
        with pytest.raises(errors.QueryCanceled):
            run(waiter, "SELECT 2")
        owner.rollback()
        assert value(waiter, "SELECT 3") == 3


def test_unknown_user_and_database_are_told(gate: GateHandle) -> None:
    with pytest.raises(psycopg2.OperationalError, match='role "nobody" does not exist'):
        gate.connect("nobody")
    with pytest.raises(psycopg2.OperationalError, match='database "elsewhere" does not exist'):
        psycopg2.connect(host="127.0.0.1", port=gate.port, user="postgres", dbname="elsewhere")


def startup(**parameters: str) -> bytes:
    body = struct.pack("!i", 196608)
    body += b"".join(f"{name}\0{text}\0".encode() for name, text in parameters.items()) + b"\0"
    return struct.pack("!i", len(body) + 4) + body


def frame(kind: str, body: bytes) -> bytes:
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


class RawLink:
    """A connection that speaks the protocol by hand."""

    def __init__(self, port: int, greeting: bytes = b"") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._data = b""
        if greeting:
            self.send(greeting)
            assert self.answer()[-1] == ("Z", b"I")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> list[tuple[str, bytes]]:
        """Messages up to ReadyForQuery, or up to the connection's end."""
        found: list[tuple[str, bytes]] = []
        while True:
            while len(self._data) >= 5 and len(self._data) >= 1 + (length := struct.unpack("!i", self._data[1:5])[0]):
                found.append((chr(self._data[0]), self._data[5 : 1 + length]))
                self._data = self._data[1 + length :]
                if found[-1][0] == "Z":
                    return found
            chunk = self.socket.recv(65536)
            if not chunk:
                return found
            self._data += chunk

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.answer()]

    def close(self) -> None:
        self.socket.close()


def raw_connection(gate: GateHandle) -> RawLink:
    return RawLink(gate.port, startup(user="postgres", database="postgres"))


def test_pipelined_batches_get_their_answers_in_order(gate: GateHandle) -> None:
    parse = frame("P", b"s\0SELECT $1::int\0" + struct.pack("!h", 0))
    sync = frame("S", b"")

    def batch(number: int) -> bytes:
        text = str(number).encode()
        bind = b"\0s\0" + struct.pack("!hhi", 0, 1, len(text)) + text + struct.pack("!h", 0)
        return frame("B", bind) + frame("E", b"\0" + struct.pack("!i", 0)) + sync

    with closing(raw_connection(gate)) as one, closing(raw_connection(gate)) as two:
        for link in (one, two):
            link.send(parse + sync + b"".join(batch(i) for i in range(200)))
        for link in (one, two):
            assert link.answer() == [("1", b""), ("Z", b"I")]
            for i in range(200):
                kinds = link.answer()
                assert [kind for kind, _ in kinds] == ["2", "D", "C", "Z"]
                assert kinds[1][1][6:] == str(i).encode()


def test_unnamed_statement_survives_another_clients_turn(gate: GateHandle) -> None:
    parse = frame("P", b"\0SELECT 41 + 1\0" + struct.pack("!h", 0)) + frame("D", b"S\0") + frame("S", b"")
    execute = frame("B", b"\0\0" + struct.pack("!hhh", 0, 0, 0)) + frame("E", b"\0" + struct.pack("!i", 0))
    with closing(raw_connection(gate)) as one:
        one.send(parse)
        assert one.kinds() == ["1", "t", "T", "Z"]
        gate.sql("SET timezone = 'UTC'")
        one.send(execute + frame("S", b""))
        answer = one.answer()
        assert [kind for kind, _ in answer] == ["2", "D", "C", "Z"]
        assert answer[1][1].endswith(b"42")


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x00" * 64,
        b"\xff" * 64,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        struct.pack("!ii", 12, 131072) + b"user",
    ],
)
def test_garbage_instead_of_a_startup_packet_ends_only_its_connection(gate: GateHandle, garbage: bytes) -> None:
    with closing(socket.create_connection(("127.0.0.1", gate.port), timeout=20)) as link:
        link.sendall(garbage)
        link.shutdown(socket.SHUT_WR)
        while link.recv(4096):
            pass
    assert gate.sql("SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    "garbage",
    [
        frame("z", b"x"),
        frame("Q", b"SELECT 1"),
        frame("Q", b"SELECT 1\0 2\0"),
        frame("P", b"a\0SELECT 1\0" + struct.pack("!h", 9)),
        frame("B", b"\0\0" + struct.pack("!hhi", 0, 1, 1000)),
        frame("B", b"\0\0" + struct.pack("!hh", 0, -1)),
        frame("D", b"x\0"),
        frame("E", b"\0"),
        b"Q" + struct.pack("!i", 2),
        b"Q" + struct.pack("!i", -5),
        b"Q" + struct.pack("!i", 2**31 - 1),
    ],
)
def test_malformed_messages_end_only_their_connection(gate: GateHandle, garbage: bytes) -> None:
    before = gate.database_pid
    with closing(raw_connection(gate)) as link:
        link.send(frame("Q", b"BEGIN\0"))
        link.answer()
        link.send(garbage)
        answer = link.answer()
        assert answer[-1][0] == "E"
        assert b"C08P01" in answer[-1][1]
    assert gate.sql("SELECT 1") == [(1,)]
    assert gate.database_pid == before


def test_invalid_text_and_function_calls_are_errors_of_their_statement(gate: GateHandle) -> None:
    with closing(raw_connection(gate)) as link:
        for message in (frame("Q", b"SELECT '\xff'\0"), frame("F", struct.pack("!ihhh", 1598, 0, 0, 0))):
            link.send(message)
            assert link.kinds() == ["E", "Z"]
        link.send(frame("Q", b"\0"))
        assert link.kinds() == ["I", "Z"]


def test_large_statements_and_results_of_several_clients(gate: GateHandle) -> None:
    size = 64 * 1024 * 1024
    failures: list[BaseException] = []

    def transfer(number: int) -> None:
        try:
            with closing(gate.connect(autocommit=True)) as link, link.cursor() as cursor:
                text = chr(97 + number) * size
                cursor.execute("INSERT INTO fact VALUES (%s, %s) RETURNING length(body)", (100 + number, text))
                assert cursor.fetchone() == (size,)
                cursor.execute("SELECT body FROM fact WHERE id = %s", (100 + number,))
                assert cursor.fetchone() == (text,)
        except BaseException as error:  # noqa: BLE001 (a thread's failure belongs to the test)
            failures.append(error)

    threads = [threading.Thread(target=transfer, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert failures == []
    gate.sql("DELETE FROM fact WHERE id >= 100")


@pytest.mark.parametrize("node", [node_command, wheel_node], ids=["system node", "wheel node"])
def test_second_gate_on_the_same_folder_is_refused(gate: GateHandle, node: Callable[[], list[str]]) -> None:
    with pytest.raises(RuntimeError, match="is open in another database process"):
        start_gate(gate.data_dir, node=node())
    assert gate.sql("SELECT 1") == [(1,)]


def test_port_in_use_and_missing_options_are_one_clear_line(gate: GateHandle, tmp_path: Path) -> None:
    def stderr(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [*node_command(), str(SOURCE / "gate.mjs"), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stderr

    code, text = stderr("--data", str(tmp_path), "--modules", str(tmp_path), "--port", str(gate.port))
    assert (code, f"port {gate.port} is in use" in text) == (1, True)
    code, text = stderr("--data", str(tmp_path / "d"), "--modules", str(tmp_path))
    assert code == 1
    assert 'run "npm ci"' in text.splitlines()[-1]
    assert stderr("--data", "x")[0] == 2
    assert gate.sql("SELECT 1") == [(1,)]
