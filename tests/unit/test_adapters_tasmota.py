"""Tasmota telemetry: topics, lists, local times, and messages of other kinds."""

from __future__ import annotations

import pytest

from operators.adapters.tasmota import device
from tests.unit.adapter_support import ms, read, sample


def message(time: str, energy: str = '"Total":1.5') -> str:
    return f'tele/plug/SENSOR {{"Time":"{time}","ENERGY":{{{energy}}}}}\n'


def test_a_log() -> None:
    got = read("tasmota", sample("tasmota.log"), tz="Europe/Paris")
    assert [row[:2] for row in got.rows] == [
        *[("compteur", register) for register in ("1-0:1.8.0", "1-0:16.7.0")],
        *[("S31B", register) for register in ("1-0:1.8.0", "1-0:16.7.0")],
    ]
    assert got.rows[0][2:] == (ms("2021-03-13T09:20:26+01:00"), "register", 7970.903)
    assert got.rows[1][4] == 0.86
    assert got.skipped == {"message without ENERGY": 1, "message of another kind": 1}
    assert {place for place, _ in got.unreadable} == {"line 4"}
    assert got.assumed == {"times without an offset are taken as Europe/Paris (else: --tz)"}


@pytest.mark.parametrize(
    ("topic", "name"),
    [
        ("tele/plug/SENSOR", "plug"),
        ("/house/tele/plug/SENSOR =", "house/tele/plug"),
        ("plug/tele/SENSOR", "plug"),
        ("stat/plug/STATUS10", "plug"),
        ("Received message on topic [tele/tasmota_5014E2/SENSOR]:", "tasmota_5014E2"),
        ("", ""),
    ],
)
def test_the_device_of_a_topic(topic: str, name: str) -> None:
    assert device(topic) == name


def test_tariffs_export_and_an_offset() -> None:
    text = message(
        "2020-09-25T12:47:15+02:00",
        '"Total":12.5,"TotalTariff":[4.0,8.5],"ExportActive":3.0,"ExportTariff":[1.0,2.0],"Power":-450',
    )
    got = read("tasmota", text)
    assert got.by_register() == {
        "1-0:1.8.0": 12.5,
        "1-0:2.8.0": 3.0,
        "1-0:16.7.0": -0.45,
        "1-0:1.8.1": 4.0,
        "1-0:1.8.2": 8.5,
        "1-0:2.8.1": 1.0,
        "1-0:2.8.2": 2.0,
    }
    assert {row[2] for row in got.rows} == {ms("2020-09-25T12:47:15+02:00")}
    assert got.assumed == set()


def test_phases_are_summed_and_kept() -> None:
    got = read("tasmota", message("2024-01-01T00:00:00Z", '"Power":[100,200,-50],"Total":[1.0,2.0]')).by_register()
    assert got["1-0:16.7.0"] == 0.25
    assert [got[f"1-0:{c}.7.0"] for c in (36, 56, 76)] == [0.1, 0.2, -0.05]
    assert (got["1-0:1.8.0"], got["1-0:21.8.0"], got["1-0:41.8.0"]) == (3.0, 1.0, 2.0)


def test_the_hour_that_occurs_twice_is_told_by_the_order() -> None:
    walls = [f"2024-10-27T{hour:02d}:{minute:02d}:00" for hour in (1, 2) for minute in (0, 20, 40)]
    walls += [f"2024-10-27T{hour:02d}:{minute:02d}:00" for hour in (2, 3) for minute in (0, 20, 40)]
    got = read("tasmota", "".join(message(wall) for wall in walls), tz="Europe/Berlin")
    first = ms("2024-10-27T01:00:00+02:00")
    assert [row[2] for row in got.rows] == [first + 1_200_000 * i for i in range(12)]


def test_a_time_that_is_skipped_and_one_that_is_none() -> None:
    got = read("tasmota", message("2024-03-31T02:30:00") + message("soon") + message("2024-03-31T03:30:00"), tz="CET")
    assert [row[2] for row in got.rows] == [ms("2024-03-31T03:30:00+02:00")]
    assert [place for place, _ in got.unreadable] == ["line 1", "line 2"]
    assert "skips" in got.unreadable[0][1]


def test_a_status_and_a_file_without_topics() -> None:
    text = '{"StatusSNS":{"Time":"2019-09-06T20:06:19","ENERGY":{"Total":0.003,"Power":null}}}'
    got = read("tasmota", text, meter="heater")
    assert got.rows == [("heater", "1-0:1.8.0", ms("2019-09-06T20:06:19Z"), "register", 0.003)]
    assert got.skipped == {"null": 1}
