"""Engines side by side on the same readings, in one run, interleaved: `make bench`, `python -m tests.bench`.

Workload W: one-minute means, 96 of them into an ONNX network. Workload R: 10-second registers, 15-minute energy,
forecasts of 24 hours by nine quantiles. Each result is checked. docs/benchmarks.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from infra.embedded.errors import StackError
from infra.embedded.options import PROJECT_ROOT, default_home
from jobs.errors import UserError
from tests.bench import realistic, report, workload_r, workload_w
from tests.bench.peers import Peers
from tests.bench.sample import EngineError, Sample, Summary, summarise
from tests.bench.surroundings import Surroundings, interrupt_on_termination, surroundings
from tests.bench.workload import Size

W_FULL, W_SMALL = Size(500, 1_000), Size(40, 60)
R_FULL, R_SMALL = realistic.Size(20_000, 2), realistic.Size(40, 2)
Run = Callable[[str, int], Sample]


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__.partition("\n")[0] if __doc__ else "")
    names = ",".join(engine.name for engine in workload_w.ENGINES)
    found.add_argument("--workloads", default="w,r", metavar="w,r", help="which of them (default both)")
    found.add_argument("--engines", default="", metavar="A,B", help=f"some of {names}; R has energyai and loop")
    found.add_argument(
        "--repeats", type=int, default=3, metavar="N", help="interleaved runs of each engine (default 3)"
    )
    found.add_argument("--small", action="store_true", help="a few readings: whether it runs, not how fast")
    found.add_argument("--meters", type=int, metavar="N", help=f"of W (default {W_FULL.meters})")
    found.add_argument("--minutes", type=int, metavar="N", help=f"of W (default {W_FULL.minutes:,})")
    found.add_argument("--r-meters", type=int, metavar="N", help=f"of R (default {R_FULL.meters:,})")
    found.add_argument("--quarters", type=int, metavar="N", help=f"quarter hours of R (default {R_FULL.quarters})")
    found.add_argument("--memory", default="2g", metavar="SIZE", help="Flink's TaskManager (default 2g)")
    found.add_argument("--deadline", type=float, default=1_200, metavar="S", help="a run that takes longer has failed")
    found.add_argument("--data-dir", type=Path, default=None, metavar="DIR", help="default .energyai/bench")
    found.add_argument("--json", action="store_true", help="end with one JSON line; the rest goes to standard error")
    found.add_argument("--write-docs", action="store_true", help="write tables and charts into docs/")
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Runs it; 0 when every engine gave every result."""
    options = parser()
    args = options.parse_args(argv)
    console = Console(stderr=args.json)
    interrupt_on_termination()
    home = Path(os.environ.get("ENERGYAI_HOME") or default_home()).absolute()
    try:
        chosen = selection(args)
        Peers.of(home).install(lambda text: report.say(console, text))
        folder = (args.data_dir or home / "bench").absolute()
        with surroundings(folder, home, args.memory, args.deadline) as around:
            found = measure(around, args, chosen, console)
    except (UserError, StackError, EngineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    except KeyboardInterrupt:
        print("interrupted; everything that was started is stopped", file=sys.stderr)
        return 130
    result = report.result(found)
    if args.write_docs:
        words = sys.argv[1:] if argv is None else argv
        report.write_docs(PROJECT_ROOT / "docs", found, f"make bench ARGS={shlex.quote(shlex.join(words))}")
    if args.json:
        print(json.dumps(result), flush=True)
    return 0 if result["complete"] else 1


def selection(args: argparse.Namespace) -> dict[str, list[str]]:
    """Engines of each workload that were asked for.

    Raises:
        UserError: a name that is none, or nothing to do.
    """
    known = {"w": [engine.name for engine in workload_w.ENGINES], "r": list(workload_r.ENGINES)}
    asked = [name for name in args.engines.split(",") if name]
    unknown = set(asked) - {name for names in known.values() for name in names}
    if unknown:
        raise UserError(f"no engine {', '.join(sorted(unknown))}: choose among {', '.join(known['w'])}", 2)
    workloads = [name for name in args.workloads.split(",") if name]
    if not workloads or set(workloads) - set(known):
        raise UserError(f"--workloads {args.workloads}: choose among {', '.join(known)}", 2)
    return {workload: [name for name in known[workload] if not asked or name in asked] for workload in workloads}


def measure(
    around: Surroundings, args: argparse.Namespace, chosen: Mapping[str, Sequence[str]], console: Console
) -> dict[str, report.Workload]:
    """All the runs of all the workloads; each workload's table as soon as it is there."""
    found = {}
    for name, measured in (("w", measure_w), ("r", measure_r)):
        if chosen.get(name):
            found[name] = measured(around, args, chosen[name], console)
            console.print(report.table(found[name]))
    return found


def measure_w(
    around: Surroundings, args: argparse.Namespace, chosen: Sequence[str], console: Console
) -> report.Workload:
    """Workload W."""
    size = W_SMALL if args.small else W_FULL
    size = Size(args.meters or size.meters, args.minutes or size.minutes)
    engines = {engine.name: engine for engine in workload_w.ENGINES}
    with workload_w.prepared(around, size, lambda text: report.say(console, text)) as job:
        summaries = interleaved(
            "W", chosen, args.repeats, lambda name, repeat: workload_w.run(around, engines[name], job, repeat), console
        )
    title = f"W: {size.meters:,} meters × {size.minutes:,} minutes"
    return report.Workload(title, "results", summaries, {engine.name: engine.title for engine in workload_w.ENGINES})


def measure_r(
    around: Surroundings, args: argparse.Namespace, chosen: Sequence[str], console: Console
) -> report.Workload:
    """Workload R."""
    size = R_SMALL if args.small else R_FULL
    size = realistic.Size(args.r_meters or size.meters, args.quarters or size.quarters)
    job = "energyai" in chosen
    with workload_r.prepared(around, size, job, lambda text: report.say(console, text)) as what:
        summaries = interleaved(
            "R", chosen, args.repeats, lambda name, repeat: workload_r.run(around, name, what, repeat), console
        )
    title = f"R: {size.meters:,} meters every 10 s, {size.quarters} quarter hours"
    return report.Workload(title, "readings", summaries, workload_r.ENGINES)


def interleaved(workload: str, engines: Sequence[str], repeats: int, run: Run, console: Console) -> list[Summary]:
    """Each engine once, then each again: what disturbs the machine for a while disturbs all alike."""
    samples: dict[str, list[Sample]] = {name: [] for name in engines}
    failed = dict.fromkeys(engines, 0)
    for repeat in range(repeats):
        for name in engines:
            label = f"{workload} {repeat + 1}/{repeats} {name:12}"
            try:
                with console.status(f"{label} …"):
                    sample = run(name, repeat)
            except (EngineError, StackError, UserError) as error:
                failed[name] += 1
                report.say(console, f"{label} FAILED: {error}")
                continue
            samples[name].append(sample)
            state = "complete" if sample.complete else f"INCOMPLETE: {sample.check}"
            report.say(console, f"{label} {sample.rate:>10,.0f}/s  CPU {sample.cpu_s:.1f} s  {state}")
    return [summarise(name, samples[name], failed[name]) for name in engines]


if __name__ == "__main__":
    sys.exit(main())
