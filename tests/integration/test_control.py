"""The control job on real parts: a live site whose loop is closed through Kafka, and a past that is replayed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import psycopg2
import pytest

from infra.embedded.stack import Stack
from jobs.commands.explain import explained
from jobs.flink_rest import FlinkRest
from jobs.reports import control_savings
from operators.control_lifecycle.receipts import is_sealed
from operators.control_lifecycle.times import iso, parse_ts_ms
from operators.control_site.again import furthest_kw, plan_again
from tests.control_site import LIMIT_KW, LOAD_KW, SITE, Controlled, controlled, forecast

PREFIX = "control-it-"
WITHIN_S = 240
PAST = {**SITE, "site_id": "it-past", "mode": "live", "meters": ["it-old"], "settings": {},
        "assets": [{**a, "asset_id": a["asset_id"] + "-old"} for a in SITE["assets"]]}  # fmt: skip
PAST_MS = 1_704_067_200_000
WATCHED = {"site_id": "it-watched", "tz": "UTC", "limit_kw": LIMIT_KW, "meters": ["it-main"]}
"""No device, only a limit."""


def until(condition: Callable[[], Any], what: str, within_s: float = WITHIN_S) -> Any:
    """The condition's value, once it is true."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {within_s} s"
        threading.Event().wait(0.5)
    return found


@pytest.fixture(scope="module")
def run(stack: Stack) -> Iterator[Controlled]:
    with controlled(stack, PREFIX, SITE, submitted=False) as made:
        connection = psycopg2.connect(made.deployment.where.database_url)
        with connection, connection.cursor() as cursor:
            cursor.execute("INSERT INTO site (site_id, tz) VALUES ('it-past', 'UTC'), ('it-hq', 'UTC')")
        connection.close()
        made.put("sites", "it-past", PAST)
        made.put("sites", "it-watched", WATCHED)
        made.put("meter.readings", "it-main", *[
            {"meter_id": "it-main", "kind": "interval", "interval_s": 60, "value": kw / 60, "unit": "kWh",
             "ts": PAST_MS + k * 60_000} for k, kw in enumerate([40.0] * 18 + [70.0] * 12 + [40.0] * 30, 1)
        ])  # fmt: skip
        made.put("meter.readings", "it-old", *[
            {"meter_id": "it-old", "kind": "interval", "interval_s": 900, "value": LOAD_KW / 4, "unit": "kWh",
             "ts": PAST_MS + k * 900_000} for k in range(1, 41)
        ])  # fmt: skip
        made.put("forecasts", "it-old", *[forecast("it-old", PAST_MS + k * 900_000, LOAD_KW) for k in range(40)])
        made.submit()
        yield made


def test_the_loop_closes_and_the_limit_holds(run: Controlled) -> None:
    until(lambda: set(run.site.states().values()) == {"active"}, "both devices follow leases")
    # Alone the load and the heating would draw 52 kW.
    until(run.site.drivers["it-heat"].measured_w, "the heating runs")
    threading.Event().wait(12)
    recent = np.array([kw for _, kw in run.site.import_kw[-24:]])
    assert recent.mean() <= LIMIT_KW * 1.01, recent
    sent = run.setpoints()
    assert all(is_sealed(s["inputs"]) and s["mode"] == "live" for s in sent)
    assert len({s["setpoint_id"] for s in sent}) == len(sent)
    for one in sent:
        assert one["ttl_s"] <= 120


def test_an_event_of_the_grid_operator_is_kept(run: Controlled) -> None:
    now = time.time_ns() // 1_000_000
    event = {
        "objectType": "EVENT", "id": "e-1", "targets": ["it-hq"], "createdDateTime": iso(now),
        "intervalPeriod": {"start": iso(now), "duration": "PT1H"},
        "intervals": [{"id": 0, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [38]}]}],
    }  # fmt: skip
    run.put("dr.events", "e-1", event)
    until(lambda: np.mean([kw for _, kw in run.site.import_kw[-8:]]) <= 38 * 1.01, "the site is below 38 kW")
    newest = run.setpoints()[-1]
    assert newest["inputs"]["grid_limit_kw"] == 38.0
    assert newest["inputs"]["dr_events"] == ["e-1"]
    run.put("dr.events", "e-1", {**event, "status": "cancelled", "modificationNumber": 1})


