"""What a verification found, for programs and for people."""

from __future__ import annotations

import math
from typing import Any

from jobs.verify.check import Since, verdict
from jobs.verify.compare import Tally
from jobs.verify.recording import Recording

COLUMNS = ("production", "replay", "missing", "extra", "different", "left_out")


def outcome(
    taken: Recording,
    found: dict[str, Tally],
    behind: dict[str, int | None],
    since: Since,
    parallelism: int,
    seconds: float,
) -> dict[str, Any]:
    """All of it, for JSON: `equal`, the recording, how far production is, and each table's rows."""
    return {
        "equal": verdict(found),
        "topic": taken.topic,
        "records": taken.records,
        "offsets": {str(p): [taken.begins[p], end] for p, end in sorted(taken.ends.items())},
        "deleted": taken.deleted,
        "parallelism": parallelism,
        "production_behind": behind,
        "arrivals_left_out_from": since.arrived and since.arrived.isoformat(),
        "forecasts_left_out_after": since.settled and since.settled.isoformat(),
        "seconds": round(seconds, 1),
        "tables": {name: _table(tally) for name, tally in found.items()},
    }


def _table(tally: Tally) -> dict[str, Any]:
    # JSON has no infinity: a number on one side only has no difference.
    largest = tally.largest if math.isfinite(tally.largest) else None
    counts = {name: getattr(tally, name) for name in COLUMNS}
    return {"equal": tally.equal, **counts, "largest_relative_difference": largest, "first": tally.first}


def show(result: dict[str, Any]) -> None:
    """The table, the first rows that differ, and what must be known to read it."""
    names = ("rows of production", "of replay", "missing", "extra", "different", "left out")
    print(f"{'':18}" + "".join(f"{name:>{max(11, len(name) + 2)}}" for name in names) + "  largest difference")
    for name, table in result["tables"].items():
        cells = "".join(
            f"{table[column]:>{max(11, len(title) + 2)},}" for column, title in zip(COLUMNS, names, strict=True)
        )
        largest = table["largest_relative_difference"]
        print(f"{name:18}{cells}  {'a number is missing' if largest is None else f'{largest:.1e}'}")
    for name, table in result["tables"].items():
        for row in table["first"]:
            key = ", ".join(f"{column} {value}" for column, value in row["key"].items())
            columns = "".join(f"; {column}: {a} ≠ {b}" for column, (a, b) in row["columns"].items())
            print(f"{name} {row['what']}: {key}{columns}")
    for note in _notes(result):
        print(note)
    print("equal" if result["equal"] else "DIFFERENT")


def _notes(result: dict[str, Any]) -> list[str]:
    notes = []
    for job, behind in result["production_behind"].items():
        if behind:
            notes.append(f"production's {job} has not caught up: {behind:,} records of the recording are not read yet")
        elif behind is None:
            notes.append(f"production's {job} does not run: it is taken to have read the recording to its end")
    if result["deleted"]:
        notes.append(f"{result['deleted']:,} records were deleted from the topic before: their rows are missing here")
    if result["arrivals_left_out_from"]:
        notes.append(
            f"readings came in meanwhile: those that arrived from {result['arrivals_left_out_from']} on are left out, "
            "and the energy that they change"
        )
    if result["forecasts_left_out_after"]:
        notes.append(f"forecasts issued after {result['forecasts_left_out_after']} are left out: production goes on")
    return notes
