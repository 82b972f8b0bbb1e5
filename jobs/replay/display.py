"""What a replay shows while it runs: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jobs.replay.producer import Progress, iso

PLAIN_EVERY_S = 5.0


def _rate(progress: Progress) -> float:
    return progress.readings / progress.seconds if progress.seconds else 0.0


@contextmanager
def shown(first_ms: int, last_ms: int, *, endless: bool, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A function to call with each progress; it writes to stderr, so that stdout stays a program's.

    Args:
        first_ms, last_ms: the period, for the share done and the time left.
        endless: there is no end to show (a loop).
        quiet: show nothing.
    """
    if quiet:
        yield lambda progress: None
    elif sys.stderr.isatty():
        with _bar(first_ms, last_ms, endless) as show:
            yield show
    else:
        yield _lines(first_ms, last_ms, endless)


def _share(progress: Progress, first_ms: int, last_ms: int) -> float:
    return min(1.0, max(0.0, (progress.event_ms - first_ms) / max(1, last_ms - first_ms)))


def _lines(first_ms: int, last_ms: int, endless: bool) -> Callable[[Progress], None]:
    due = time.monotonic() + PLAIN_EVERY_S

    def show(progress: Progress) -> None:
        nonlocal due
        if time.monotonic() < due:
            return
        due = time.monotonic() + PLAIN_EVERY_S
        share = _share(progress, first_ms, last_ms)
        left = f", about {progress.seconds * (1 - share) / share:.0f} s left" if share > 0 else ""
        done = "" if endless else f", {share:.0%}{left}"
        print(
            f"{progress.readings:,} readings, {_rate(progress):,.0f}/s, event time {iso(progress.event_ms)}{done}",
            file=sys.stderr,
            flush=True,
        )

    return show


@contextmanager
def _bar(first_ms: int, last_ms: int, endless: bool) -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = [
        TextColumn("{task.fields[readings]} readings"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}/s"),
        TextColumn("event time {task.fields[event]}"),
        TimeRemainingColumn(),
    ]
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("replay", total=None if endless else 1.0, readings="0", rate="0", event=iso(first_ms))

        def show(progress: Progress) -> None:
            done = 0.0 if endless else _share(progress, first_ms, last_ms)
            bar.update(
                task,
                completed=done,
                readings=f"{progress.readings:,}",
                rate=f"{_rate(progress):,.0f}",
                event=iso(progress.event_ms),
            )

        yield show
