"""The demo's real meters: verified, in the right hours, nothing made up; on a package of the test's own."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from jobs.replay import samples
from jobs.replay.batch import ReplayError, concat

HOUR = 3_600_000


@pytest.fixture
def package(tmp_path: Path) -> tuple[Path, Path]:
    """(folder, lock): a package whose home h has value h + row/10000."""
    folder = tmp_path / "parts"
    folder.mkdir()
    wheel = folder / "citylearn-0.0.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for home in samples.HOMES:
            column = pd.Series(home + np.arange(samples.ROWS) / 10_000, name="Equipment Electric Power [kWh]")
            file.writestr(samples._MEMBER.format(home), column.to_frame().assign(other=1).to_csv(index=False))
    lock = tmp_path / "data.lock"
    lock.write_text(f"# x\ncitylearn==0.0.1 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    return folder, lock


def test_rows_are_the_hours_of_the_local_clock(package: tuple[Path, Path]) -> None:
    table = samples.load(package[0], lock=package[1])
    one = table[table["meter_id"] == "real-home-1"]
    row = ((one["value"] - 1) * 10_000).round().astype(int).to_numpy()
    start = one["ts"] - pd.Timedelta(hours=1)
    local = start.dt.tz_convert(ZoneInfo(samples.TZ)).dt.tz_localize(None)
    face = pd.Timestamp(samples.FIRST_HOUR) + pd.to_timedelta(row, unit="h")
    assert (local.to_numpy() == face.to_numpy()).all()
    assert len(one) == samples.ROWS - 1  # the hour that the clocks skip in March
    assert one["ts"].is_unique


def test_the_demo_period_is_seven_whole_weeks_without_a_change_of_clocks(package: tuple[Path, Path]) -> None:
    source = samples.source(package[0], lock=package[1])
    readings = concat(list(source.batches()))
    weeks = (samples.DEMO_END_MS - samples.DEMO_START_MS) / (7 * 24 * HOUR)
    assert weeks == 7
    assert len(readings) == 7 * 7 * 24 * len(samples.HOMES)
    assert (np.diff(readings.ts_ms) >= 0).all()
    assert source.first_ms == samples.DEMO_START_MS + HOUR
    assert source.last_ms == samples.DEMO_END_MS
    assert set(readings.meter_id) == set(samples.METERS)
    for edge in (samples.DEMO_START_MS, samples.DEMO_END_MS):
        local = pd.Timestamp(edge, unit="ms", tz=samples.TZ)
        assert (local.dayofweek, local.hour) == (0, 0)


def test_a_changed_package_is_not_read(package: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, lock = package
    wheel = next(folder.glob("*.whl"))
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"?")
    assert samples.cached(folder, lock) is None

    def refuse(*args: object, **kwargs: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 1, "", "WARNING: w\nERROR: no route\n")

    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(ReplayError, match="cannot be downloaded: ERROR: no route"):
        samples.load(folder, lock=lock)


def test_the_real_lock_names_one_package() -> None:
    pin = samples.pin()
    assert pin.name == "citylearn"
    assert len(pin.sha256) == 64
