"""The validation in SQL, payload by payload: literal bytes in, the code or the reading out, on a local mini cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.embedded.options import StackOptions, default_home
from infra.embedded.stack import Stack
from jobs.flink_sql import HALF_SURROGATE, row_time, short_text, statements, timestamp_ms
from jobs.replay.fleet_faults import REJECT_CODES, bad_record
from jobs.tables import LONGEST_ID

RECEIVED_MS = 1_767_225_600_000
"""When the broker got all of them: 2026-01-01T00:00Z."""
TOLERANCE_S = 3600
MAX_RECORD = 65_536
NOON = 1_761_393_600_000
"""2025-10-25T12:00Z."""


def with_ts(ts: str) -> bytes:
    """A good record whose `ts` is this JSON text."""
    return b'{"meter_id":"m","kind":"instant","unit":"kW","value":1,"ts":' + ts.encode() + b"}"


def with_value(value: str) -> bytes:
    """A good record whose `value` is this JSON text."""
    return (
        b'{"meter_id":"m","kind":"register","unit":"kWh","ts":"2025-10-25T12:00:00Z","value":' + value.encode() + b"}"
    )


def with_field(name: str, value: str, kind: str = "instant", unit: str = "kW") -> bytes:
    """A good record with one more field, or another value of one: JSON text."""
    fields = {
        "meter_id": '"m"', "kind": f'"{kind}"', "unit": f'"{unit}"', "value": "1", "ts": '"2025-10-25T12:00:00Z"',
    }  # fmt: skip
    fields[name] = value
    return ("{" + ",".join(f'"{key}":{text}' for key, text in fields.items()) + "}").encode()


def without(name: str) -> bytes:
    """A record that lacks a field."""
    fields = {"meter_id": '"m"', "kind": '"instant"', "unit": '"kW"', "value": "1", "ts": '"2025-10-25T12:00:00Z"'}
    del fields[name]
    return ("{" + ",".join(f'"{key}":{text}' for key, text in fields.items()) + "}").encode()


GOOD = with_value("1.5")

REJECTED: list[tuple[bytes, str]] = [
    *((bad_record(code, "m", NOON), code) for code in REJECT_CODES),
    # Not one JSON object.
    (b"", "not_json"),
    (b" ", "not_json"),
    (b"null", "not_json"),
    (b"[]", "not_json"),
    (b"12", "not_json"),
    (b'"text"', "not_json"),
    (b"{", "not_json"),
    (b"{]", "not_json"),
    (GOOD[:-1], "not_json"),
    (GOOD + GOOD, "not_json"),
    (GOOD + b" x", "not_json"),
    (GOOD + b"," + GOOD, "not_json"),
    (GOOD + b"]", "not_json"),
    (GOOD + b"}", "not_json"),
    (GOOD + b',"a":1', "not_json"),
    (GOOD + b',"a":' + GOOD, "not_json"),
    (GOOD + b"\n" + GOOD, "not_json"),
    (b"[" + GOOD + b"]", "not_json"),
    (GOOD + b"],[" + GOOD, "not_json"),
    (GOOD[:-1] + b',"value":2}', "not_json"),
    (b"\xff\xfe\x00\x01", "not_json"),
    *((GOOD.replace(b"m", b"m" + part, 1), "not_json") for part in (b"\xff", b"\xc3", b"\xed\xa0\x80")),
    (GOOD.replace(b'"m"', b'"m\xff"'), "not_json"),
    (GOOD[:-1] + b',"note":"\xc3"}', "not_json"),
    (b"\x1f\x8b\x08\x00\x00", "not_json"),
    (GOOD.replace(b'"', b"'"), "not_json"),
    (b'{"meter_id":"m\x00","kind":"instant","unit":"kW","value":1,"ts":0}', "not_json"),
    # Missing: absent, null, and empty ids.
    (b"{}", "missing_field"),
    *((without(name), "missing_field") for name in ("meter_id", "ts", "kind", "value", "unit")),
    *((with_field(name, "null"), "missing_field") for name in ("meter_id", "ts", "kind", "value", "unit")),
    (with_field("meter_id", '""'), "missing_field"),
    (with_field("kind", '"interval"', unit="kWh"), "missing_field"),
    # Another type.
    *((with_value(text), "bad_type") for text in ('"1.5"', '"NaN"', "true", "[1]", '{"kWh":1}')),
    *((with_field("meter_id", text), "bad_type") for text in ("7", "true", '["m"]', '{"id":"m"}')),
    (with_field("meter_id", '"a\\u0000b"'), "bad_type"),
    (with_field("meter_id", '"a\\u001eb"'), "bad_type"),
    *((with_field("meter_id", f'"a\\{letter}b"'), "bad_type") for letter in "ntrbf"),
    (with_field("meter_id", '"a\\u001Fb"'), "bad_type"),
    (with_field("register", '"a\\u0000b"'), "bad_type"),
    (with_field("tenant_id", '"a\\u0007b"'), "bad_type"),
    (with_field("tenant_id", "3"), "bad_type"),
    (with_field("register", "1.8"), "bad_type"),
    (with_field("meter_id", f'"{"m" * (LONGEST_ID + 1)}"'), "bad_type"),
    (with_field("kind", "1"), "bad_type"),
    (with_field("unit", "1"), "bad_type"),
    (with_field("revision", '"1"'), "bad_type"),
    (with_field("revision", "true"), "bad_type"),
    (with_field("revision", "1.5"), "bad_type"),
    (with_field("revision", "0.1e-3"), "bad_type"),
    *((with_field("meter_id", f'"a{half}"'), "bad_type") for half in ("\\ud800", "\\uDFFF", "\\ude00\\ud83d")),
    (with_field("tenant_id", '"\\\\\\ud800"'), "bad_type"),
    (with_field("revision", "99999999999999999999"), "bad_type"),
    (with_field("quality", '"fair"'), "bad_type"),
    (with_field("quality", "0"), "bad_type"),
    (with_field("interval_s", '"900"', "interval", "kWh"), "bad_type"),
    (with_field("interval_s", "0", "interval", "kWh"), "bad_type"),
    (with_field("interval_s", "-900", "interval", "kWh"), "bad_type"),
    (with_field("interval_s", "1e300", "interval", "kWh"), "bad_type"),
    (with_ts("true"), "bad_type"),
    (with_ts("[1]"), "bad_type"),
    (with_ts('{"s":1}'), "bad_type"),
    # Not finite.
    *((with_value(text), "not_finite") for text in ("NaN", "Infinity", "-Infinity", "1e999", "-1e999")),
    (with_value("1e306").replace(b"kWh", b"MWh"), "not_finite"),
    # Unknown.
    (with_field("kind", '"Register"'), "unknown_kind"),
    (with_field("kind", '""'), "unknown_kind"),
    (with_field("unit", '"kWh"'), "bad_unit"),
    (with_field("unit", '"kw"'), "bad_unit"),
    (with_field("unit", '"GW"'), "bad_unit"),
    (with_field("unit", '""'), "bad_unit"),
    (with_field("unit", '"kW"', "register", "kW"), "bad_unit"),
    # No time.
    *(
        (with_ts(f'"{text}"'), "bad_ts")
        for text in (
            "", "yesterday", "2025-10-25", "2025-10-25T12:00:00", "2025-02-30T00:00:00Z", "2025-02-29T00:00:00Z",
            "2025-13-01T00:00:00Z", "2025-00-10T00:00:00Z", "2025-10-25T24:00:00Z", "2025-10-25T12:60:00Z",
            "2025-10-25T12:00:61Z", "2025-10-25T12:00:00+24:00", "2025-10-25T12:00:00 Z", "1969-12-31T23:59:59Z",
            "0000-01-01T00:00:00Z", "1761393600000", "+12025-10-25T12:00:00Z", "2025-10-25T12:00:00Europe/Paris",
        )
    ),
    (with_ts("-1"), "bad_ts"),
    (with_ts("1e18"), "bad_ts"),
    (with_ts("253402300800000"), "bad_ts"),
    (with_ts('"9999-12-31T23:59:59Z"'), "ts_in_future"),
    (with_ts("253402300799999"), "ts_in_future"),
    (with_ts(str(RECEIVED_MS + 1000 * TOLERANCE_S + 1)), "ts_in_future"),
    # Too large, whatever is in it.
    (b"x" * (MAX_RECORD + 1), "too_large"),
    (GOOD + b" " * MAX_RECORD, "too_large"),
    (with_field("note", "[" * 5000 + "]" * 5000), "not_json"),
]  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What `reading_valid` must say."""

    meter_id: str = "m"
    register: str = "1-0:1.8.0"
    tenant_id: str = "default"
    ts_ms: int = NOON
    kind: int = 2
    value: float = 1.0
    interval_ms: int = 0
    revision: int = 0
    quality: int = 0


