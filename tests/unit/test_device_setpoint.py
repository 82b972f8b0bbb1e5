"""Messages of control.setpoints, good and bad."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs.device import AssetSpec, SetpointError, parse
from jobs.device.setpoint import LOWEST_PRIORITY, iso

GOOD: dict[str, Any] = {
    "setpoint_id": "s1", "asset_id": "battery-1", "site_id": "hq", "type": "POWER", "value_w": -4200,
    "execution_time": "2026-01-01T00:00:00Z", "duration_s": 900, "ttl_s": 120,
    "failsafe": {"value_w": 0, "min_duration_s": 900}, "priority": 2, "mode": "live", "reason": "peak_shaving",
    "supersedes": None, "inputs": {}, "expected": {},
}  # fmt: skip


def test_the_contracts_example() -> None:
    found = parse(json.dumps(GOOD).encode())
    assert (found.value_w, found.failsafe_w, found.failsafe_ms, found.ttl_ms) == (-4200.0, 0.0, 900_000, 120_000)
    assert iso(found.execution_ms) == "2026-01-01T00:00:00.000Z"
    assert found.lease_end_ms - found.execution_ms == 120_000
    assert found.step_end_ms == found.execution_ms + 900_000


def test_no_duration_is_no_end_and_no_priority_is_the_lowest() -> None:
    found = parse(GOOD | {"duration_s": None, "priority": None, "execution_time": 1_767_225_600_000})
    assert found.duration_ms is None
    assert found.step_end_ms is None
    assert found.priority == LOWEST_PRIORITY
    assert found.execution_ms == parse(GOOD).execution_ms


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"setpoint_id": None}, "missing_field"),
        ({"asset_id": 7}, "bad_type"),
        ({"type": "VOLTAGE"}, "bad_type"),
        ({"mode": "dry"}, "bad_mode"),
        ({"value_w": None}, "missing_field"),
        ({"value_w": "10"}, "bad_type"),
        ({"value_w": True}, "bad_type"),
        ({"value_w": float("nan")}, "not_finite"),
        ({"value_w": float("inf")}, "not_finite"),
        ({"value_w": 10**400}, "not_finite"),
        ({"execution_time": None}, "missing_field"),
        ({"execution_time": "tomorrow"}, "bad_ts"),
        ({"execution_time": "2026-01-01T00:00:00"}, "bad_ts"),
        ({"execution_time": True}, "bad_ts"),
        ({"ttl_s": 0}, "bad_ttl"),
        ({"ttl_s": float("nan")}, "not_finite"),
        ({"duration_s": -1}, "bad_duration"),
        ({"failsafe": None}, "bad_failsafe"),
        ({"failsafe": {"value_w": float("nan"), "min_duration_s": 0}}, "not_finite"),
        ({"failsafe": {"value_w": 0, "min_duration_s": -1}}, "bad_failsafe"),
        ({"failsafe": {"value_w": 0, "min_duration_s": 1e9}}, "bad_failsafe"),
        ({"failsafe": {"value_w": 0}}, "missing_field"),
        ({"priority": 1.5}, "bad_type"),
        ({"supersedes": 3}, "bad_type"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], code: str) -> None:
    with pytest.raises(SetpointError) as caught:
        parse(json.dumps(GOOD | change))
    assert caught.value.code == code
    assert caught.value.setpoint_id == (None if change.get("setpoint_id", "") is None else "s1")


@pytest.mark.parametrize("raw", [b"", b"\xff\xfe", b"[1]", b"null", b"{", b"[" * 100_000])
def test_what_is_no_object(raw: bytes) -> None:
    with pytest.raises(SetpointError, match="not_json"):
        parse(raw)


def test_an_asset_without_bounds_does_not_act() -> None:
    asset = {"asset_id": "b", "type": "battery", "min_w": -5, "max_w": 5, "ramp_w_per_s": None, "efficiency": None}
    assert AssetSpec.of(asset).clip(9) == 5
    assert AssetSpec.of(asset | {"min_w": None}).min_w == -5
    for change in ({"max_w": None}, {"min_w": 6}, {"max_w": float("nan")}, {"ramp_w_per_s": 0}, {"efficiency": 2}):
        with pytest.raises(ValueError, match="asset b"):
            AssetSpec.of(asset | change)
