"""`energyai replay --verify` on real parts: it names the rows that differ, and nothing else. Equal: tests/proofs."""

from __future__ import annotations

import pytest

from infra.database import connected
from infra.embedded.stack import Stack
from tests.recorded import TABLES, assert_nothing_left, produced, unequal, verified

PREFIX = "rec-"


@pytest.mark.long
@pytest.mark.timeout(1_800)
def test_the_rows_that_differ_are_told_and_all_others_are_equal(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    production = produced(stack, PREFIX)
    with connected(production.where.database_url, autocommit=True) as link, link.cursor() as cursor:
        cursor.execute(
            "UPDATE reading SET value = value + 1 WHERE (meter_id, ts) IN"
            " (SELECT meter_id, ts FROM reading WHERE starts_with(meter_id, %s) ORDER BY ts LIMIT 1 OFFSET 100)"
            " AND register = '1-0:1.8.0'",
            (PREFIX,),
        )
        assert cursor.rowcount == 1
        cursor.execute(
            "UPDATE forecast_issue SET kwh[1] = kwh[1] + 1 WHERE (meter_id, issued_at) IN"
            " (SELECT meter_id, issued_at FROM forecast_issue WHERE starts_with(meter_id, %s) ORDER BY 1, 2 LIMIT 1)",
            (PREFIX,),
        )
        assert cursor.rowcount == 1
    code, found = verified(production, monkeypatch, capsys, parallelism=2)
    assert code == 1
    assert not found["equal"]
    different = {name: table["different"] for name, table in found["tables"].items() if not table["equal"]}
    assert different == {"reading": 1, "forecast_issue": 1}, unequal(found)
    assert found["tables"].keys() == TABLES
    for name, table in found["tables"].items():
        assert table["production"] == table["replay"] > 0, name
        assert table["left_out"] == 0
    (row,) = found["tables"]["reading"]["first"]
    before, after = row["columns"]["value"]
    assert before == pytest.approx(after + 1)
    assert found["tables"]["forecast_issue"]["largest_relative_difference"] > 1e-6
    assert_nothing_left(production)
