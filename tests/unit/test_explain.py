"""A setpoint's story for a person."""

from __future__ import annotations

import json

import pytest
from control_loop import Loop

from jobs.cli import main
from jobs.commands.explain import _again, told
from operators.control_lifecycle.receipts import explain
from operators.control_site.outputs import LOG


def test_a_setpoint_is_told_with_its_plan_and_answers(capsys: pytest.CaptureFixture[str]) -> None:
    loop = Loop()
    loop.run(600)
    setpoint = loop.sent[-1]
    records = {o.value["plan_id"]: o.value for o in loop.outputs if o.topic == LOG and o.value["type"] == "plan"}
    record = json.loads(json.dumps(records[setpoint["inputs"]["plan_id"]]))
    answer = {"setpoint_id": setpoint["setpoint_id"], "asset_id": setpoint["asset_id"], "status": "STARTED"}
    acks = [{**answer, "ts": "2026-01-05T06:10:00Z", "measured_w": 5.0, "detail": None}]
    story = {**explain(setpoint["setpoint_id"], loop.sent, acks), "plan": _again(record)}
    text = "\n".join(told(story))
    assert "receipt: whole" in text
    assert "the same again" in text
    assert "STARTED, measured 5 W" in text
    changed = json.loads(json.dumps(setpoint))
    changed["inputs"]["live"]["load_kw"] += 1
    again = {**explain(changed["setpoint_id"], [changed], []), "plan": None}
    assert "CHANGED" in "\n".join(told(again))


def test_too_short_a_name_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KAFKA", "DATABASE_URL", "FLINK_URL"):
        monkeypatch.setenv(f"ENERGYAI_{name}", "nowhere")
    assert main(["explain", "abc"]) == 2
    assert "at least 8" in capsys.readouterr().err
