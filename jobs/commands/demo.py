"""`energyai demo`: the main job on real meters, on the embedded stack (or the one that the environment names)."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from infra.embedded.stack import Stack
from jobs import demo_counts
from jobs.commands._common import add_data_dir, add_json, print_json
from jobs.commands.submit import wait
from jobs.commands.up import Progress as StackProgress
from jobs.demo_display import Display
from jobs.errors import UserError
from jobs.flink_rest import FlinkRest
from jobs.settings import Addresses, Settings, addresses
from jobs.submission import submit

NAME = "demo"
HELP = "the main job on real meters, with a live display"
SPEED = 20_000.0
JOBS = ("ingest", "forecast", "detect", "control", "alerts")
STAGES = (("ingest", "forecast", "detect"), ("control",), ("control_record", "alerts"))
"""Of a run to the end: what reads the topics that others write begins when these are complete."""
TOPIC = "meter.readings"
NAMES = {f"energyai-{name.replace('_', '-')}" for name in {*JOBS, *(name for stage in STAGES for name in stage)}}
OPTIONS = ("--shards", "1")
"""A shard costs some milliseconds a quarter hour, however few its meters."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `demo`."""
    add_data_dir(parser)
    add_json(parser)
    parser.add_argument(
        "--until-complete", action="store_true", help="read all to the end, then stop everything and end"
    )
    parser.add_argument(
        "--speed",
        type=float,
        default=SPEED,
        metavar="X",
        help=f"multiple of real time (default {SPEED:,.0f}: 7 weeks in 4 minutes)",
    )
    parser.add_argument(
        "--sim-meters", type=int, default=10, metavar="N", help="generated meters beside the real ones (default 10)"
    )
    parser.add_argument(
        "--seconds", type=float, metavar="S", help="end by itself after so long (default: go on until Ctrl-C)"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the demo; the stack is stopped at the end, whatever happens, and its data stays."""
    from jobs.replay import demo, samples

    settings = Settings.load(data_dir=args.data_dir)
    parts = settings.home / "parts"
    if samples.cached(parts) is None:
        _say(f"fetching the demo's readings, {samples.DOWNLOAD_MB} MB …")
    source = demo.source(parts, args.sim_meters)
    begun = time.monotonic()
    stack = Stack(settings.stack_options())
    _say(f"starting the stack in {settings.data_dir} …")
    # A terminal that is closed, or a supervisor's TERM, must not leave the stack behind: as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.default_int_handler)
    with _running(stack):
        where = addresses(settings)
        _say(f"stack up after {time.monotonic() - begun:.0f} s")
        _cancel_all(FlinkRest(where.flink_url))  # of a demo that was killed
        _configure(where, demo.site(), demo.meters(args.sim_meters))
        for note in source.notes:
            _say(note)
        if args.until_complete:
            return _to_the_end(args, settings, where, source)
        return _live(args, settings, where, source)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class _running:  # noqa: N801 - reads as a verb
    """The stack, up; down at the end, if it was this that started it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._ours = stack.status()["phase"] != "up"

    def __enter__(self) -> None:
        self.stack.up(StackProgress())

    def __exit__(self, *_: object) -> None:
        if self._ours:
            _say("stopping the stack; its data stays …")
            # A job that runs when the cluster stops would go on at its next start.
            with suppress(UserError):
                _cancel_all(FlinkRest(self.stack.status()["flink_url"] or ""))
            self.stack.down()


def _cancel_all(flink: FlinkRest) -> None:
    for job in flink.running():
        if job["name"] in NAMES:
            flink.cancel(job["jid"])


def _configure(where: Addresses, site: str, meters: list[dict[str, object]]) -> None:
    """Makes the site known, and the meters: their zone, and where their registers roll over."""
    from jobs.config.apply import apply, apply_meters
    from jobs.config.schema import parse

    apply(where, parse(site, "demo"))
    apply_meters(where.kafka, where.database_url, meters)


def _to_the_end(args: argparse.Namespace, settings: Settings, where: Addresses, source: Any) -> int:
    from jobs.replay import display
    from jobs.replay.producer import send

    with display.shown(source.first_ms, source.last_ms, endless=False, quiet=args.json) as show:
        sent = send(source.batches(), where.kafka, TOPIC, None, show)
    _say(f"{sent.readings:,} readings sent in {sent.seconds:.0f} s; the jobs read them to the end …")
    with Display(where, quiet=args.json) as shown, _every(5.0, lambda: shown.update(sent.readings, sent.last_ts or "")):
        for jobs in STAGES:
            wait(FlinkRest(where.flink_url), submit(settings, where, jobs, [*OPTIONS, "--until-complete"]))
    _summary(args, where)
    return 0


def _live(args: argparse.Namespace, settings: Settings, where: Addresses, source: Any) -> int:
    from jobs.replay.producer import Progress, iso, send

    _say("submitting the jobs …")
    flink = FlinkRest(where.flink_url)
    ids = submit(settings, where, JOBS, OPTIONS)
    stop = threading.Event()
    progress = [Progress(0, source.first_ms, 0.0)]
    pool = ThreadPoolExecutor(1, "replay")
    replay = pool.submit(
        send, source.batches(), where.kafka, TOPIC, args.speed, lambda p: progress.__setitem__(0, p), stop=stop
    )
    deadline = time.monotonic() + args.seconds if args.seconds else float("inf")
    try:
        with _delivering(settings), Display(where, quiet=args.json) as shown:
            while time.monotonic() < deadline:
                now = progress[0]
                shown.update(now.readings, iso(now.event_ms) or "", replaying=not replay.done())
                if replay.done():
                    replay.result()  # raises what went wrong there
                time.sleep(1.0)
    except KeyboardInterrupt:
        _say("")
    finally:
        stop.set()
        pool.shutdown()
        for job_id in ids.values():
            flink.cancel_if_running(job_id)
    _summary(args, where)
    return 0


@contextmanager
def _delivering(settings: Settings) -> Iterator[None]:
    """Tells those who are configured as receivers (`energyai config apply`) of alerts; at first nobody is."""
    command = [sys.executable, "-m", "jobs.cli", "alerts", "deliver", "--data-dir", str(settings.data_dir)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()


class _every:  # noqa: N801 - reads as an adverb
    """Calls a function again and again beside the body, until it is left."""

    def __init__(self, seconds: float, call: Callable[[], None]) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(seconds, call))

    def _run(self, seconds: float, call: Callable[[], None]) -> None:
        while not self._stop.wait(seconds):
            call()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def _summary(args: argparse.Namespace, where: Addresses) -> None:
    counts = demo_counts.stored(where.database_url)
    total = demo_counts.records(where.kafka, TOPIC)
    rows = dict(counts.rows)
    result: dict[str, Any] = {
        "readings_in": total,
        "readings_stored": rows.pop("readings_stored"),
        "readings_rejected": rows.pop("readings_rejected"),
    }
    result["readings_repeated"] = total - result["readings_stored"] - result["readings_rejected"]
    result |= rows
    every = demo_counts.accuracy(where.database_url)
    result |= {"nrmse": every["nrmse"], "nrmse_baselines": every["nrmse_baselines"]}
    real = demo_counts.accuracy(where.database_url, "real-")
    if args.json:
        print_json({**result, "nrmse_real": real["nrmse"], "nrmse_real_baselines": real["nrmse_baselines"]})
        return
    for name, value in result.items():
        if isinstance(value, int):
            print(f"{name.replace('_', ' '):20} {value:>12,}")
    print("\nerror of the median meter (NRMSE: root mean square error, as a share of the mean load)")
    for label, found in (("real homes", real), ("all meters", every)):
        if found["nrmse"] is not None:
            baselines = ", ".join(
                f"{name.replace('_', ' ')} {value}" for name, value in found["nrmse_baselines"].items()
            )
            print(f"  {label}: forecast {found['nrmse']}; {baselines}")
    data_dir = f" --data-dir {args.data_dir}" if args.data_dir else ""
    print(f"\nlook again: energyai up{data_dir}, then psql with the address that it prints")
