"""Past energy out of the database for training, backtests and forecasts: sets by time zone, gaps, and clear errors."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest
from gate_support import GateHandle
from store_support import HOUR, START, concat, gate, readings  # noqa: F401 - a fixture

from jobs.backtest.series import SeriesError, from_database
from jobs.commands import backtest, predict
from operators.readings import Kind
from operators.store import Store

pytestmark = pytest.mark.integration

HOURS = 24 * 12
DAY = 5 + 3 * np.sin(np.arange(HOURS) * (2 * np.pi / 24))
GAP = np.arange(100, 104)


@pytest.fixture(scope="module")
def url(gate: GateHandle) -> str:  # noqa: F811 - the fixture
    """Three hourly meters in two zones, one by its site's, one with a gap."""
    kept = np.delete(np.arange(HOURS), GAP)
    ends = START + (np.arange(HOURS) + 1) * HOUR
    parts = [
        readings(meter, ends[rows], DAY[rows] * (1 + i), kind=Kind.INTERVAL, interval_ms=HOUR)
        for i, (meter, rows) in enumerate((("es-a", slice(None)), ("es-b", kept), ("es-c", slice(None))))
    ]
    Store(gate.url).write_readings(concat(parts), START + HOURS * HOUR)
    connection = gate.connect()
    with connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO site (site_id, tz) VALUES ('es-site', 'Europe/Amsterdam')")
        cursor.execute(
            "INSERT INTO meter (meter_id, site_id, tz) VALUES ('es-b', 'es-site', 'UTC'), "
            "('es-c', 'default', 'Australia/Melbourne') "
            "ON CONFLICT (meter_id) DO UPDATE SET site_id = excluded.site_id, tz = excluded.tz"
        )
    connection.close()
    return str(gate.url)


def test_meters_come_in_sets_by_zone(url: str) -> None:
    sets = {found.zone: found for found in from_database(url, 3600, ("es-a", "es-b", "es-c"))}
    assert {zone: found.names for zone, found in sets.items()} == {
        "UTC": ("es-a",),
        "Europe/Amsterdam": ("es-b",),
        "Australia/Melbourne": ("es-c",),
    }
    assert sets["UTC"].start_ms == START
    assert sets["UTC"].kwh[0] == pytest.approx(DAY, rel=1e-6)
    gapped = sets["Europe/Amsterdam"].kwh[0]
    assert np.flatnonzero(np.isnan(gapped)).tolist() == GAP.tolist()
    assert sets["Australia/Melbourne"].utc_offset_s[0] == 39_600


def test_quarter_hours_add_up_to_hours(url: str) -> None:
    (found,) = from_database(url, 900, ("es-a",))
    assert found.kwh[0].reshape(-1, 4).sum(axis=1) == pytest.approx(DAY, rel=1e-6)


def test_unknown_meter_and_unreachable_database_are_told(url: str) -> None:
    with pytest.raises(SeriesError, match="no energy of these meters"):
        from_database(url, 3600, ("nobody",))
    with pytest.raises(SeriesError, match="cannot be read") as error:
        from_database("postgresql://postgres@127.0.0.1:1/none", 3600)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("command", [backtest, predict])
def test_commands_read_the_database(url: str, command: object, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)  # type: ignore[attr-defined]
    words = ["es-b", "--database-url", url, "--json"]
    if command is backtest:
        words = ["--database-url", url, "--columns", "es-a,es-b,es-c", "--json"]
    assert command.run(parser.parse_args(words)) == 0  # type: ignore[attr-defined]
    found = json.loads(capsys.readouterr().out)
    if command is backtest:
        assert found["groups"][0]["meters"] == 3
    else:
        assert found["meter_id"] == "es-b"
        assert len(found["kwh"]["q50"]) == 24
