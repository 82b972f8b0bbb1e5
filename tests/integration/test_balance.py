"""Registers balance, meter by meter and epoch by epoch: a fleet with its faults, and the DEBS sample's `work`."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gate_support import GateHandle
from store_support import START, concat, configure, gate, query, readings

from jobs.replay.fleet import FleetSpec, generate
from jobs.replay.fleet_faults import Faults
from operators.energy import SeriesConfig, derive, resolve
from operators.findings import CAUSES
from operators.increments import Event, resolution
from operators.readings import Kind, Quality, Readings
from operators.store import Store

pytestmark = pytest.mark.integration

__all__ = ["gate"]

ROOT = Path(__file__).resolve().parents[2]
BALANCE = (ROOT / "sql" / "queries" / "register_balance.sql").read_text()
DEBS = ROOT.parent / "shared" / "data" / "debs2014-sample" / "smartgrid-data.txt.gz"
KWH = {"kWh": 1.0, "Wh": 0.001, "MWh": 1000.0, "kW": 1.0, "W": 0.001, "MW": 1000.0}
COLUMNS = (
    "meter_id", "register", "epoch", "begun_by", "first_ts", "last_ts", "first_kwh", "last_kwh", "before_kwh",
    "register_kwh", "slot_kwh", "difference_kwh",
)  # fmt: skip


def balance(url: str, tag: str) -> list[dict[str, Any]]:
    """Rows of the query of meters beginning with `tag`."""
    rows = query(url, BALANCE)
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows if str(row[0]).startswith(tag)]


def write_shuffled(url: str, r: Readings, rng: np.random.Generator, batches: int) -> None:
    """In any order, a seventh of it twice."""
    store = Store(url)
    order = rng.permutation(np.concatenate([np.arange(len(r)), rng.integers(0, len(r), len(r) // 7)]))
    for part in np.array_split(order, batches):
        store.write_readings(r.take(part), 1_000)
    store.close()


def epochs_by_hand(value: np.ndarray) -> list[tuple[float, float]]:
    """First and highest value of each epoch of a counter without limits: the rule once more, row by row."""
    found = [(value[0], value[0])]
    for v in value[1:].tolist():
        first, mark = found[-1]
        if v < mark - float(resolution(mark)):
            found.append((v, v))
        else:
            found[-1] = (first, max(mark, v))
    return found


def test_a_fleet_with_resets_rollovers_and_replacements_balances(gate: GateHandle) -> None:
    rng = np.random.default_rng(3)
    faults = Faults(resets=2.0, replacements=2.0, rollovers=0.5, missing=1.0, revisions=0.0)
    made = generate(
        FleetSpec(seed=5, meters=8, days=7, kinds=("register:900", "register:3600"), start_ms=START, faults=faults)
    )
    b = made.readings
    value = b.value * np.array([KWH[unit] for unit in b.unit])
    # Every other meter away from the quarter-hours' borders, so that epochs share them.
    ts = b.ts_ms + np.array([433_000 * (int(meter[-1]) % 2) for meter in b.meter_id.tolist()])
    # Jitter within the counter's resolution, downward, on some readings.
    value -= np.where(rng.random(len(value)) < 0.05, np.minimum(0.0009, value), 0.0)
    fleet = concat([
        readings(f"fleet-{meter}", ts[mine], value[mine], register=str(register or "1-0:1.8.0"))
        for meter in np.unique(b.meter_id) for register in np.unique(b.register[b.meter_id == meter])
        if (mine := (b.meter_id == meter) & (b.register == register)).any()
    ])  # fmt: skip
    for meter in made.meters.itertuples():
        configure(gate.url, f"fleet-{meter.meter_id}", float(meter.register_max_kwh) or None)
    write_shuffled(gate.url, fleet, rng, 12)
    rows = balance(gate.url, "fleet-")
    causes = {row["begun_by"] for row in rows}
    assert causes >= {None, "reset", "rollover", "replacement"}
    assert {row[0] for row in query(gate.url, "SELECT DISTINCT cause FROM anomaly WHERE meter_id LIKE 'fleet-%%'")} >= {
        "dip"
    }
    for row in rows:
        assert abs(row["difference_kwh"]) <= 1e-9 * max(1.0, row["last_kwh"]), row
    total = query(gate.url, "SELECT sum(kwh) FROM energy_slot WHERE meter_id LIKE 'fleet-%%'")[0][0]
    assert sum(row["slot_kwh"] for row in rows) == pytest.approx(total, rel=1e-12)


def test_the_balance_shows_a_kwh_that_is_missing(gate: GateHandle) -> None:
    ts = START + np.arange(9) * 420_000
    Store(gate.url).write_readings(readings("short-a", ts, [5, 6, 7, 0.1, 1, 2, 1.5, 1.8, 4]), 1_000)
    rows = balance(gate.url, "short-a")
    assert [(row["epoch"], row["begun_by"]) for row in sorted(rows, key=lambda r: r["epoch"])] == [
        (0, None), (1, "reset"), (2, "replacement"),
    ]  # fmt: skip
    assert [row["register_kwh"] for row in sorted(rows, key=lambda r: r["epoch"])] == pytest.approx([2, 2, 2.5])
    assert max(abs(row["difference_kwh"]) for row in rows) < 1e-12
    connection = gate.connect(autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE energy_slot SET kwh = kwh + 0.25 WHERE meter_id = 'short-a' AND bucket = "
                       "(SELECT max(bucket) FROM energy_slot WHERE meter_id = 'short-a')")  # fmt: skip
    connection.close()
    worst = balance(gate.url, "short-a")[0]
    assert (worst["epoch"], worst["difference_kwh"]) == (2, pytest.approx(0.25))


@pytest.fixture(scope="module")
def debs() -> Readings:
    """`work` of every plug of the DEBS 2014 sample, as registers; of several values of one second all are kept."""
    if not DEBS.exists():
        pytest.skip("the DEBS 2014 sample is not on this machine")
    with gzip.open(DEBS, "rt") as lines:
        table = np.array([line.split() for line in lines if line.strip()], np.float64)
    work = table[table[:, 2] == 0]
    names = [f"debs-{house:.0f}-{home:.0f}-{plug:.0f}" for _, _, _, plug, home, house in work.tolist()]
    made = readings("", (work[:, 0] * 1000).astype(np.int64), work[:, 1])
    made.meter_id[:] = names
    return made


def test_every_meter_of_the_debs_sample_balances(
    gate: GateHandle, debs: Readings, record_property: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shuffled(gate.url, debs, np.random.default_rng(4), 5)
    rows = balance(gate.url, "debs-")
    names, series = np.unique(debs.meter_id.astype(str), return_inverse=True)
    kept = resolve(series, debs).keep
    by_hand = {names[s]: epochs_by_hand(debs.value[kept][series[kept] == s]) for s in range(len(names))}
    found = {name: [] for name in names.tolist()}
    for row in sorted(rows, key=lambda r: (r["meter_id"], r["epoch"])):
        found[row["meter_id"]].append((row["first_kwh"], row["last_kwh"]))
        assert abs(row["difference_kwh"]) <= 1e-9 * max(1.0, row["last_kwh"]), row
    assert found == by_hand
    # The same from the pure operator, without a database.
    config = SeriesConfig.of_kinds(np.full(len(names), Kind.REGISTER, np.int8))
    r = debs.take(kept)
    derived = derive(
        series[kept], r.ts_ms, r.value, r.interval_ms, np.full(len(r), Quality.MEASURED, np.int8), config=config
    )
    sums = np.bincount(derived.slots.series, derived.slots.kwh, len(names))
    border = np.bincount(derived.events.series, derived.events.kwh, len(names))
    risen = np.array([sum(last - first for first, last in by_hand[name]) for name in names.tolist()])
    worst = float(np.abs(sums - border - risen).max())
    assert worst <= 1e-9
    largest = max(abs(row["difference_kwh"]) for row in rows)
    causes = [CAUSES[Event(code)][1] for code in derived.events.code.tolist()]
    hours = (int(r.ts_ms.max()) - int(r.ts_ms.min())) / 3_600_000
    figures = (
        f"DEBS 2014 sample: {len(debs)} readings of work, {len(names)} meters, {len(rows)} epochs "
        f"({ {cause: causes.count(cause) for cause in sorted(set(causes))} }), {sums.sum():.3f} kWh in {hours:.2f} h, "
        f"largest difference of an epoch {largest:.1e} kWh, of a meter {worst:.1e} kWh"
    )
    record_property("figures", figures)
    with capsys.disabled():
        print(f"\n{figures}")
