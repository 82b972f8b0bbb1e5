"""The store on the embedded TimescaleDB: what is stored is a function of the set of readings, and always current."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import numpy as np
import psycopg2
import pytest
from gate_support import GateHandle, start_gate
from store_support import (
    HOUR,
    START,
    concat,
    expected_slots,
    gate,
    messy,
    query,
    readings,
    shuffled,
    stored_slots,
)

from infra.database import migrate, run_due_policies
from operators.readings import Kind, Quality, Readings
from operators.store import Store, StoreError, WriteCounts

pytestmark = pytest.mark.integration

__all__ = ["gate"]

STORED = """SELECT register, ts, kind, value, unit, interval_s, revision, quality FROM reading
    WHERE meter_id LIKE %s ORDER BY meter_id, register, ts"""


def write_in_parts(store: Store, r: Readings, rng: np.random.Generator) -> list[WriteCounts]:
    """The readings in order, in batches of all sizes."""
    counts, i = [], 0
    while i < len(r):
        size = int(rng.choice([1, 20, 300, 1500]))
        counts.append(store.write_readings(r.take(np.arange(i, min(i + size, len(r)))), 1_000))
        i += size
    return counts


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_order_and_batches_change_nothing(gate: GateHandle, seed: int) -> None:
    rng = np.random.default_rng(seed)
    all_at_once, in_parts = messy(rng, f"whole{seed}"), f"parts{seed}"
    Store(gate.url).write_readings(all_at_once, 1_000)
    moved = shuffled(rng, all_at_once, int(rng.choice([HOUR, 12 * HOUR, 7 * 24 * HOUR])))
    moved.meter_id[:] = [meter.replace(f"whole{seed}", in_parts) for meter in moved.meter_id.tolist()]
    counts = write_in_parts(Store(gate.url), moved, rng)
    assert sum(c.new + c.repeated + c.superseded + c.conflicts for c in counts) == len(moved)
    assert query(gate.url, STORED, (in_parts + "-%",)) == query(gate.url, STORED, (f"whole{seed}-%",))
    assert sum(c.new for c in counts) == len(query(gate.url, STORED, (in_parts + "-%",)))
    assert stored_slots(gate.url, in_parts) == expected_slots(gate.url, in_parts)
    assert list(stored_slots(gate.url, in_parts).values()) != []


def test_the_same_batch_again_changes_nothing(gate: GateHandle) -> None:
    batch = messy(np.random.default_rng(9), "again")
    store = Store(gate.url)
    first = store.write_readings(batch, 1_000)
    before = query(gate.url, "SELECT xmin::text, * FROM energy_slot WHERE meter_id LIKE 'again-%%' ORDER BY 2, 3, 4, 5")
    second = store.write_readings(batch, 2_000)
    after = query(gate.url, "SELECT xmin::text, * FROM energy_slot WHERE meter_id LIKE 'again-%%' ORDER BY 2, 3, 4, 5")
    assert (first.new > 0, second.new, second.repeated) == (True, 0, second.repeated)
    assert before == after
    received = query(gate.url, "SELECT DISTINCT received_at FROM reading WHERE meter_id LIKE 'again-%%'")
    assert received == [(datetime.fromtimestamp(1, UTC),)]


def test_each_reading_keeps_its_own_arrival(gate: GateHandle) -> None:
    batch = readings("arrivals", [START, START + HOUR], [1.0, 2.0])
    Store(gate.url).write_readings(batch, np.array([2_000, 5_000]))
    sql = "SELECT extract(epoch FROM received_at) FROM reading WHERE meter_id = 'arrivals' ORDER BY ts"
    found = query(gate.url, sql)
    assert [float(at) for (at,) in found] == [2.0, 5.0]


def test_of_several_equal_readings_the_first_arrival_stays_however_they_are_cut(gate: GateHandle) -> None:
    at = [START, START, START + HOUR, START + HOUR]
    whole = readings("first-a", at, [1.0, 1.0, 2.0, 3.0])
    Store(gate.url).write_readings(whole, np.array([7_000, 4_000, 5_000, 6_000]))
    split = readings("first-b", at, [1.0, 1.0, 2.0, 3.0])
    store = Store(gate.url)
    for part, arrived in ((1, 4_000), (0, 7_000), (2, 5_000), (3, 6_000)):
        store.write_readings(split.take(np.array([part])), arrived)
    for meter in ("first-a", "first-b"):
        sql = f"SELECT value, extract(epoch FROM received_at) FROM reading WHERE meter_id = '{meter}' ORDER BY ts"
        assert [(value, float(arrived)) for value, arrived in query(gate.url, sql)] == [(1.0, 4.0), (3.0, 5.0)]


def test_concurrent_writers_of_one_meter_lose_nothing(gate: GateHandle) -> None:
    rng = np.random.default_rng(4)
    everything = shuffled(rng, messy(rng, "both", meters=3, days=2), HOUR)
    failures: list[BaseException] = []

    def write(which: int) -> None:
        try:
            mine = np.flatnonzero((np.arange(len(everything)) % 3 == which) | (np.arange(len(everything)) % 7 == 0))
            part = everything.take(mine)
            store = Store(gate.url)
            for i in range(0, len(part), 60):
                store.write_readings(part.take(np.arange(i, min(i + 60, len(part)))), 1_000)
            store.close()
        except BaseException as error:  # noqa: BLE001 — shown by the test's thread
            failures.append(error)

    writers = [threading.Thread(target=write, args=(which,)) for which in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert failures == []
    keys = set(zip(everything.meter_id.tolist(), everything.ts_ms.tolist(), strict=True))
    assert query(gate.url, "SELECT count(*) FROM reading WHERE meter_id LIKE 'both-%%'") == [(len(keys),)]
    assert stored_slots(gate.url, "both") == expected_slots(gate.url, "both")


def test_a_revision_may_change_kind_and_take_a_reading_away(gate: GateHandle) -> None:
    store = Store(gate.url)
    ts = START + np.arange(5) * 900_000
    store.write_readings(readings("kind-a", ts, [1, 2, 3, 4, 5]), 1_000)
    store.write_readings(readings("kind-a", ts[[2]], [0.5], kind=Kind.INTERVAL, interval_ms=900_000, revision=1), 1_000)
    assert stored_slots(gate.url, "kind") == expected_slots(gate.url, "kind")
    store.write_readings(readings("kind-a", ts[[2, 4]], [3, 5], quality=Quality.INVALID, revision=2), 1_000)
    assert stored_slots(gate.url, "kind") == expected_slots(gate.url, "kind")
    store.write_readings(readings("kind-a", START + np.array([6, 7]) * 900_000, [9, 11]), 1_000)
    assert stored_slots(gate.url, "kind") == expected_slots(gate.url, "kind")
    assert query(gate.url, "SELECT sum(kwh) FROM energy_15m WHERE meter_id = 'kind-a'") == [(pytest.approx(10),)]


def test_revisions_repeats_and_conflicts_are_told_apart(gate: GateHandle) -> None:
    store = Store(gate.url)
    assert store.write_readings(readings("told-a", [START], [5]), 1_000) == WriteCounts(new=1)
    assert store.write_readings(readings("told-a", [START], [5]), 1_000) == WriteCounts(repeated=1)
    assert store.write_readings(readings("told-a", [START], [4]), 1_000) == WriteCounts(conflicts=1)
    assert store.write_readings(readings("told-a", [START], [6]), 1_000) == WriteCounts(conflicts=1)
    assert store.write_readings(readings("told-a", [START], [1], revision=2), 1_000) == WriteCounts(superseded=1)
    assert store.write_readings(readings("told-a", [START], [9], revision=1), 1_000) == WriteCounts(superseded=1)
    assert query(gate.url, "SELECT value, revision FROM reading WHERE meter_id = 'told-a'") == [(1, 2)]
    dropped = query(gate.url, "SELECT dropped_value FROM reading_conflict WHERE meter_id = 'told-a' ORDER BY 1")
    assert dropped == [(4,), (5,)]


def test_aggregates_are_current_in_what_is_materialised(gate: GateHandle) -> None:
    store = Store(gate.url)
    days = 12
    ts = START + np.arange(days * 24 + 1) * HOUR
    keep = np.arange(len(ts)) != 30
    value = np.arange(len(ts)) * 2.0
    store.write_readings(readings("late-a", ts[keep], value[keep]), 1_000)
    # Of a database of its own age: materialise up to two days after the late hour, whatever other tests wrote.
    connection = gate.connect(autocommit=True)
    with connection.cursor() as cursor:
        for level in ("energy_15m", "energy_hourly", "energy_daily"):
            cursor.execute(f"CALL refresh_continuous_aggregate('{level}', NULL, '2023-11-18')")
    store.write_readings(readings("late-a", ts[[30]], value[[30]] + 1), 1_000)
    store.write_readings(readings("late-b", START + np.arange(3) * HOUR, [0, 1, 2]), 1_000)
    for level, width in (("energy_15m", 900), ("energy_hourly", 3600), ("energy_daily", 86400)):
        rows = query(
            gate.url,
            f"""SELECT coalesce(a.meter_id, s.meter_id), coalesce(a.bucket, s.bucket),
                abs(coalesce(a.kwh, -1) - coalesce(s.kwh, -1)), abs(a.coverage - s.covered), a.readings - s.readings
            FROM (SELECT * FROM {level} WHERE meter_id LIKE 'late-%%') AS a
            FULL JOIN (
                SELECT meter_id, time_bucket('{width} s', bucket) AS bucket, sum(kwh) AS kwh,
                    sum(covered_s) / {width} AS covered, sum(readings) AS readings
                FROM energy_slot WHERE meter_id LIKE 'late-%%' GROUP BY 1, 2
            ) AS s USING (meter_id, bucket)
            ORDER BY 3 DESC, 4 DESC""",
        )
        assert len(rows) > days
        assert all(row[2] < 1e-9 and row[3] < 1e-9 and row[4] == 0 for row in rows), (level, rows[:3])
    assert query(gate.url, "SELECT sum(kwh) FROM energy_daily WHERE meter_id = 'late-a'") == [(days * 48,)]
    connection.close()


def test_net_is_import_minus_export_and_counts_no_energy_twice(gate: GateHandle) -> None:
    ts = START + np.arange(3) * 900_000
    registers = {
        "1-0:1.8.0": [0, 3, 6], "1-0:1.8.1": [0, 3, 6], "1-0:2.8.1": [0, 1, 1], "1-0:2.8.2": [0, 0.5, 0.5],
    }  # fmt: skip
    parts = [readings("net-a", ts, value, register=name) for name, value in registers.items()]
    parts.append(readings("net-a", ts, [12, 12, 12], kind=Kind.INSTANT, register="1-0:1.7.0"))
    parts.append(readings("net-b", ts, [4, 4, -4], kind=Kind.INSTANT, register="1-0:16.7.0"))
    parts.append(readings("net-c", ts, [0, 1, 3], register="1-0:2.8.0"))
    Store(gate.url).write_readings(concat(parts), 1_000)
    rows = query(
        gate.url, "SELECT meter_id, kwh, coverage FROM energy_15m WHERE meter_id LIKE 'net-%%' ORDER BY 1, bucket"
    )
    assert rows == [
        ("net-a", 1.5, 1),
        ("net-a", 3, 1),
        ("net-b", 1, 1),
        ("net-b", 0, 1),
        ("net-c", -1, 1),
        ("net-c", -2, 1),
    ]


def test_register_max_and_max_kw_come_from_the_meter(gate: GateHandle) -> None:
    connection = gate.connect(autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO meter (meter_id, register_max) VALUES ('rolls-a', 100000)")
    connection.close()
    Store(gate.url).write_readings(readings("rolls-a", START + np.arange(2) * 900_000, [99_999, 3]), 1_000)
    assert query(gate.url, "SELECT kwh FROM energy_15m WHERE meter_id = 'rolls-a'") == [(4,)]


def test_unknown_meters_register_themselves(gate: GateHandle) -> None:
    Store(gate.url).write_readings(readings("new-a", [START], [1]), 1_000)
    assert query(gate.url, "SELECT site_id, tz, configured FROM meter WHERE meter_id = 'new-a'") == [
        ("default", "UTC", False)
    ]


def test_a_meter_whose_first_reading_is_invalid(gate: GateHandle) -> None:
    store = Store(gate.url)
    assert store.write_readings(readings("void-a", [START], [5], quality=Quality.INVALID), 1_000).new == 1
    store.write_readings(readings("void-a", START + np.array([1, 2]) * HOUR, [5, 6]), 1_000)
    assert query(gate.url, "SELECT sum(kwh) FROM energy_15m WHERE meter_id = 'void-a'") == [(1,)]


def test_names_of_every_kind_arrive(gate: GateHandle) -> None:
    names = ['odd-"quoted"', "odd-back\\slash", "odd-{a,b}", "odd-ü€😀", "odd-' ; --", "odd-%s", "odd-\x00nul"]
    Store(gate.url).write_readings(concat([readings(name, [START], [1]) for name in names]), 1_000)
    stored = query(gate.url, "SELECT meter_id FROM reading WHERE meter_id LIKE 'odd-%%'")
    assert {row[0] for row in stored} == {name.replace("\x00", "\ufffd") for name in names}


def test_rejected_records_and_forecasts_are_stored_once(gate: GateHandle) -> None:
    store = Store(gate.url)
    columns = (["t", "t"], [0, 1], [7, 7], ["not_json", "bad_ts"], ["x", ""], ["{", "\x00"])
    assert (store.write_rejected(*columns, received_at_ms=1_000), store.write_rejected(*columns)) == (2, 0)
    assert query(
        gate.url, 'SELECT partition, "offset", reason FROM rejected_reading WHERE topic = %s ORDER BY 1', ("t",)
    ) == [
        (0, 7, "not_json"),
        (1, 7, "bad_ts"),
    ]
    kwh = np.arange(2 * 9 * 24, dtype=np.float32).reshape(2, 9, 24) / 7
    issued = np.array([START, START + HOUR])
    arguments = (["f-a", "f-b"], issued, np.array([3600, 900]), kwh, "model", "sha")
    assert (store.write_forecasts(*arguments), store.write_forecasts(*arguments)) == (2, 0)
    rows = query(gate.url, "SELECT target_ts, q10, q90, step_s FROM forecast WHERE meter_id = 'f-b' ORDER BY 1")
    assert len(rows) == 24
    assert (rows[1][0] - rows[0][0]).total_seconds() == 900
    assert rows[0][0] == datetime.fromtimestamp((START + HOUR) / 1000, UTC)
    assert [np.float32(row[1]) for row in rows] == kwh[1, 0].tolist()
    assert [np.float32(row[2]) for row in rows] == kwh[1, 8].tolist()
    assert query(gate.url, "SELECT count(*), max(issued_at) FROM forecast_latest WHERE meter_id = 'f-a'")[0][0] == 24
    with pytest.raises(ValueError, match="finite"):
        store.write_forecasts(["f-a"], issued[:1], np.array([900]), np.full((1, 9), np.nan, np.float32), "m", "s")


def test_a_value_that_cannot_be_stored_is_raised_and_harms_nothing(gate: GateHandle) -> None:
    store = Store(gate.url)
    with pytest.raises(psycopg2.Error, match="index row"):
        store.write_readings(readings("x" + "".join(chr(0x4E00 + i) for i in range(5000)), [START], [1]), 1_000)
    assert store.write_readings(readings("after-a", [START], [1]), 1_000).new == 1


def test_an_empty_database_is_named(gate: GateHandle) -> None:
    store = Store(gate.url)
    connection = gate.connect(autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE forecast_issue RENAME TO forecast_issue_away")
        try:
            with pytest.raises(StoreError, match="run the migrations"):
                store.write_forecasts(["a"], np.array([START]), np.array([900]), np.ones((1, 9), np.float32), "m", "s")
        finally:
            cursor.execute("ALTER TABLE forecast_issue_away RENAME TO forecast_issue")
    connection.close()


def test_a_killed_database_delays_and_loses_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    handle = start_gate(tmp_path_factory.mktemp("killed"))
    try:
        migrate(handle.url)
        rng = np.random.default_rng(8)
        everything = shuffled(rng, messy(rng, "kill", meters=3, days=2), HOUR)
        store = Store(handle.url)
        for number, i in enumerate(range(0, len(everything), 100)):
            if number in (2, 5):
                handle.kill_database()
            store.write_readings(everything.take(np.arange(i, min(i + 100, len(everything)))), 1_000)
        keys = set(zip(everything.meter_id.tolist(), everything.ts_ms.tolist(), strict=True))
        assert query(handle.url, "SELECT count(*) FROM reading") == [(len(keys),)]
        assert stored_slots(handle.url, "kill") == expected_slots(handle.url, "kill")
        assert "refresh_energy" in run_due_policies(handle.url)
    finally:
        handle.stop()
