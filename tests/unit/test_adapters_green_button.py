"""Green Button: types, directions, several usage points, and the CSV exports."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.adapters.parsed import KWH_PER_THERM
from tests.unit.adapter_support import ms, read, sample

START = 1_704_067_200
HEADER = "TYPE,DATE,START TIME,END TIME,USAGE,UNITS,COST,NOTES\n"


def entry(href: str, up: str, content: str, *related: str) -> str:
    links = "".join(f'<link rel="related" href="{one}"/>' for one in related)
    links += f'<link rel="self" href="{href}"/><link rel="up" href="{up}"/>'
    return f"<entry>{links}<content>{content}</content></entry>"


def usage_point(name: str, kind: int = 0) -> str:
    content = f"<e:UsagePoint><e:ServiceCategory><e:kind>{kind}</e:kind></e:ServiceCategory></e:UsagePoint>"
    return entry(f"UsagePoint/{name}", "UsagePoint", content)


def reading_type(name: str, **fields: int) -> str:
    known = {"accumulationBehaviour": 4, "flowDirection": 1, "intervalLength": 3600, "uom": 72} | fields
    content = "".join(f"<e:{field}>{value}</e:{field}>" for field, value in known.items())
    return entry(f"ReadingType/{name}", "ReadingType", f"<e:ReadingType>{content}</e:ReadingType>")


def meter_reading(point: str, name: str, of: str) -> str:
    href = f"UsagePoint/{point}/MeterReading"
    return entry(f"{href}/{name}", href, "<e:MeterReading/>", f"ReadingType/{of}")


def reading(value: Any, start: int = START, duration: int | None = 3600, more: str = "") -> str:
    length = "" if duration is None else f"<e:duration>{duration}</e:duration>"
    period = f"<e:timePeriod>{length}<e:start>{start}</e:start></e:timePeriod>"
    return f"<e:IntervalReading>{more}{period}<e:value>{value}</e:value></e:IntervalReading>"


def block(point: str, name: str, *readings: str) -> str:
    up = f"UsagePoint/{point}/MeterReading/{name}/IntervalBlock"
    return entry(f"{up}/1", up, f"<e:IntervalBlock>{''.join(readings)}</e:IntervalBlock>")


def feed(*entries: str) -> str:
    return (
        '<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom" xmlns:e="http://naesb.org/espi">'
        f"{''.join(entries)}</feed>"
    )


def one_type(*readings: str, kind: int = 0, **fields: int) -> str:
    return feed(
        usage_point("1", kind), meter_reading("1", "1", "t"), reading_type("t", **fields), block("1", "1", *readings)
    )


def test_a_published_sample() -> None:
    got = read("green-button", sample("green-button.xml"))
    assert (got.refused, got.skipped) == (0, {})
    assert got.rows[0] == ("9b6c7063-01", "1-0:1.29.0", ms("2011-01-01T09:00:00Z"), "interval", 0.703)
    assert [row[4] for row in got.rows] == [0.703, 0.607, 0.543, 0.546, 0.521, 0.567]
    assert set(got.lengths) == {3600}


@pytest.mark.parametrize(
    ("fields", "value", "kwh"),
    [
        ({}, 1500, 1.5),
        ({"powerOfTenMultiplier": 3}, 2, 2.0),
        ({"powerOfTenMultiplier": -3}, 1_500_000, 1.5),
        ({"uom": 31}, 3_600_000, 1.0),
        ({"uom": 169, "powerOfTenMultiplier": -2}, 150, 1.5 * KWH_PER_THERM),
        ({"uom": 132}, 100_000, 29.3071),
    ],
)
def test_units_and_powers_of_ten(fields: dict[str, int], value: int, kwh: float) -> None:
    got = read("green-button", one_type(reading(value), **fields))
    assert got.rows[0][4] == pytest.approx(kwh, rel=1e-6)
    assert got.rows[0][1:4] == ("1-0:1.29.0", (START + 3600) * 1000, "interval")


@pytest.mark.parametrize(
    ("fields", "value", "wanted"),
    [
        ({"flowDirection": 19}, 1000, {"1-0:2.29.0": 1.0}),
        ({"flowDirection": 4}, -1000, {"1-0:1.29.0": 0.0, "1-0:2.29.0": 1.0}),
        ({"flowDirection": 4}, 1000, {"1-0:1.29.0": 1.0, "1-0:2.29.0": 0.0}),
        ({"accumulationBehaviour": 3}, 9000, {"1-0:1.8.0": 9.0}),
        ({"accumulationBehaviour": 1, "flowDirection": 19}, 9000, {"1-0:2.8.0": 9.0}),
        ({"accumulationBehaviour": 12, "uom": 38}, 500, {"1-0:16.7.0": 0.5}),
        ({"accumulationBehaviour": 12, "uom": 38, "flowDirection": 19}, 500, {"1-0:16.7.0": -0.5}),
    ],
)
def test_directions_and_kinds(fields: dict[str, int], value: int, wanted: dict[str, float]) -> None:
    assert read("green-button", one_type(reading(value), **fields)).by_register() == wanted


def test_gas_by_volume_and_water() -> None:
    got = read("green-button", one_type(reading(2), kind=1, uom=42), gas_kwh_per_m3=10.0)
    assert got.by_register() == {"7-0:3.0.0": 20.0}
    assert got.assumed
    assert read("green-button", one_type(reading(2), kind=2, uom=42)).skipped == {"service category 2": 1}


def test_several_usage_points_whose_types_come_last() -> None:
    got = read(
        "green-button",
        feed(
            usage_point("a"), meter_reading("a", "1", "in"), meter_reading("a", "2", "out"),
            usage_point("b"), meter_reading("b", "1", "in"),
            block("a", "1", reading(1000)), block("a", "2", reading(200)), block("b", "1", reading(3000)),
            reading_type("in"), reading_type("out", flowDirection=19),
        ),
    )  # fmt: skip
    assert [(row[0], row[1], row[4]) for row in got.rows] == [
        ("a", "1-0:1.29.0", 1.0),
        ("a", "1-0:2.29.0", 0.2),
        ("b", "1-0:1.29.0", 3.0),
    ]


def test_the_same_energy_by_hour_and_by_day_counts_once() -> None:
    got = read(
        "green-button",
        feed(
            usage_point("a"), meter_reading("a", "1", "day"), meter_reading("a", "2", "hour"),
            reading_type("day", intervalLength=86400), reading_type("hour"),
            block("a", "1", reading(24000, duration=86400)), block("a", "2", reading(1000), reading(900, START + 3600)),
        ),
    )  # fmt: skip
    assert [row[4] for row in got.rows] == [1.0, 0.9]
    assert got.skipped == {"the same energy in longer intervals": 1}


@pytest.mark.parametrize(
    ("codes", "quality"),
    [
        ((), "measured"),
        ((17,), "measured"),
        ((8,), "estimated"),
        ((0, 10), "estimated"),
        ((99,), "estimated"),
        ((12,), ""),
    ],
)
def test_quality(codes: tuple[int, ...], quality: str) -> None:
    more = "".join(f"<e:ReadingQuality><e:quality>{code}</e:quality></e:ReadingQuality>" for code in codes)
    got = read("green-button", one_type(reading(5, more=more)))
    assert got.qualities == ([quality] if quality else [])
    assert bool(got.skipped) is not bool(quality)


def test_a_reading_without_a_duration_has_its_types() -> None:
    assert read("green-button", one_type(reading(5, duration=None), intervalLength=900)).lengths == [900]


def test_what_is_wrong_is_told_with_its_place() -> None:
    got = read("green-button", one_type(reading("x"), reading(7), reading(8, start=-5)))
    assert [row[4] for row in got.rows] == [0.007]
    assert [place for place, _ in got.unreadable] == ["entry 4, reading 1", "entry 4, reading 3"]


def test_a_feed_that_breaks_off_keeps_what_came_before() -> None:
    whole = one_type(reading(1000))
    got = read("green-button", whole[: -len("</feed>")] + block("1", "1", reading(2000))[:-40])
    assert [row[4] for row in got.rows] == [1.0]
    assert "breaks off" in got.unreadable[0][1]


def test_entities_are_refused() -> None:
    bomb = '<!DOCTYPE f [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;">]>'
    got = read("green-button", one_type(reading(1)).replace("<feed", bomb + "<feed", 1))
    assert got.rows == []
    assert "entities" in got.unreadable[0][1]


def test_a_utilitys_csv() -> None:
    got = read("green-button", sample("green-button.csv"), tz="America/Los_Angeles")
    assert [row[1:] for row in got.rows] == [
        ("1-0:1.29.0", ms("2024-01-15T00:15:00-08:00"), "interval", 0.3),
        ("1-0:1.29.0", ms("2024-01-15T00:30:00-08:00"), "interval", 0.23),
        ("1-0:1.29.0", ms("2024-01-15T00:45:00-08:00"), "interval", 0.0),
        ("1-0:2.29.0", ms("2024-01-15T00:45:00-08:00"), "interval", 0.05),
    ]
    assert {row[0] for row in got.rows} == {"9000000001"}
    assert set(got.lengths) == {900}
    assert got.qualities == ["measured", "measured", "estimated", "estimated"]


def test_import_and_export_columns_and_twelve_hour_times() -> None:
    header = "TYPE,DATE,START TIME,END TIME,IMPORT (kWh),EXPORT (kWh),NOTES\n"
    got = read("green-button", header + "Electric usage,8/2/2025,1:00 PM,2:00 PM,0.1,0.5,\n", meter="m", tz="UTC")
    assert got.by_register() == {"1-0:1.29.0": 0.1, "1-0:2.29.0": 0.5}
    assert got.rows[0][2] == ms("2025-08-02T14:00:00Z")


def test_a_day_of_gas_at_a_change_of_the_clock() -> None:
    text = "TYPE,DATE,START TIME,END TIME,USAGE (therms),COST\n"
    rows = "".join(f"Natural gas usage,2025-{day},0:00,23:59,1.00,$2\n" for day in ("03-09", "11-02"))
    got = read("green-button", text + rows, meter="m", tz="America/Los_Angeles")
    assert got.lengths == [23 * 3600, 25 * 3600]
    assert {row[0] for row in got.rows} == {"m-gas"}
    assert [row[4] for row in got.rows] == pytest.approx([KWH_PER_THERM] * 2)


@pytest.mark.parametrize("tz", ["America/New_York", "Europe/Berlin", "Australia/Lord_Howe"])
def test_an_hour_that_occurs_twice_in_a_csv(tz: str) -> None:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    begin, end, day = ms("2025-01-01T00:00:00Z"), ms("2026-01-01T00:00:00Z"), 86_400_000
    offset = {at: datetime.fromtimestamp(at / 1000, ZoneInfo(tz)).utcoffset() for at in range(begin, end, day)}
    changes = [at for at in offset if offset[at] != offset.get(at + day, offset[at])]
    assert len(changes) == 2
    stamps = [at + step for at in changes for step in range(-day, 2 * day, 1_800_000)]
    walls = [datetime.fromtimestamp(stamp / 1000, ZoneInfo(tz)) for stamp in stamps]
    text = HEADER + "".join(f"Electric usage,{w:%Y-%m-%d},{w:%H:%M},{w:%H}:{w.minute + 29},1,kWh,,\n" for w in walls)
    got = read("green-button", text, tz=tz)
    assert [row[2] for row in got.rows] == [stamp + 1_800_000 for stamp in stamps]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("Electric usage,2026-02-30,00:00,00:14,1,kWh,,", "does not exist"),
        ("Electric usage,30.1.2026,00:00,00:14,1,kWh,,", "no date"),
        ("Electric usage,2026-01-30,25:00,00:14,1,kWh,,", "no time of day"),
        ("Electric usage,2026-01-30,00:00,00:14,many,kWh,,", "no number"),
        ("Electric usage,2026-01-30,00:00,,1,kWh,,", "how long"),
        ("Electric usage,0001-01-01,00:00,00:14,1,kWh,,", "before 2000"),
        ("Electric usage,9999-12-31,00:00,00:14,1,kWh,,", "after 9998"),
    ],
)
def test_a_bad_row_of_a_csv(row: str, complaint: str) -> None:
    got = read("green-button", f"{HEADER}{row}\nElectric usage,2026-01-30,00:00,00:14,5,kWh,,\n", tz="UTC")
    assert [found[4] for found in got.rows] == [5.0]
    assert got.unreadable[0][0] == "line 2"
    assert complaint in got.unreadable[0][1]


@pytest.mark.parametrize(("minutes", "seconds"), [("15", [900]), ("0", []), ("999999999999999999", []), ("x", [])])
def test_a_duration_in_place_of_an_end(minutes: str, seconds: list[int]) -> None:
    text = f"Meter Number,Date,Start Time,Duration,Consumption\n7,1/2/2024,12:00 AM,{minutes},0.5\n"
    got = read("green-button", text, tz="UTC")
    assert got.lengths == seconds
    assert got.refused == 1 - len(seconds)
    assert {row[0] for row in got.rows} <= {"7"}


def test_rows_of_a_csv_that_are_no_energy() -> None:
    rows = "Electric usage,2026-01-30,00:00,00:14,,kWh,,\nWater usage,2026-01-30,00:00,00:14,5,gal,,\n"
    got = read("green-button", HEADER + rows)
    assert got.skipped == {"row without a value": 1, "water usage": 1}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=30), st.sampled_from([1, 4, 19]))
def test_what_is_read_sums_to_the_feed(values: list[int], flow: int) -> None:
    readings = [reading(value, START + 3600 * i) for i, value in enumerate(values)]
    got = read("green-button", one_type(*readings, flowDirection=flow))
    net = sum(-row[4] if row[1] == "1-0:2.29.0" else row[4] for row in got.rows)
    assert net == pytest.approx(sum(values) / 1000 * (-1 if flow == 19 else 1), abs=1e-6)
