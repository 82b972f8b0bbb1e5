"""Control's records as rows: what devices answer may be anything."""

from __future__ import annotations

import json

from operators.control_records import rows

ACK = {"setpoint_id": "s", "asset_id": "a", "status": "STARTED", "ts": "2026-01-05T00:00:00Z", "measured_w": 5.0}


def test_answers_that_are_none_are_left_out() -> None:
    bad = [
        b"", b"[]", b"null", b"\xff", b'{"setpoint_id": 3}', json.dumps({**ACK, "status": "MAYBE"}).encode(),
        json.dumps({**ACK, "ts": "now"}).encode(), json.dumps({**ACK, "measured_w": "5"}).encode(),
        json.dumps({**ACK, "detail": {}}).encode(), json.dumps({**ACK, "asset_id": ""}).encode(),
    ]  # fmt: skip
    found = rows([("ack", one) for one in [*bad, None, json.dumps(ACK).encode()]])
    assert [row["setpoint_id"] for row in found["ack"]] == ["s"]
    assert found["ack"][0]["ts"] == "2026-01-05T00:00:00+00:00"


def test_a_nul_does_not_reach_the_database() -> None:
    (row,) = rows([("ack", json.dumps({**ACK, "detail": "a\x00b"}).encode())])["ack"]
    assert row["detail"] == "a\ufffdb"


def test_the_log_goes_to_its_tables() -> None:
    plan = {"type": "plan", "plan_id": "p", "site_id": "hq"}
    slot = {"type": "slot", "site_id": "hq", "bucket": "2026-01-05T00:00:00Z"}
    found = rows([("log", json.dumps(one).encode()) for one in (plan, slot, {"type": "else"})])
    assert found["plan"][0]["record"] == plan
    assert found["slot"] == [slot]
    assert not found["setpoint"]
