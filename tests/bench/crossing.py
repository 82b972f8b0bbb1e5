"""Ways for columns between the JVM and Python in a keyed, stateful, checkpointed job, and back, side by side.

python -m tests.bench.crossing [--ways a,b] [--meters N] [--minutes N] [--repeats N] [--json]

The JVM makes the input (`datagen`), so that nothing but the crossing differs. Each way hands a shard's meters and means
of a minute to the same Python function, which keeps the last 96 and answers one number a meter; answers go nowhere,
and are counted. With --json, the last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from infra.embedded.errors import StackError
from infra.embedded.options import default_home
from jobs.errors import UserError
from tests.bench.crossing_ways import WAYS
from tests.bench.sample import EngineError, Sample, Summary, summarise
from tests.bench.surroundings import Surroundings, cluster, interrupt_on_termination, surroundings
from tests.bench.watch import Watch


@dataclass(frozen=True)
class Size:
    """How much is made."""

    meters: int
    minutes: int
    shards: int


def run(around: Surroundings, way: str, size: Size) -> Sample:
    """One run of one way on a new cluster.

    Raises:
        EngineError: it did not get to its end, or lost windows.
    """
    env = {"CROSSING": json.dumps([way, size.meters, size.minutes, size.shards])}
    with cluster(around) as flink, Watch(flink.pid) as watch:
        begun = time.time()
        job_id = flink.submit("tests.bench.crossing_job", env=env)
        ready = flink.finish(job_id, around.deadline_s)
        ended = flink.ended(job_id)
        answered = flink.records_into(job_id, "answered")
    windows = size.meters * size.minutes
    what = WAYS[way]
    # A vectorised function shares its task with the sink: nobody counts there.
    expected = answered if what.pandas else windows if what.rows else size.shards * size.minutes
    return Sample(
        engine=way,
        count=windows,
        seconds=ended - ready,
        startup_s=ready - begun,
        cpu_s=watch.cpu_s(ready, ended),
        startup_cpu_s=watch.cpu_s(None, ready),
        peak_mb=watch.peak_bytes / 1e6,
        readings=windows,
        check={"complete": answered == expected, "answers": answered, "expected": expected},
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the ways, interleaved; 0 when none lost anything."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.crossing", description=__doc__)
    parser.add_argument("--ways", default="", metavar="A,B", help=f"some of {','.join(WAYS)} (default all)")
    parser.add_argument("--meters", type=int, default=5_000)
    parser.add_argument("--minutes", type=int, default=600)
    parser.add_argument("--meters-a-shard", type=int, default=125)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--deadline", type=float, default=900)
    parser.add_argument("--memory", default="2g", metavar="SIZE", help="Flink's TaskManager (default 2g)")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="default .energyai/bench")
    parser.add_argument("--json", action="store_true", help="end with one JSON line")
    args = parser.parse_args(argv)
    console = Console(stderr=args.json)
    interrupt_on_termination()
    ways = [way for way in args.ways.split(",") if way] or list(WAYS)
    home = Path(os.environ.get("ENERGYAI_HOME") or default_home()).absolute()
    size = Size(args.meters, args.minutes, max(2, -(-args.meters // args.meters_a_shard)))
    try:
        if unknown := set(ways) - set(WAYS):
            raise UserError(f"no way {', '.join(sorted(unknown))}: choose among {', '.join(WAYS)}", 2)
        with surroundings((args.data_dir or home / "bench").absolute(), home, args.memory, args.deadline) as around:
            found = interleaved(around, ways, size, args.repeats, console)
    except (UserError, StackError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; everything that was started is stopped", file=sys.stderr)
        return 130
    console.print(table(found))
    complete = all(each.complete for each in found)
    if args.json:
        print(
            json.dumps({"windows_per_s": {each.engine: each.rate for each in found}, "complete": complete}), flush=True
        )
    return 0 if complete else 1


def interleaved(around: Surroundings, ways: Sequence[str], size: Size, repeats: int, console: Console) -> list[Summary]:
    """Each way once, then each again."""
    samples: dict[str, list[Sample]] = {way: [] for way in ways}
    failed = dict.fromkeys(ways, 0)
    for repeat in range(repeats):
        for way in ways:
            label = f"{repeat + 1}/{repeats} {way:14}"
            try:
                with console.status(f"{label} …"):
                    sample = run(around, way, size)
            except (EngineError, StackError, UserError) as error:
                failed[way] += 1
                console.print(f"{label} FAILED: {error}", highlight=False, soft_wrap=True)
                continue
            samples[way].append(sample)
            console.print(f"{label} {sample.rate:>10,.0f}/s {sample.check}", highlight=False, soft_wrap=True)
    return [summarise(way, samples[way], failed[way]) for way in ways]


def table(found: Sequence[Summary]) -> Table:
    """All the ways, the fastest first."""
    shown = Table(title="Columns between the JVM and Python", title_justify="left")
    for name in ("way", "windows/s", "lowest–highest", "CPU s/M windows", "peak MB", "complete", "what it is"):
        shown.add_column(name)
    for each in sorted(found, key=lambda summary: -(summary.rate or 0)):
        figures = ("", "", "", "")
        if each.runs:
            spread = f"{each.lowest:,.0f}–{each.highest:,.0f}"
            figures = (f"{each.rate:,.0f}", spread, f"{each.cpu_per_million:.1f}", f"{each.peak_mb:,.0f}")
        shown.add_row(each.engine, *figures, "yes" if each.complete else "NO", WAYS[each.engine].title)
    return shown


if __name__ == "__main__":
    sys.exit(main())
