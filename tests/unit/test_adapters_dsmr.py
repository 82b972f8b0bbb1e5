"""P1 telegrams: values, checksums, summer time, sub-meters, and what is wrong with a telegram."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.adapters.dsmr_telegram import crc16
from operators.adapters.parsed import GAS_KWH_PER_M3
from tests.unit.adapter_support import ms, read, sample

ZONE = ZoneInfo("Europe/Amsterdam")


def telegram(stamp: str = "170102192002W", *lines: str, end: str | None = None) -> bytes:
    """A version 5 telegram with a right checksum."""
    body = "\r\n".join(["/ISk5\\2MT382-1000", "", "1-3:0.2.8(50)", f"0-0:1.0.0({stamp})", *lines, "!"]).encode()
    return body + (f"{crc16(body):04X}" if end is None else end).encode() + b"\r\n"


def test_version_5() -> None:
    got = read("dsmr", sample("dsmr-v5.txt"))
    assert got.unreadable == []
    assert {row[0] for row in got.rows} == {"K8EG004046395507", "2222ABCD123456789"}
    values = got.by_register()
    assert [values[f"1-0:{code}"] for code in ("1.8.1", "1.8.2", "2.8.1", "2.8.2")] == [4.426, 2.399, 2.444, 0.0]
    assert (values["1-0:1.7.0"], values["1-0:2.7.0"], values["1-0:21.7.0"]) == (0.244, 0.0, 0.07)
    assert got.of("1-0:1.8.1")[0][0] == ms("2017-01-02T19:20:02+01:00")
    assert {row[3] for row in got.rows if ".7." in row[1]} == {"instant"}


def test_gas_is_a_meter_of_its_own_at_its_own_time() -> None:
    got = read("dsmr", sample("dsmr-v5.txt"), gas_kwh_per_m3=10.0)
    (gas,) = [row for row in got.rows if row[1] == "0-1:24.2.1"]
    assert gas == ("2222ABCD123456789", "0-1:24.2.1", ms("2017-01-02T16:10:05+01:00"), "register", 1.07)
    assert any("10 kWh" in note for note in got.assumed)


def test_version_4_with_an_identity_that_is_no_text() -> None:
    got = read("dsmr", sample("dsmr-v4.txt"))
    assert {row[0] for row in got.rows} == {"3960221976967177082151037881335713", "4819243993373755377509728609491464"}
    assert got.by_register()["1-0:1.8.1"] == 1581.123
    assert got.by_register()["0-1:24.2.1"] == pytest.approx(981.443 * GAS_KWH_PER_M3)


def test_version_2_takes_the_time_that_a_logger_wrote_before_it() -> None:
    got = read("dsmr", sample("dsmr-v2.txt"), meter="home")
    assert {row[0] for row in got.rows} == {"home", "home/1"}
    assert got.of("1-0:1.8.2") == [(ms("2016-11-07T19:05:10+01:00"), 1.001)]
    assert got.of("0-1:24.2.1")[0][0] == ms("2016-11-07T19:00:00+01:00")
    bare = read("dsmr", sample("dsmr-v2.txt").split(b"\n", 1)[1])
    assert [row[1] for row in bare.rows] == ["0-1:24.2.1"]
    assert list(bare.skipped.values()) == [6]


@pytest.mark.parametrize("name", ["dsmr-v4.txt", "dsmr-v5.txt"])
def test_line_ends_of_the_norm_and_of_a_log(name: str) -> None:
    unix = sample(name)
    assert b"\r" not in unix
    assert read("dsmr", unix).rows == read("dsmr", unix.replace(b"\n", b"\r\n")).rows != []


def test_the_checksum_is_the_librarys() -> None:
    from dsmr_parser.parsers import TelegramParser

    for data in (b"/!", b"/abc\r\n\xff!", telegram()):
        assert crc16(data) == TelegramParser.crc16(data.decode("latin-1"))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_flipped_bit_goes_unseen(data: st.DataObject) -> None:
    good = telegram("170102192002W", "0-0:96.1.1(4B384547)", "1-0:1.8.1(000004.426*kWh)", "1-0:1.7.0(00.244*kW)")
    at = data.draw(st.integers(0, len(good) - 3))  # not the line end after the checksum, which it does not cover
    bad = bytearray(good)
    bad[at] ^= 1 << data.draw(st.integers(0, 7))
    got = read("dsmr", good + bytes(bad) + good)
    assert len(got.rows) == 4
    assert got.refused >= 1


@given(st.integers(1_420_070_400, 2_051_222_400).map(lambda t: datetime.fromtimestamp(t, UTC)))
@settings(max_examples=100, deadline=None)
def test_summer_and_winter_times_come_back(utc: datetime) -> None:
    local = utc.astimezone(ZONE)
    stamp = local.strftime("%y%m%d%H%M%S") + ("S" if local.dst() else "W")
    got = read("dsmr", telegram(stamp, "1-0:1.8.1(000004.426*kWh)"))
    assert [row[2] for row in got.rows] == [round(utc.timestamp() * 1000)]


@pytest.mark.parametrize("change", ["2025-03-30T00:30:00+00:00", "2025-10-26T00:00:00+00:00"])
def test_both_changes_of_the_clock_minute_by_minute(change: str) -> None:
    first = datetime.fromisoformat(change) - timedelta(hours=1)
    wanted = [first + timedelta(minutes=i) for i in range(240)]
    text = b""
    for utc in wanted:
        local = utc.astimezone(ZONE)
        stamp = local.strftime("%y%m%d%H%M%S") + ("S" if local.dst() else "W")
        text += telegram(stamp, "1-0:1.8.1(000004.426*kWh)")
    assert [row[2] for row in read("dsmr", text).rows] == [round(utc.timestamp() * 1000) for utc in wanted]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (telegram(end="0000"), "checksum 0000 does not fit"),
        (telegram(end=""), "no checksum"),
        (telegram(end="12"), "'!12' is no checksum"),
        (telegram()[:-30], "breaks off"),
        (telegram("632525252525W", "1-0:1.8.1(1*kWh)"), "is a date that does not exist"),
        (telegram("1701021920", "1-0:1.8.1(1*kWh)"), "is no P1 time"),
        (telegram("170102192002W", "1-0:1.8.1(00ABC*kWh)"), "holds no number"),
        (telegram("170102192002W", "1-0:1.8.1(9E999999*kWh)"), "holds no number"),
        (telegram("170102192002W", "1-0:1.8.1(9E9999999*kWh)"), "holds no number"),
        (b"2017-01-02T19:20\x80\n", "outside of a telegram"),
        (telegram("170102192002W", "1-0:1.8.1(5*m3)"), "holds no number with a unit"),
        (telegram("170102192002W", "0-1:24.2.1(632525252525S)(1.0*m3)"), "date that does not exist"),
        (telegram("170102192002W", "0-1:24.2.1(nonsense"), "holds no time, number and unit"),
    ],
)
def test_what_is_wrong_is_told_and_the_next_telegram_is_read(content: bytes, complaint: str) -> None:
    got = read("dsmr", content + telegram("170102192012W", "1-0:1.8.1(7*kWh)"))
    assert [row[4] for row in got.rows] == [7.0]
    assert any(complaint in reason for _, reason in got.unreadable)


def test_heat_in_gigajoules_and_water() -> None:
    lines = ["0-1:24.1.0(012)", "0-1:24.2.1(170102190000W)(3.600*GJ)", "0-2:24.1.0(007)"]
    got = read("dsmr", telegram("170102192002W", *lines, "0-2:24.2.1(170102190000W)(1.000*m3)"), meter="x")
    assert [(row[0], row[4]) for row in got.rows] == [("x/1", 1000.0)]
    assert got.skipped == {"sub-meter in m3": 1}


def test_watt_hours_and_text_between_telegrams() -> None:
    got = read("dsmr", b"noise\nmore\n" + telegram("221006155014S", "1-0:1.8.0*255(006545766*Wh)") + b"\n\ntail\n")
    assert [row[1:] for row in got.rows] == [("1-0:1.8.0", ms("2022-10-06T15:50:14+02:00"), "register", 6545.766)]
    assert [place for place, _ in got.unreadable] == ["line 1", "line 11"]
