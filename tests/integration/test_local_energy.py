"""Energy by local days and hours, by site, between parents and children, and with its gaps: against sums in Python."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import psycopg2
import pytest
from gate_support import GateHandle
from store_support import HOUR, concat, gate, query, readings

from operators.readings import Kind, Readings
from operators.store import Store

pytestmark = pytest.mark.integration

__all__ = ["gate"]

STEP = timedelta(minutes=5)
ZONES = {
    "Europe/Berlin": ["2024-03-31", "2024-10-27"],
    "America/New_York": ["2024-03-10", "2024-11-03"],
    "Australia/Lord_Howe": ["2024-04-07", "2024-10-06"],
    "Asia/Kathmandu": ["2024-02-29", "2024-10-27"],
    "America/St_Johns": ["2024-03-10", "2024-11-03"],
    "UTC": ["2024-02-29", "2024-12-31"],
}
LENGTHS = {
    ("Europe/Berlin", "2024-03-31"): 23, ("Europe/Berlin", "2024-10-27"): 25,
    ("America/New_York", "2024-03-10"): 23, ("America/New_York", "2024-11-03"): 25,
    ("Australia/Lord_Howe", "2024-04-07"): 24.5, ("Australia/Lord_Howe", "2024-10-06"): 23.5,
    ("America/St_Johns", "2024-03-10"): 23, ("America/St_Johns", "2024-11-03"): 25,
    ("Asia/Kathmandu", "2024-02-29"): 24, ("UTC", "2024-02-29"): 24,
}  # fmt: skip


def meter_of(zone: str) -> str:
    return "local-" + zone.lower().replace("/", "-")


def stamps(zone: str, day: str) -> list[str]:
    """ISO stamps with offsets, every 5 minutes from local midnight before `day` to local midnight two days later."""
    tz, first = ZoneInfo(zone), date.fromisoformat(day) - timedelta(days=1)
    begin, end = (
        datetime(d.year, d.month, d.day, tzinfo=tz).astimezone(UTC) for d in (first, first + timedelta(days=3))
    )
    count = (end - begin) // STEP
    return [(begin + i * STEP).astimezone(tz).isoformat() for i in range(count + 1)]


@pytest.fixture(scope="module")
def local(gate: GateHandle) -> Iterator[dict[str, list[tuple[datetime, float]]]]:
    """Counters read every 5 minutes around both changes of the clock; by zone the increments with their beginnings."""
    rng, increments, parts = np.random.default_rng(12), {}, []
    for zone, days in ZONES.items():
        counter, increments[zone] = 4000.0, []
        for day in days:
            counter /= 2  # another device months later: no energy in between
            told = stamps(zone, day)
            used = rng.integers(0, 500, len(told)) / 1000
            ts = [datetime.fromisoformat(stamp) for stamp in told]
            value = counter + np.cumsum(used)
            counter = float(value[-1])
            parts.append(readings(meter_of(zone), [int(t.timestamp() * 1000) for t in ts], value))
            increments[zone] += [(t - STEP, float(kwh)) for t, kwh in zip(ts[1:], used[1:], strict=True)]
    configure_meters(gate.url, [(meter_of(zone), "default", zone, "electricity", None) for zone in ZONES])
    everything = concat(parts)
    Store(gate.url).write_readings(everything.take(np.random.default_rng(1).permutation(len(everything))), 1_000)
    return increments


def configure_meters(url: str, rows: list[tuple[str, str, str, str, str | None]]) -> None:
    """Meter, site, time zone, commodity, parent."""
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        for site in {(row[1], row[2]) for row in rows}:
            cursor.execute("INSERT INTO site (site_id, tz) VALUES (%s, %s) ON CONFLICT DO NOTHING", site)
        for row in rows:
            cursor.execute(
                "INSERT INTO meter (meter_id, site_id, tz, commodity, parent_meter_id) VALUES (%s, %s, %s, %s, %s)", row
            )
    connection.close()


def around(zone: str) -> list[date]:
    """The three days around each change, local."""
    return [date.fromisoformat(day) + timedelta(days=i) for day in ZONES[zone] for i in (-1, 0, 1)]


@pytest.mark.parametrize("zone", ZONES)
def test_local_days_are_what_zoneinfo_says(
    gate: GateHandle, local: dict[str, list[tuple[datetime, float]]], zone: str
) -> None:
    tz, kwh, steps = ZoneInfo(zone), defaultdict(float), defaultdict(int)
    for begin, used in local[zone]:
        day = begin.astimezone(UTC).astimezone(tz).date()
        kwh[day] += used
        steps[day] += 1
    rows = query(
        gate.url,
        """SELECT day, kwh, hours, coverage, bucket FROM energy_local_daily
        WHERE meter_id = %s AND day = ANY(%s) ORDER BY 1""",
        (meter_of(zone), around(zone)),
    )
    assert [row[0] for row in rows] == sorted(kwh)
    for day, energy, hours, coverage, bucket in rows:
        assert energy == pytest.approx(kwh[day], rel=1e-9)
        assert hours == steps[day] / 12 == LENGTHS.get((zone, day.isoformat()), 24)
        assert coverage == pytest.approx(1)
        assert bucket == datetime(day.year, day.month, day.day, tzinfo=tz)


@pytest.mark.parametrize("zone", ZONES)
def test_local_hours_are_what_zoneinfo_says(
    gate: GateHandle, local: dict[str, list[tuple[datetime, float]]], zone: str
) -> None:
    tz, kwh, steps, begins = ZoneInfo(zone), defaultdict(float), defaultdict(int), {}
    for begin, used in local[zone]:
        at = begin.astimezone(UTC).astimezone(tz)
        key = at.replace(minute=0, tzinfo=None, fold=0), at.utcoffset()
        kwh[key] += used
        steps[key] += 1
        begins.setdefault(key, begin)
    rows = query(
        gate.url,
        """SELECT local_hour, utc_offset, kwh, hours, coverage, bucket FROM energy_local_hourly
        WHERE meter_id = %s AND local_hour::date = ANY(%s) ORDER BY bucket""",
        (meter_of(zone), around(zone)),
    )
    assert {row[:2] for row in rows} == set(kwh)
    assert len(rows) == len(kwh)
    for hour, offset, energy, hours, coverage, bucket in rows:
        assert energy == pytest.approx(kwh[hour, offset], rel=1e-9)
        assert (hours, bucket) == (steps[hour, offset] / 12, begins[hour, offset])
        assert coverage == pytest.approx(1)


def test_half_a_local_day_is_half_covered(gate: GateHandle) -> None:
    """Of 25 hours 10 are measured."""
    configure_meters(gate.url, [("half-a", "default", "Europe/Berlin", "electricity", None)])
    ts = int(datetime(2024, 10, 27, tzinfo=ZoneInfo("Europe/Berlin")).timestamp() * 1000) + np.arange(11) * HOUR
    Store(gate.url).write_readings(readings("half-a", ts, np.arange(11) * 1.0), 1_000)
    assert query(gate.url, "SELECT hours, coverage, kwh FROM energy_local_daily WHERE meter_id = 'half-a'") == [
        (25, pytest.approx(0.4), pytest.approx(10))
    ]


NOON = int(datetime(2024, 6, 5, 12, tzinfo=UTC).timestamp() * 1000)


def hours(meter: str, kwh: list[float | None]) -> Readings:
    """Hourly intervals from NOON on; None: nothing is sent."""
    kept = [i for i, value in enumerate(kwh) if value is not None]
    value = [float(kwh[i] or 0) for i in kept]
    return readings(meter, [NOON + (i + 1) * HOUR for i in kept], value, kind=Kind.INTERVAL, interval_ms=HOUR)


@pytest.fixture(scope="module")
def plant(gate: GateHandle) -> GateHandle:
    """A site: main with two floors (the second fails for an hour; below the first a lab), panels, and gas."""
    at = ("plant", "Europe/Berlin")
    configure_meters(
        gate.url,
        [
            ("p-main", *at, "electricity", None),
            ("p-floor1", *at, "electricity", "p-main"),
            ("p-lab", *at, "electricity", "p-floor1"),
            ("p-floor2", *at, "electricity", "p-main"),
            ("p-panels", *at, "electricity", None),
            ("p-gas", *at, "gas", "p-main"),
            ("p-group", *at, "electricity", None),
            ("p-loose", *at, "electricity", "p-group"),
            ("p-tenant", "tenant-site", "Europe/Berlin", "electricity", "p-main"),
        ],
    )
    panels = hours("p-panels", [2, 3, 4])
    panels.register[:] = "1-0:2.8.0"
    parts = [
        hours("p-main", [10, 11, 12]), hours("p-floor1", [4, 4, 4]), hours("p-lab", [1, 1, 1]),
        hours("p-floor2", [3, None, 3]), panels, hours("p-gas", [50, 50, 50]), hours("p-loose", [0.5, 0.5, 0.5]),
        hours("p-tenant", [1, 1, 1]),
    ]  # fmt: skip
    Store(gate.url).write_readings(concat(parts), 1_000)
    return gate


def test_a_sites_energy_counts_each_kwh_once(plant: GateHandle) -> None:
    members = query(plant.url, "SELECT meter_id FROM site_meter WHERE site_id = 'plant' ORDER BY 1")
    # The group has no readings of its own: what is below it counts.
    assert [name for (name,) in members] == ["p-gas", "p-loose", "p-main", "p-panels"]
    rows = query(
        plant.url,
        """SELECT commodity, kwh, meters, meters_expected, coverage FROM site_energy_hourly
        WHERE site_id = 'plant' ORDER BY commodity, bucket""",
    )
    assert rows[:3] == [("electricity", kwh, 3, 3, 1) for kwh in (8.5, 8.5, 8.5)]
    assert rows[3:] == [("gas", 50, 1, 1, 1)] * 3
    quarters = query(plant.url, "SELECT count(*), sum(kwh) FROM site_energy_15m WHERE site_id = 'plant'")
    assert quarters == [(24, pytest.approx(175.5))]
    days = query(
        plant.url,
        "SELECT commodity, day, kwh, hours, coverage FROM site_energy_daily WHERE site_id = 'plant' ORDER BY 1",
    )
    assert days == [
        ("electricity", date(2024, 6, 5), pytest.approx(25.5), 24, pytest.approx(3 / 24)),
        ("gas", date(2024, 6, 5), pytest.approx(150), 24, pytest.approx(3 / 24)),
    ]
    assert query(plant.url, "SELECT sum(kwh) FROM site_energy_hourly WHERE site_id = 'tenant-site'") == [(3,)]


def test_a_site_says_how_many_meters_are_missing(gate: GateHandle) -> None:
    configure_meters(gate.url, [(f"miss-{i}", "misses", "UTC", "electricity", None) for i in (1, 2, 3)])
    store = Store(gate.url)
    store.write_readings(concat([hours("miss-1", [1, 1, 1]), hours("miss-2", [2, None, 2])]), 1_000)
    sql = (
        "SELECT kwh, meters, meters_expected, coverage FROM site_energy_hourly WHERE site_id = 'misses' ORDER BY bucket"
    )
    assert query(gate.url, sql) == [(3, 2, 2, 1), (1, 1, 2, 0.5), (3, 2, 2, 1)]


def test_children_and_residual_are_null_where_one_is_missing(plant: GateHandle) -> None:
    children = query(
        plant.url,
        "SELECT kwh, coverage, children, known FROM energy_children_hourly WHERE meter_id = 'p-main' ORDER BY bucket",
    )
    assert children == [(8, 1, 3, 3), (None, 0, 3, 2), (8, 1, 3, 3)]
    residual = query(
        plant.url,
        "SELECT kwh, coverage, parent_kwh FROM energy_residual_hourly WHERE meter_id = 'p-main' ORDER BY bucket",
    )
    assert residual == [(2, 1, 10), (None, 0, 11), (4, 1, 12)]
    floor = query(plant.url, "SELECT kwh FROM energy_residual_15m WHERE meter_id = 'p-floor1' ORDER BY bucket")
    assert floor == [(pytest.approx(0.75),)] * 12
    group = query(
        plant.url, "SELECT kwh, children_kwh, parent_kwh FROM energy_residual_daily WHERE meter_id = 'p-group'"
    )
    assert group == [(None, pytest.approx(1.5), None)]


def gapfilled(url: str, meter: str, begin: str, end: str, width: str) -> list[Any]:
    return query(url, "SELECT * FROM energy_gapfilled(%s, %s, %s, %s::interval)", (meter, begin, end, width))


def test_gaps_are_rows_without_energy(plant: GateHandle) -> None:
    rows = gapfilled(plant.url, "p-floor2", "2024-06-05 11:10+00", "2024-06-05 16:00+00", "1 hour")
    assert [(row[0].hour, *row[1:]) for row in rows] == [
        (11, 1, None, 0, 0),
        (12, 1, 3, 1, 1),
        (13, 1, None, 0, 0),
        (14, 1, 3, 1, 1),
        (15, 1, None, 0, 0),
    ]
    days = gapfilled(plant.url, "p-floor2", "2024-06-04 12:00+02", "2024-06-07 00:00+02", "1 day")
    assert [(row[0].isoformat(), row[2]) for row in days] == [
        ("2024-06-03T22:00:00+00:00", None),
        ("2024-06-04T22:00:00+00:00", 6),
        ("2024-06-05T22:00:00+00:00", None),
    ]
    assert gapfilled(plant.url, "p-nobody", "2024-06-04", "2024-06-07", "1 day") == []
    assert gapfilled(plant.url, "p-main", "2024-06-07", "2024-06-04", "1 day") == []


@pytest.mark.parametrize(("width", "lengths"), [("1 day", [24, 25, 24]), ("1 month", [745]), ("1 week", [169, 168])])
def test_gapfilled_days_weeks_and_months_are_local(
    gate: GateHandle, local: dict[str, Any], width: str, lengths: list[float]
) -> None:
    rows = gapfilled(gate.url, meter_of("Europe/Berlin"), "2024-10-26 00:00+02", "2024-10-29 00:00+01", width)
    assert [row[1] for row in rows] == lengths
    tz = ZoneInfo("Europe/Berlin")
    end = rows[-1][0] + timedelta(hours=rows[-1][1])
    total = sum(used for begin, used in local["Europe/Berlin"] if rows[0][0] <= begin.astimezone(tz) < end)
    assert sum(row[2] for row in rows if row[2] is not None) == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("width", ["7 minutes", "0 s", "5 hours", "-1 hour", "1 day 6 hours", "20 minutes"])
def test_a_width_that_makes_no_buckets_is_refused(plant: GateHandle, width: str) -> None:
    with pytest.raises(psycopg2.Error, match=r"energy_gapfilled: width"):
        gapfilled(plant.url, "p-main", "2024-06-04", "2024-06-07", width)
