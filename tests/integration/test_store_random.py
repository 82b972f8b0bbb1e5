"""Ten thousand random operations on the store against one derivation of the set; and configuration after the fact."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import psycopg2
import pytest
from gate_support import GateHandle
from store_support import (
    HOUR,
    START,
    concat,
    configure,
    expected_findings,
    expected_slots,
    expected_states,
    gate,
    messy,
    query,
    readings,
    shuffled,
    stored_findings,
    stored_slots,
    stored_states,
)

from operators import store as store_module
from operators.readings import Kind, Quality, Readings
from operators.rederive import rederive
from operators.store import Store

pytestmark = pytest.mark.integration

__all__ = ["gate"]

MINUTE = 60_000
OPERATIONS = 10_000
KIND_OF = {"a": Kind.REGISTER, "b": Kind.REGISTER, "c": Kind.INTERVAL, "d": Kind.INTERVAL, "e": Kind.INSTANT}


def agree(url: str, tag: str) -> None:
    """Everything derived is what one derivation of the stored readings gives."""
    assert stored_slots(url, tag) == expected_slots(url, tag)
    assert stored_findings(url, tag) == expected_findings(url, tag)
    states, expected = stored_states(url, tag), expected_states(url, tag)
    assert states == {key: expected[key] for key in states}


@dataclass
class Meter:
    """A meter that sends whatever comes to its mind."""

    name: str
    kind: Kind
    step_ms: int
    now_ms: int = START
    value: float = 95.0
    sent: list[tuple[int, float]] = field(default_factory=list)

    def operation(self, rng: np.random.Generator) -> Readings:
        """A new, late, repeated, revised or withdrawn reading, or one of another kind."""
        what = rng.choice(
            ["new", "late", "again", "revised", "withdrawn", "other"], p=[0.6, 0.15, 0.1, 0.09, 0.05, 0.01]
        )
        if what == "new" or not self.sent:
            self.now_ms += self.step_ms * int(rng.choice([1, 2, 9, 300], p=[0.8, 0.15, 0.045, 0.005]))
            if self.kind == Kind.REGISTER and rng.random() < 0.04:
                return self._reading(rng, self.now_ms, 0.0)  # a glitch: the counter goes on from where it was
            self.value = self._next(rng)
            return self._reading(rng, self.now_ms, self.value)
        ts, value = self.sent[int(rng.integers(max(0, len(self.sent) - 200), len(self.sent)))]
        if what == "late":
            ts -= int(rng.integers(1, 3 * self.step_ms))
            return self._reading(rng, ts, value + float(rng.choice([0.0, -0.0004, 0.3, -80.0], p=[0.5, 0.2, 0.2, 0.1])))
        if what == "again":
            return self._reading(rng, ts, value)
        if what == "other":
            other = Kind((self.kind + 1) % 3)
            length = self.step_ms if other == Kind.INTERVAL else 0
            return readings(self.name, [ts], [value], kind=other, interval_ms=length, revision=9)
        changed = self._reading(rng, ts, value + float(rng.choice([0.0, 0.0007, 1.0])))
        changed.revision[:] = rng.integers(1, 4)
        changed.quality[:] = Quality.INVALID if what == "withdrawn" else rng.choice([0, 1])
        return changed

    def _next(self, rng: np.random.Generator) -> float:
        if self.kind != Kind.REGISTER:
            return float(rng.choice([0.0, rng.random(), 500.0], p=[0.2, 0.77, 0.03])) * (-1) ** int(rng.integers(0, 2))
        step = rng.choice([0.0, 0.0006, 0.2, -0.0005, 300.0, -60.0], p=[0.3, 0.15, 0.45, 0.06, 0.01, 0.03])
        return max(self.value + float(step), 0.0)

    def _reading(self, rng: np.random.Generator, ts: int, value: float) -> Readings:
        self.sent.append((ts, value))
        length = self.step_ms * int(rng.choice([1, 3], p=[0.9, 0.1])) if self.kind == Kind.INTERVAL else 0
        return readings(self.name, [ts], [max(value, 0.0) if self.kind == Kind.REGISTER else value], kind=self.kind,
                        interval_ms=length)  # fmt: skip


def test_ten_thousand_random_operations_leave_what_one_derivation_gives(gate: GateHandle) -> None:
    rng = np.random.default_rng(20_260_101)
    meters = [
        Meter(f"ops-{letter}{i}", kind, int(rng.choice([1, 5, 7, 15, 60])) * MINUTE)
        for letter, kind in KIND_OF.items() for i in range(2)
    ]  # fmt: skip
    for meter in meters[::2]:
        configure(gate.url, meter.name, 100.0, 20.0)
    store, done, checked = Store(gate.url), 0, 0
    while done < OPERATIONS:
        size = int(rng.choice([1, 4, 30, 120]))
        store.write_readings(
            concat([meters[int(rng.integers(len(meters)))].operation(rng) for _ in range(size)]), 1_000
        )
        done += size
        if rng.random() < 0.02:
            chosen = meters[int(rng.integers(len(meters)))]
            configure(gate.url, chosen.name, *rng.choice([None, 90.0, 150.0], 2).tolist())
            store.rederive(chosen.name)
        if done > checked + OPERATIONS // 5:
            checked = done
            agree(gate.url, "ops")
    agree(gate.url, "ops")
    causes = {row[0] for row in query(gate.url, "SELECT DISTINCT cause FROM anomaly WHERE meter_id LIKE 'ops-%%'")}
    assert causes >= {"dip", "glitch", "reset", "rollover", "replacement", "implausible"}
    assert query(
        gate.url, "SELECT count(*) FROM energy_slot WHERE meter_id LIKE 'ops-%%' AND kwh < 0 AND kind = 'register'"
    ) == [(0,)]


@pytest.mark.parametrize("seed", [11, 12])
def test_findings_do_not_depend_on_order_or_batches(gate: GateHandle, seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole, parts = f"fwhole{seed}", f"fparts{seed}"
    everything = messy(rng, whole)
    for i in range(0, 6, 2):
        configure(gate.url, f"{whole}-{i}", None, 0.3)
        configure(gate.url, f"{parts}-{i}", None, 0.3)
    Store(gate.url).write_readings(everything, 1_000)
    moved = shuffled(rng, everything, 12 * HOUR)
    moved.meter_id[:] = [name.replace(whole, parts) for name in moved.meter_id.tolist()]
    store = Store(gate.url)
    for part in np.array_split(np.arange(len(moved)), 40):
        store.write_readings(moved.take(part), 1_000)
    agree(gate.url, whole)
    agree(gate.url, parts)
    rows = [stored_findings(gate.url, tag) for tag in (whole, parts)]
    assert len(rows[0]) > 3
    assert [row[3:5] + row[6:] for row in rows[0]] == [row[3:5] + row[6:] for row in rows[1]]


def test_each_cause_is_told_apart(gate: GateHandle) -> None:
    ts = START + np.arange(8) * 15 * MINUTE
    configure(gate.url, "causes-a", 1000.0, 40.0)
    Store(gate.url).write_readings(readings("causes-a", ts, [990, 999, 1.5, 1.4995, 8, 0.2, 300, 200]), 1_000)
    rows = query(
        gate.url,
        """SELECT kind, cause, value_before, value_after, observed_kwh, expected_kwh, upper_kwh, register, start_ts,
            end_ts
        FROM anomaly WHERE meter_id = 'causes-a' ORDER BY end_ts""",
    )
    assert [row[:4] for row in rows] == [
        ("reset", "rollover", 999, 1.5),
        ("negative", "dip", 1.5, 1.4995),
        ("reset", "reset", 8, 0.2),
        ("spike", "implausible", 0.2, 300),
        ("reset", "replacement", 300, 200),
    ]
    assert [row[5] for row in rows] == pytest.approx([2.5, 0, 0.2, 0, 0])
    assert [row[6] for row in rows] == pytest.approx([12] * 5)
    assert {row[7] for row in rows} == {"1-0:1.8.0"}
    assert all((row[9] - row[8]).total_seconds() == 900 for row in rows)


def test_other_anomalies_are_left_alone(gate: GateHandle) -> None:
    connection = gate.connect(autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO anomaly (anomaly_id, meter_id, kind, start_ts, end_ts) VALUES ('x', 'others-a', 'spike', "
            "to_timestamp(%s / 1000.0), to_timestamp(%s / 1000.0))",
            (START, START + HOUR),
        )
    connection.close()
    store = Store(gate.url)
    store.write_readings(readings("others-a", START + np.array([0, 2]) * HOUR, [5, 6]), 1_000)
    store.write_readings(readings("others-a", [START + HOUR], [5.5]), 1_000)
    store.rederive("others-a")
    assert query(gate.url, "SELECT anomaly_id FROM anomaly WHERE meter_id = 'others-a'") == [("x",)]


@pytest.mark.parametrize("piece", [7, 100, 50_000])
def test_a_history_derived_again_in_pieces_of_any_size(gate: GateHandle, piece: int) -> None:
    tag = f"again{piece}"
    everything = messy(np.random.default_rng(31), tag, meters=6, days=2)
    store = Store(gate.url)
    store.write_readings(everything, 1_000)
    for i in range(6):
        configure(gate.url, f"{tag}-{i}", 110.0, 0.15)
    if piece == 7:
        assert stored_slots(gate.url, tag) != expected_slots(gate.url, tag)
    connection = psycopg2.connect(gate.url)
    with connection, connection.cursor() as cursor:
        for i in range(6):
            assert rederive(cursor, f"{tag}-{i}", "1-0:1.8.0", piece) is not None
    connection.close()
    agree(gate.url, tag)


def test_derived_again_the_aggregates_follow_and_the_meter_is_no_longer_outdated(
    gate: GateHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(gate.url)
    value = [99_990, 99_998, 5, 12]
    store.write_readings(readings("turns-a", START - 400 * 24 * HOUR + np.arange(4) * HOUR, value), 1_000)
    connection = gate.connect(autocommit=True)
    with connection.cursor() as cursor:
        for level in ("energy_15m", "energy_hourly", "energy_daily"):
            cursor.execute(f"CALL refresh_continuous_aggregate('{level}', NULL, '2023-01-01')")
    connection.close()
    total = "SELECT sum(kwh) FROM energy_daily WHERE meter_id = 'turns-a'"
    assert query(gate.url, total) == [(20,)]  # taken for a reset
    configure(gate.url, "turns-a", 100_000.0)
    assert "turns-a" in store.outdated()

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "rederive", crash)
        with pytest.raises(KeyboardInterrupt):
            store.rederive("turns-a")
    assert ("turns-a" in store.outdated(), query(gate.url, total)) == (True, [(20,)])
    assert store.rederive("turns-a") == 1
    assert ("turns-a" in store.outdated(), query(gate.url, total)) == (False, [(22,)])
    assert query(gate.url, "SELECT cause FROM anomaly WHERE meter_id = 'turns-a'") == [("rollover",)]