VALID: list[tuple[bytes, Row]] = [
    (GOOD, Row(kind=0, value=1.5)),
    (b" \n" + GOOD + b"\n", Row(kind=0, value=1.5)),
    (with_value("-0.25"), Row(kind=0, value=-0.25)),
    (with_value("1E-3"), Row(kind=0, value=0.001)),
    (with_value("12345678.901234567"), Row(kind=0, value=12345678.901234567)),
    (with_value("1.7976931348623157e308"), Row(kind=0, value=1.7976931348623157e308)),
    (with_field("kind", '"register"', unit="Wh"), Row(kind=0, value=0.001)),
    (with_field("kind", '"register"', unit="MWh"), Row(kind=0, value=1000.0)),
    (with_field("unit", '"W"'), Row(value=0.001)),
    (with_field("unit", '"MW"'), Row(value=1000.0)),
    (with_field("interval_s", "900", "interval", "kWh"), Row(kind=1, interval_ms=900_000)),
    (with_field("interval_s", "0.5", "interval", "kWh"), Row(kind=1, interval_ms=500)),
    (with_field("interval_s", "null"), Row()),
    (with_field("interval_s", "900"), Row()),
    (with_field("register", "null"), Row()),
    (with_field("register", '"1-0:2.8.0"', "register", "kWh"), Row(kind=0, register="1-0:2.8.0")),
    (with_field("revision", "9007199254740993"), Row(revision=9007199254740993)),
    (with_field("revision", "1.0"), Row(revision=1)),
    (with_value("1e305").replace(b"kWh", b"MWh"), Row(kind=0, value=1e308)),
    (with_field("quality", '"estimated"'), Row(quality=1)),
    (with_field("quality", '"invalid"'), Row(quality=2)),
    (with_field("quality", "null"), Row()),
    (with_field("tenant_id", '"acme"'), Row(tenant_id="acme")),
    (with_field("meter_id", '"Zähler ⚡ \\u00fc"'), Row(meter_id="Zähler ⚡ ü")),
    (with_field("meter_id", '"\\ud83d\\ude00?"'), Row(meter_id="😀?")),
    (with_field("meter_id", '"?\\\\ud800"'), Row(meter_id="?\\ud800")),
    (with_field("meter_id", '"a\ufffd"'), Row(meter_id="a\ufffd")),
    (GOOD[:-1] + b',"name":"\\ud83d"}', Row(kind=0, value=1.5)),
    (with_field("meter_id", '"a\\"b\\\\c/d"'), Row(meter_id='a"b\\c/d')),
    (with_field("meter_id", '"\'; DROP TABLE reading; --"'), Row(meter_id="'; DROP TABLE reading; --")),
    (with_field("meter_id", f'"{"m" * LONGEST_ID}"'), Row(meter_id="m" * LONGEST_ID)),
    (with_field("meter_id", '"null"'), Row(meter_id="null")),
    (with_field("note", '{"ts":"2020-01-01T00:00:00Z","value":[1,{"a":null}]}'), Row()),
    (with_field("seq", "71"), Row()),
    *(
        (with_ts(text), Row(ts_ms=ms))
        for text, ms in (
            (str(NOON), NOON), (f"{NOON}.0", NOON), ("1.7613936e12", NOON), ("0", 0),
            ('"2025-10-25t12:00:00z"', NOON), ('"2025-10-25 12:00:00+00:00"', NOON), ('"2025-10-25T12:00Z"', NOON),
            ('"2025-10-25T12:00:00.250Z"', NOON + 250), ('"2025-10-25T12:00:00,5Z"', NOON + 500),
            ('"2025-10-25T12:00:00.123456789Z"', NOON + 123), ('"2025-10-25T14:00:00+02:00"', NOON),
            ('"2025-10-25T14:00:00+0200"', NOON), ('"2025-10-25T14:00:00+02"', NOON),
            ('"2025-10-25T17:45:00+05:45"', NOON), ('"2025-10-25T08:30:00-03:30"', NOON),
            ('"2025-10-26T02:00:00+14:00"', NOON), ('"2025-10-25T12:00:00-00:00"', NOON),
            ('"2025-10-26T02:30:00+02:00"', NOON + 45_000_000),
            ('"2024-02-29T00:00:00Z"', 1_709_164_800_000), ('"1970-01-01T00:00:00Z"', 0),
            # A leap second is the first of the next minute, as POSIX time has it.
            ('"2016-12-31T23:59:60Z"', 1_483_228_800_000),
            (str(RECEIVED_MS + 1000 * TOLERANCE_S), RECEIVED_MS + 1000 * TOLERANCE_S),
        )
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def answers() -> Iterator[tuple[dict[int, str], dict[int, Any], dict[int, int | None]]]:
    """By case (rejected ones first): its code, its reading, and its row time as epoch milliseconds."""
    home = Path(os.environ.get("ENERGYAI_HOME") or default_home())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAVA_HOME", Stack(StackOptions(home / "none", home=home)).flink_env()["JAVA_HOME"])
        from pyflink.table import DataTypes, EnvironmentSettings, TableEnvironment

        tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
        tables.get_config().set("table.local-time-zone", "UTC")
        tables.get_config().set("parallelism.default", "1")
        payloads = [payload for payload, _ in REJECTED] + [payload for payload, _ in VALID]
        rows = [(bytearray(payload), "meter.readings", 0, i, RECEIVED_MS, i) for i, payload in enumerate(payloads)]
        types = (
            ("payload", DataTypes.BYTES()), ("topic", DataTypes.STRING()), ("partition", DataTypes.INT()),
            ("offset", DataTypes.BIGINT()), ("received_ms", DataTypes.BIGINT()), ("known_ms", DataTypes.BIGINT()),
        )  # fmt: skip
        schema = DataTypes.ROW([DataTypes.FIELD(name, kind) for name, kind in types])
        tables.create_temporary_view("records", tables.from_elements(rows, schema))
        for statement in statements(
            "readings",
            records="records",
            ts_ms=timestamp_ms("ts_json"),
            meter_ok=short_text("meter_json", LONGEST_ID),
            register_ok=f"(register_json IS NULL OR {short_text('register_json', LONGEST_ID)})",
            tenant_ok=f"(tenant_json IS NULL OR {short_text('tenant_json', LONGEST_ID)})",
            half_surrogate=HALF_SURROGATE,
            max_record_bytes=MAX_RECORD,
            future_tolerance_s=TOLERANCE_S,
        ):
            tables.execute_sql(statement)

        def all_of(query: str) -> list[Any]:
            with tables.execute_sql(query).collect() as found:
                return list(found)

        hint = row_time("payload")
        yield (
            {row[0]: row[1] for row in all_of("SELECT `offset`, reason FROM reading_rejected")},
            {row[10]: row for row in all_of("SELECT * FROM reading_valid")},
            {
                row[0]: row[1]
                for row in all_of(
                    "SELECT `offset`, EXTRACT(EPOCH FROM t) * 1000 + EXTRACT(MILLISECOND FROM t) "
                    f"FROM (SELECT `offset`, {hint} AS t FROM records)"
                )
            },
        )


@pytest.mark.parametrize("case", range(len(REJECTED)), ids=[f"{code}-{i}" for i, (_, code) in enumerate(REJECTED)])
def test_what_is_no_reading_is_rejected_with_its_code(answers: Any, case: int) -> None:
    payload, code = REJECTED[case]
    assert answers[0].get(case) == code, payload[:200]
    assert case not in answers[1], "a record is a reading or rejected, not both"


@pytest.mark.parametrize("case", range(len(VALID)))
def test_a_reading_in_canonical_units(answers: Any, case: int) -> None:
    payload, row = VALID[case]
    number = len(REJECTED) + case
    assert number not in answers[0], (payload, answers[0].get(number))
    assert Row(*list(answers[1][number])[:9]) == row, payload


def test_every_record_is_one_of_the_two(answers: Any) -> None:
    assert sorted([*answers[0], *answers[1]]) == list(range(len(REJECTED) + len(VALID)))


def test_the_row_time_is_the_time_less_a_millisecond(answers: Any) -> None:
    """The hint that watermarks go by is found without parsing; of a plain record it is exact."""
    for case, (payload, row) in enumerate(VALID):
        if b'"note"' in payload:
            continue
        found = answers[2][len(REJECTED) + case]
        assert found == row.ts_ms - 1, payload


def test_no_record_stops_the_row_time(answers: Any) -> None:
    assert np.isin(np.arange(len(REJECTED) + len(VALID)), list(answers[2])).all()
