"""Each analysts' query, and the accuracy view, on small data whose answers can be computed by hand."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gate_support import GateHandle, start_gate
from store_support import HOUR, START, concat, query, readings

from infra.database import migrate
from operators.readings import Kind
from operators.store import Store

pytestmark = pytest.mark.integration

QUERIES = Path(__file__).resolve().parents[2] / "sql" / "queries"
HOURS = 24 * 35
FIRST_ISSUE = 24 * 7
STEP = np.arange(HOURS)
OFFICE = 10 + 5.0 * ((STEP % 24 >= 8) & (STEP % 24 < 18)) + (STEP // 24) % 7
SHOP = np.full(HOURS, 2.0)
BEGIN = datetime.fromtimestamp(START / 1000, UTC)
LOST = slice(400, 410)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GateHandle]:
    """Two hourly meters over five weeks, one with a gap, their forecasts, a conflict, a rejected record."""
    handle = start_gate(tmp_path_factory.mktemp("queries"))
    migrate(handle.url)
    store = Store(handle.url)
    ends = START + (STEP + 1) * HOUR
    counter = np.concatenate([[0.0], np.cumsum(SHOP)])
    kept = np.delete(np.arange(HOURS + 1), LOST)
    office = readings("office", ends, OFFICE, kind=Kind.INTERVAL, interval_ms=HOUR)
    shop = readings("shop", START + kept * HOUR, counter[kept])
    store.write_readings(concat([office, shop]), START + HOURS * HOUR)
    store.write_readings(readings("office", ends[:1], [1], kind=Kind.INTERVAL, interval_ms=HOUR), 0)
    device = readings("device", START + np.array([0, 1, 2, 3]) * HOUR, [50, 52, 0.5, 0.4996])
    store.write_readings(device, START)
    issues = np.arange(FIRST_ISSUE, HOURS - 24)
    for meter, load in (("office", OFFICE), ("shop", SHOP)):
        ahead = np.array([load[i : i + 24] for i in issues])
        kwh = np.stack([ahead + 0.5 + 0.25 * (q - 4) for q in range(9)], axis=1).astype(np.float32)
        n = len(issues)
        store.write_forecasts([meter] * n, START + issues * HOUR, np.full(n, 3600), kwh, "model-1", "sha")
    store.write_rejected(["t"], [0], [1], ["not_json"], ["at 1"], ["{"], received_at_ms=START)
    yield handle
    handle.stop()


def run(handle: GateHandle, name: str) -> list[dict[str, Any]]:
    connection = handle.connect()
    with connection.cursor() as cursor:
        cursor.execute((QUERIES / f"{name}.sql").read_text().replace("%", "%%"), ())
        assert cursor.description is not None
        rows = [dict(zip([c.name for c in cursor.description], row, strict=True)) for row in cursor.fetchall()]
    connection.close()
    return rows


def test_every_query_says_its_question_and_explains_its_columns(small: GateHandle) -> None:
    names = sorted(path.stem for path in QUERIES.glob("*.sql"))
    assert len(names) >= 10
    for name in names:
        head = " ".join(re.findall(r"^-- ?(.*)$", (QUERIES / f"{name}.sql").read_text(), re.MULTILINE))
        rows = run(small, name)
        assert rows, name
        explained = head[head.index("Columns:") :]
        assert [column for column in rows[0] if not re.search(rf"\b{column}\b", explained)] == [], name


def test_load_profile_base_load_and_top_consumers(small: GateHandle) -> None:
    profile = {(r["meter_id"], r["weekend"], r["hour"]): r for r in run(small, "load_profile")}
    local = [BEGIN + timedelta(hours=int(i)) for i in STEP]
    chosen = [OFFICE[i] for i, t in enumerate(local) if t.isoweekday() <= 5 and t.hour == 9]
    assert profile["office", False, 9]["mean_kw"] == pytest.approx(np.mean(chosen))
    assert profile["office", False, 9]["hours"] == len(chosen)
    base = {r["meter_id"]: r for r in run(small, "base_load")}
    assert base["office"]["base_kw"] == pytest.approx(np.percentile(OFFICE, 10))
    assert base["shop"]["base_share"] == pytest.approx(1)
    top = run(small, "top_consumers")
    assert [r["meter_id"] for r in top] == ["office", "shop"]
    assert top[-1]["running_share"] == pytest.approx(1)


def test_monthly_peaks_and_week_over_week(small: GateHandle) -> None:
    peaks = {(r["meter_id"], r["month"]): r for r in run(small, "monthly_peaks")}
    assert peaks["shop", date(2023, 11, 1)]["peak_kw"] == pytest.approx(2)
    november = [i for i in range(HOURS) if (BEGIN + timedelta(hours=i)).month == 11]
    assert peaks["office", date(2023, 11, 1)]["kwh"] == pytest.approx(OFFICE[november].sum())
    assert peaks["office", date(2023, 11, 1)]["peak_kw"] == pytest.approx(OFFICE.max())
    weeks = [r for r in run(small, "week_over_week") if r["meter_id"] == "office"]
    assert all(r["week"].isoweekday() == 1 for r in weeks)
    assert [round(r["change"], 9) for r in weeks if r["change"] is not None] == [0] * (len(weeks) - 1)


def test_gaps_late_rejected_and_conflicting_records(small: GateHandle) -> None:
    gap, *others = [r for r in run(small, "coverage_gaps") if r["meter_id"] == "shop"]
    assert (gap["gap_start"] - BEGIN, gap["hours"], others) == (timedelta(hours=399), 11, [])
    assert gap["kwh"] == pytest.approx(22)
    late = {r["meter_id"]: r for r in run(small, "late_readings")}
    assert late["office"]["worst_delay"] == timedelta(hours=HOURS - 1)
    assert late["office"]["later_than_an_hour"] == HOURS - 2
    (rejected,) = run(small, "rejected_by_reason")
    assert (rejected["reason"], rejected["records"], rejected["example_raw"]) == ("not_json", 1, "{")
    (conflict,) = run(small, "reading_conflicts")
    assert (conflict["conflicts"], conflict["largest_difference"]) == (1, OFFICE[0] - 1)


def test_findings_and_balance_of_registers(small: GateHandle) -> None:
    found = {r["cause"]: r for r in run(small, "reading_anomalies")}
    assert {cause: (r["meter_id"], r["kind"], r["findings"]) for cause, r in found.items()} == {
        "reset": ("device", "reset", 1), "dip": ("device", "negative", 1),
    }  # fmt: skip
    assert (found["reset"]["observed_kwh"], found["reset"]["counted_kwh"]) == (-51.5, 0.5)
    balance = {(r["meter_id"], r["epoch"]): r for r in run(small, "register_balance")}
    assert set(balance) == {("shop", 0), ("device", 0), ("device", 1)}
    assert balance["shop", 0]["register_kwh"] == pytest.approx(SHOP.sum())
    assert [balance["device", i]["register_kwh"] for i in (0, 1)] == [2, 0.5]
    assert max(abs(r["difference_kwh"]) for r in balance.values()) < 1e-9


def test_forecast_queries(small: GateHandle) -> None:
    rows = [r for r in run(small, "forecast_vs_actual") if r["meter_id"] == "office"]
    assert len(rows) == 24
    assert [r["actual_kwh"] for r in rows] == pytest.approx(OFFICE[HOURS - 25 : HOURS - 1].tolist(), rel=1e-12)
    assert all(r["inside"] for r in rows)
    bias = run(small, "forecast_bias")
    assert [r["hours_ahead"] for r in bias] == list(range(1, 25))
    assert bias[0]["bias"] * 12 == pytest.approx(0.5, rel=0.7)


def test_forecast_accuracy_is_what_numpy_says(small: GateHandle) -> None:
    rows = {row[0]: row for row in query(small.url, "SELECT * FROM forecast_accuracy")}
    known = SHOP.copy()
    known[399:410] = np.nan
    for meter, load in (("office", OFFICE.copy()), ("shop", known)):
        back = np.stack([np.concatenate([np.full(24 * d, np.nan), load[: -24 * d]]) for d in range(1, 8)])
        y = np.where(np.isnan(back[0] + back[6]), np.nan, load)
        count = np.maximum((~np.isnan(back)).sum(0), 1)
        simple = {6: back[6], 7: np.nansum(back, 0) / count, 8: (back[0] + back[6]) / 2}
        targets = np.array([np.arange(i, i + 24) for i in range(FIRST_ISSUE, HOURS - 24)]).ravel()
        targets = targets[~np.isnan(y[targets])]
        mean = y[targets].mean()
        got = rows[meter]
        assert got[:4] == (meter, "model-1", 3600, len(targets))
        assert got[4] == pytest.approx(mean)
        assert got[5] == pytest.approx(0.5 / mean, rel=1e-6)
        for column, baseline in simple.items():
            assert got[column] == pytest.approx(np.sqrt(np.mean((baseline - y)[targets] ** 2)) / mean, rel=1e-9), column
        error = -0.5 - 0.25 * (np.arange(9) - 4)
        level = np.arange(1, 10) / 10
        wql = 2 * np.mean(np.maximum(level * error, (level - 1) * error)) / mean
        assert got[9] == pytest.approx(wql, rel=1e-6)
        assert got[10] == 1