def test_what_is_sent_and_answered_is_in_the_tables(run: Controlled) -> None:
    rows = run.deployment.rows
    until(lambda: rows("SELECT 1 FROM setpoint WHERE site_id = 'it-hq'"), "setpoints are stored")
    until(lambda: rows("SELECT 1 FROM setpoint_ack WHERE asset_id = 'it-battery' AND status = 'STARTED'"), "answers")
    (record,) = rows("SELECT record FROM control_plan WHERE site_id = 'it-hq' ORDER BY planned_at LIMIT 1")[0]
    assert furthest_kw(record, plan_again(record)) < 1e-3


def test_the_past_is_decided_on_in_its_own_time_and_never_acted_on(run: Controlled) -> None:
    def closed() -> list[tuple[Any, ...]]:
        return run.deployment.rows("SELECT bucket, load_kw FROM site_slot WHERE site_id = 'it-past' ORDER BY bucket")

    until(lambda: len(closed()) >= 30, "quarter hours of the past")
    assert all(load == pytest.approx(LOAD_KW) for _, load in closed())
    sent = run.setpoints("it-past")
    assert {s["mode"] for s in sent} == {"shadow"}
    times = [parse_ts_ms(s["execution_time"]) for s in sent]
    assert max(times) <= PAST_MS + 40 * 900_000
    assert times == sorted(times)


def test_a_limit_that_will_be_broken_is_told_minutes_before_and_ends(run: Controlled) -> None:
    def told() -> list[dict[str, Any]]:
        found = run.deployment.consume("alerts.control")
        return [one for one in found if one["labels"]["site"] == "it-watched"]

    until(lambda: len(told()) >= 2, "the warning and its end")
    fired, ended = told()
    assert fired["labels"]["alertname"] == ended["labels"]["alertname"] == "LimitLikelyExceeded"
    # 70 kW from 00:18 on lifts the quarter hour from 00:15 to 00:30 above 45 kW.
    begun, over = parse_ts_ms(fired["startsAt"]), parse_ts_ms(ended["endsAt"])
    assert PAST_MS + 18 * 60_000 < begun <= PAST_MS + 25 * 60_000
    assert PAST_MS + 30 * 60_000 < over <= PAST_MS + 32 * 60_000
    assert (fired["fingerprint"], ended["status"]) == (ended["fingerprint"], "resolved")


def test_a_setpoint_is_explained_and_savings_are_billed(run: Controlled) -> None:
    url = run.deployment.where.database_url
    (name,) = run.deployment.rows("SELECT setpoint_id FROM setpoint WHERE site_id = 'it-past' LIMIT 1")[0]
    story = explained(url, name[:16])
    assert story["setpoint"]["setpoint_id"] == name
    assert (story["sealed"], story["plan"]["same"]) == (True, True)
    row = next(row for row in control_savings.report(url) if row["site_id"] == "it-past")
    # Fewer quarter hours than a day: no foresight yet.
    assert (row["possible"], row["on_paper"]) == (None, True)
    quarter_hours, cost, peak = run.deployment.rows(
        "SELECT quarter_hours, energy_cost, peak_kw FROM control_savings WHERE site_id = 'it-past' AND policy = 'none'"
    )[0]
    assert cost == pytest.approx(quarter_hours * LOAD_KW / 4 * 0.3)
    assert peak == pytest.approx(LOAD_KW)


def test_foresight_is_stored_and_compared(run: Controlled) -> None:
    connection = psycopg2.connect(run.deployment.where.database_url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO site_slot (site_id, bucket, load_kw, devices_kw, price, export_price, kg_co2_per_kwh,"
                " mode, on_paper) SELECT 'it-past', to_timestamp(%s) + i * interval '15 minutes', 20 + 20 * high, 12,"
                " 0.2 + 0.3 * high, 0, 0.3, 'shadow', true"
                " FROM (SELECT i, (i %% 96 > 60)::int AS high FROM generate_series(0, 191) AS i) AS s",
                (PAST_MS / 1000 + 86_400 * 2,),
            )
    finally:
        connection.close()
    (row,) = control_savings.report(run.deployment.where.database_url, ["it-past"])
    assert row["possible"] > 0
    assert row["peak_foresight_kw"] <= row["peak_none_kw"]
    assert row["regret"] == pytest.approx(row["possible"] - row["saved"])


@pytest.mark.long
def test_a_killed_controller_goes_on_where_it_was(run: Controlled) -> None:
    before = {s["setpoint_id"] for s in until(run.setpoints, "setpoints")}
    flink = FlinkRest(run.deployment.where.flink_url)
    savepoint = flink.savepoint(run.ids["control"], stop=True)
    run.submit(["--savepoint", savepoint])
    until(lambda: {s["setpoint_id"] for s in run.setpoints()} - before, "new setpoints")
    sent = run.setpoints()
    assert len({s["setpoint_id"] for s in sent}) == len(sent)
