"""What `energyai replay SOURCE` reads: a file, a folder of files, or a generated fleet, in event-time order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jobs.replay import formats
from jobs.replay.account import Account
from jobs.replay.batch import Batch, ReplayError
from jobs.replay.csv_parquet import Options, TableFile
from jobs.replay.formats import FormatFile
from jobs.replay.layout import open_table
from jobs.replay.ordering import Ordered
from jobs.replay.ordering import merge as merge_ordered
from operators import adapters

WEEK_MS = 7 * 24 * 3600 * 1000


@dataclass(frozen=True)
class Source:
    """Something to replay: its period is known before a reading is read."""

    name: str
    first_ms: int
    """No reading is delivered before this, epoch milliseconds of event time."""
    last_ms: int
    """No reading is later than this; late deliveries may come after it."""
    batches: Callable[[], Iterator[Batch]]
    """Its messages in delivery order, anew at every call."""
    notes: Sequence[str] = field(default=())
    """What was assumed, one line each, for the user."""
    account: Account | None = None
    """What records of sources' own formats have become besides readings; None: there are no such files."""


def open_path(
    path: Path, options: Options, wanted: str = formats.AUTO, adapter: adapters.Options | None = None
) -> Source:
    """The readings of a file, or of all of a folder, merged by time.

    Args:
        path: CSV, Parquet or a source's own format; a folder may mix them.
        options: how tables are read, and what is left out.
        wanted: one of `formats.NAMES`.
        adapter: what sources' own formats leave open.

    Raises:
        ReplayError: nothing readable there, or a bad time stamp in a table; one line that names file and place.
    """
    found, left_out = formats.paths(path, wanted)
    tables = _first_meters([open_table(one, options) for one, name in found if name == formats.TABLE], options)
    _refuse_twice(tables)
    others = formats.first_meters(
        [
            formats.open_format(one, name, options, adapter or adapters.Options())
            for one, name in found
            if name != formats.TABLE
        ],
        options,
    )
    opened: list[TableFile | FormatFile] = [*tables, *others]
    notes = list(dict.fromkeys(note for one in opened for note in one.notes))
    first = min(one.first_ms for one in opened)
    last = max(one.last_ms for one in opened)
    if options.start_ms is not None:
        first = max(first, options.start_ms)
    if options.end_ms is not None:
        last = min(last, options.end_ms - 1)
    if first > last:
        raise ReplayError(f"{path}: no reading between --from and --to")
    ordered = [Ordered(one.first_ms, one.batches) for one in opened]
    account = formats.total(others, left_out)
    return Source(str(path), first, last, lambda: merge_ordered(ordered), notes, account)


def _refuse_twice(tables: list[TableFile]) -> None:
    """One meter in two wide files over the same time is two meters with one name: their readings would conflict."""
    seen: dict[str, list[TableFile]] = {}
    for table in tables:
        for name in table.meter_names() if table.layout == "wide" else ():
            for other in seen.setdefault(name, []):
                if table.first_ms <= other.last_ms and other.first_ms <= table.last_ms:
                    raise ReplayError(
                        f"{name} is in {other.path} and in {table.path} over the same time: replay them apart"
                    )
            seen[name].append(table)


def _first_meters(tables: list[TableFile], options: Options) -> list[TableFile]:
    """Keeps the first `options.meters` meters over all wide files; a long file counts its own as they come."""
    if options.meters is None:
        return tables
    left = options.meters
    seen: set[str] = set()
    kept = []
    for table in tables:
        if table.layout == "wide":
            names = dict(zip(table.meter_names(), table.value_columns, strict=True))
            new = [name for name in names if name not in seen][:left]
            left -= len(new)
            seen.update(new)
            table.value_columns = [column for name, column in names.items() if name in seen]
        if table.layout == "long" or table.value_columns:
            kept.append(table)
    return kept


def merge(sources: Sequence[Source]) -> Source:
    """Several sources as one, by delivery time: what the demo replays."""
    ordered = [Ordered(source.first_ms, source.batches) for source in sources]
    return Source(
        " + ".join(source.name for source in sources),
        min(source.first_ms for source in sources),
        max(source.last_ms for source in sources),
        lambda: merge_ordered(ordered),
        [note for source in sources for note in source.notes],
    )


def loop(source: Source) -> Iterator[Batch]:
    """The source again and again for ever, each round moved on by whole weeks, so that event time goes on."""
    period = -(-(source.last_ms - source.first_ms + 1) // WEEK_MS) * WEEK_MS
    round_ = 0
    while True:
        for b in source.batches():
            yield b.shifted(round_ * period)
        round_ += 1
