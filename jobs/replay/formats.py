"""Files in sources' own formats (DSMR, Shelly, Tasmota, Green Button, SenML, DEBS) as batches in event-time order."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, cast

import numpy as np
import pandas as pd

from jobs.replay import files
from jobs.replay.account import Account
from jobs.replay.batch import Batch, ReplayError, batch
from jobs.replay.csv_parquet import KINDS, Options
from jobs.replay.ordering import SORTED_AT_ONCE, time_ordered
from operators import adapters
from operators.adapters import FORMATS, Parsed
from operators.readings import Kind, Readings

AUTO, TABLE = "auto", "table"
NAMES = (AUTO, TABLE, *FORMATS)
"""What --format takes: by content; CSV and Parquet of readings; or a source's format."""
OTHER_NAMES = {
    **dict.fromkeys(("csv", "parquet"), TABLE),
    **dict.fromkeys(("greenbutton", "espi"), "green-button"),
    "p1": "dsmr",
    "debs2014": "debs",
}
"""What people call them too."""
IN_TABLES = ("green-button", "debs")
"""Formats whose files may end in .csv too."""


@dataclass
class FormatFile:
    """An opened file of a source's format: period and account are known, its rows come when asked for."""

    path: Path
    format: str
    options: Options
    adapter: adapters.Options
    first_ms: int = 0
    last_ms: int = 0
    rows: int = 0
    ordered: bool = True
    account: Account = field(default_factory=Account)
    notes: list[str] = field(default_factory=list)
    meters: dict[str, None] = field(default_factory=dict)
    """The file's meters, as they come."""
    allowed: frozenset[str] | None = None
    """The meters to replay; None: all."""

    def parts(self) -> Iterator[Parsed]:
        """The file from its beginning.

        Raises:
            ReplayError: it cannot be read, or is of another format.
        """
        try:
            with open_file(self.path) as file:
                yield from adapters.parse(self.format, file, self.adapter)
        except adapters.FormatError as error:
            raise ReplayError(f"{self.path}: {error}") from error
        except (OSError, EOFError, zlib.error) as error:
            raise ReplayError(f"{self.path}: cannot be read ({str(error) or type(error).__name__})") from error

    def batches(self) -> Iterator[Batch]:
        """The readings in event-time order."""
        found = self._batches()
        yield from found if self.ordered else time_ordered(found)

    def _batches(self) -> Iterator[Batch]:
        for part in self.parts():
            picked = self.picked(part.readings)
            if len(picked):
                yield as_batch(picked)

    def picked(self, readings: Readings) -> Readings:
        """Those that --from, --to and the choice of meters let through."""
        keep = np.ones(len(readings), dtype=bool)
        if self.options.start_ms is not None:
            keep &= readings.ts_ms >= self.options.start_ms
        if self.options.end_ms is not None:
            keep &= readings.ts_ms < self.options.end_ms
        if self.options.zero_is_missing:
            keep &= readings.value != 0
        if self.allowed is not None:
            keep &= pd.Series(readings.meter_id).isin(self.allowed).to_numpy()
        return readings if keep.all() else readings.take(keep)


def name_of(text: str) -> str:
    """The format that a user's word names; the word itself if none."""
    word = text.lower().replace("_", "-")
    return OTHER_NAMES.get(word, word)


def open_file(path: Path) -> IO[bytes]:
    """The file's bytes; unpacked if its name ends in .gz."""
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.name.lower().endswith(".gz") else path.open("rb")


def format_of(path: Path, wanted: str) -> str | None:
    """The format that `path` is read in: `table`, a name of `FORMATS`, or None for no known one.

    Raises:
        ReplayError: it cannot be read.
    """
    if wanted != AUTO:
        return wanted
    table = files.is_table(path)
    if files.is_parquet(path):
        return TABLE
    try:
        with open_file(path) as file:
            found = adapters.detect(file.read(adapters.HEAD))
    except (OSError, EOFError, zlib.error) as error:
        if table:
            return TABLE
        raise ReplayError(f"{path}: cannot be read ({str(error) or type(error).__name__})") from error
    if table:
        return found if found in IN_TABLES else TABLE
    return found


def paths(path: Path, wanted: str) -> tuple[list[tuple[Path, str]], list[str]]:
    """The files to read at `path`, each with its format, and the names of those of a folder that are left out.

    Raises:
        ReplayError: nothing there, or nothing that we read.
    """
    if wanted == TABLE:
        return [(one, TABLE) for one in files.tables(path)], []
    if not path.is_dir():
        if not path.exists():
            raise ReplayError(f"{path}: no such file or folder")
        name = format_of(path, wanted)
        if name is None:
            raise ReplayError(
                f"{path}: not a .csv, .csv.gz or .parquet file, and of no format that replay knows "
                f"(--format {'|'.join(FORMATS)})"
            )
        return [(path, name)], []
    found, left_out = [], []
    for one in sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")):
        name = format_of(one, AUTO)
        if name is not None and wanted in (AUTO, name):
            found.append((one, name))
        else:
            left_out.append(one.name)
    if not found:
        what = "no .csv, .csv.gz or .parquet file, and none of another known format,"
        raise ReplayError(f"{path}: {what if wanted == AUTO else f'no {wanted} file'} in this folder")
    return found, left_out


def first_meters(opened: list[FormatFile], options: Options) -> list[FormatFile]:
    """Lets the meters through that --columns names, and of them the first --meters over all files.

    Raises:
        ReplayError: none of the meters is there.
    """
    if not options.columns and options.meters is None:
        return opened
    known = dict.fromkeys(meter for one in opened for meter in one.meters)
    wanted = [meter for meter in known if not options.columns or meter in options.columns]
    if opened and not wanted:
        raise ReplayError(f"no meter {options.columns[0]!r}; there are {', '.join(list(known)[:8])}")
    allowed = frozenset(wanted[: options.meters])
    for one in opened:
        one.allowed = allowed
    return opened


def total(opened: list[FormatFile], left_out: list[str]) -> Account | None:
    """The account of all files; None where tables are all there is."""
    if not opened and not left_out:
        return None
    account = Account(left_out=left_out)
    for one in opened:
        account.merge(one.account)
    return account


def open_format(path: Path, name: str, options: Options, adapter: adapters.Options) -> FormatFile:
    """Reads the file once, for its period, its meters and its account.

    Raises:
        ReplayError: it cannot be read, is of another format, or holds no reading.
    """
    found = FormatFile(path, name, options, replace(adapter, meter=_stem(path)))
    last = None
    for part in found.parts():
        found.account.add(path.name, part)
        found.notes += [note for note in part.assumed if note not in found.notes]
        found.meters.update(dict.fromkeys(part.readings.meter_id.tolist()))
        stamps = part.readings.ts_ms
        if not len(stamps):
            continue
        found.ordered &= (last is None or int(stamps[0]) >= last) and bool((np.diff(stamps) >= 0).all())
        low, high = int(stamps.min()), int(stamps.max())
        found.first_ms = low if last is None else min(found.first_ms, low)
        found.last_ms = high if last is None else max(found.last_ms, high)
        last = int(stamps[-1])
        found.rows += len(stamps)
    if not found.rows:
        why = [f": {one.place}: {one.reason}" for _, one in found.account.unreadable[:1]]
        why += [f": {reason}" for reason in list(found.account.skipped)[:1]]
        raise ReplayError(f"{path}: no reading in this file of {FORMATS[name].title}{''.join(why[:1])}")
    if options.unit or options.timestamps:
        found.notes.append(f"--unit and --timestamps are for CSV and Parquet; {path.name} has what {name} defines")
    if not found.ordered and found.rows > SORTED_AT_ONCE:
        found.notes.append(f"{path.name} is not in time order: it is sorted on disk first")
    return found


def _stem(path: Path) -> str:
    name = path.name[:-3] if path.name.lower().endswith(".gz") else path.name
    return Path(name).stem or name


def adapter_options(
    options: Options, tz: str | None, gas_kwh_per_m3: float | None, received_ms: int | None
) -> adapters.Options:
    """What a source's format leaves open, as the command's options say it."""
    made = adapters.Options(tz=tz, received_ms=received_ms, interval_ms=(options.interval_s or 0) * 1000)
    if gas_kwh_per_m3 is not None:
        made = replace(made, gas_kwh_per_m3=gas_kwh_per_m3)
    return replace(made, kind=KINDS[options.kind]) if options.kind else made


def as_batch(readings: Readings) -> Batch:
    """Readings as messages: canonical units, every field named."""
    return batch(
        readings.meter_id,
        readings.ts_ms,
        readings.value,
        kind=readings.kind,
        unit=np.where(readings.kind == Kind.INSTANT, "kW", "kWh").astype(object),
        interval_s=readings.interval_ms // 1000,
        register=readings.register,
        revision=readings.revision,
        quality=readings.quality,
    )
