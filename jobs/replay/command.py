"""`energyai replay SOURCE`: recorded or generated readings onto `meter.readings`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.commands._common import add_data_dir
from jobs.replay import display, fleet, formats, metrics, sources
from jobs.replay.account import Account
from jobs.replay.batch import ENERGY_UNITS, POWER_UNITS, Batch, ReplayError
from jobs.replay.csv_parquet import Options
from jobs.replay.fleet_faults import Faults
from jobs.replay.producer import TOPIC, Progress, Summary, send
from jobs.replay.timestamps import zone
from jobs.settings import Settings
from jobs.verify import command as verify

NAME = "replay"
HELP = "put a file or folder of readings (CSV, Parquet, DSMR, SenML …), or a generated fleet, on meter.readings"
DESCRIPTION = """\
Puts readings on the topic meter.readings, in event-time order over all meters.

SOURCE is one of
  FILE or FOLDER     a folder's files are merged by time; .gz is unpacked
                     .csv, .parquet
                     wide: a column of time stamps and a column a meter
                     long: columns meter_id, ts, value and, if there, register, kind, unit, interval_s,
                           quality, revision, seq, tenant_id
                     other formats, recognised by content (docs/formats.md): DSMR P1 telegrams, Shelly
                     NotifyStatus, Tasmota SENSOR, Green Button XML and CSV, SenML, DEBS 2014 plugs
  fleet:SEED:METERS:DAYS[:START]
                     generated meters, START as 2024-01-01 (the default); --faults for what goes wrong
Empty cells are missing, never zero."""
INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.description = DESCRIPTION
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("source", nargs="?", metavar="SOURCE", help="a file, a folder, or fleet:SEED:METERS:DAYS")
    parser.add_argument(
        "--speed",
        type=_speed,
        default=None,
        metavar="X",
        help="multiple of real time (3600: an hour a second), or max (default)",
    )
    parser.add_argument("--meters", type=_positive, metavar="N", help="the first N meters only")
    parser.add_argument("--columns", type=_names, default=(), metavar="A,B", help="these meters only, by name")
    parser.add_argument("--from", dest="start", type=_time, metavar="TIME", help="readings of this time and later")
    parser.add_argument("--to", dest="end", type=_time, metavar="TIME", help="readings before this time")
    parser.add_argument(
        "--kafka", metavar="HOST:PORT", help="bootstrap servers (default: ENERGYAI_KAFKA, then the embedded stack's)"
    )
    add_data_dir(parser)
    parser.add_argument("--topic", default=TOPIC, help=f"(default: {TOPIC})")
    parser.add_argument(
        "--kind", choices=("interval", "register", "instant"), help="what the values are (default: interval)"
    )
    parser.add_argument(
        "--unit", choices=(*ENERGY_UNITS, *POWER_UNITS), help="unit of the values (default: kWh; instant: kW)"
    )
    parser.add_argument(
        "--format",
        type=formats.name_of,
        default=formats.AUTO,
        choices=formats.NAMES,
        help="of the file (default: auto, by name and content)",
    )
    parser.add_argument("--tz", metavar="ZONE", help="zone of stamps without an offset (default: UTC; dsmr: Amsterdam)")
    parser.add_argument(
        "--gas-kwh-per-m3", type=_factor, metavar="X", help="energy of a m³ of gas (default: 9.769, i.e. 35.17 MJ)"
    )
    parser.add_argument(
        "--received", type=_time, metavar="TIME", help="senml: when it was received, for times relative to that"
    )
    parser.add_argument(
        "--timestamps",
        choices=("start", "end"),
        help="side of the interval that a stamp marks (default: wide start, long end)",
    )
    parser.add_argument(
        "--interval-s", type=_positive, metavar="S", help="length of an interval (default: the usual step)"
    )
    parser.add_argument(
        "--zero-is-missing", action="store_true", help="leave out zeros, for sources that write them for gaps"
    )
    parser.add_argument(
        "--faults", type=float, default=0.0, metavar="X", help="fleet: every fault, X times the usual rate"
    )
    parser.add_argument("--iso", action="store_true", help="write ts as ISO-8601 text, not as epoch milliseconds")
    parser.add_argument("--loop", action="store_true", help="again and again, each round moved on by whole weeks")
    parser.add_argument(
        "--metrics-port", type=_port, metavar="N", help="serve Prometheus metrics on 127.0.0.1:N (0: a free port)"
    )
    parser.add_argument("--json", action="store_true", help="the last line is one JSON object; no progress")
    verify.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Replays; 0 when all is sent, 130 after Ctrl-C.

    Raises:
        ReplayError: with one line for the user.
    """
    if args.verify:
        return verify.run(args)
    if args.source is None:
        raise ReplayError("nothing to replay: name a file, a folder or fleet:SEED:METERS:DAYS, or give --verify")
    source = open_source(args)
    bootstrap = bootstrap_servers(args)
    if not args.json:
        for note in (*source.notes, *(source.account.lines() if source.account else ())):
            print(note, file=sys.stderr)
    batches: Iterator[Batch] = sources.loop(source) if args.loop else source.batches()
    with (
        _stop_on_interrupt() as stop,
        metrics.served(args.metrics_port) as (measure, address),
        display.shown(source.first_ms, source.last_ms, endless=args.loop, quiet=args.json) as show,
    ):
        if address:
            print(f"metrics: {address}", file=sys.stderr)

        def on_progress(progress: Progress) -> None:
            measure(progress)
            show(progress)

        summary = send(batches, bootstrap, args.topic, args.speed, on_progress, iso_ts=args.iso, stop=stop)
    _report(summary, args.json, source.account)
    return INTERRUPTED if summary.interrupted else 0


def _report(summary: Summary, as_json: bool, account: Account | None) -> None:
    if as_json:
        print(json.dumps(summary.as_dict() | (account.as_dict() if account else {})))
        return
    rate = summary.readings / summary.seconds if summary.seconds else 0
    how = "interrupted; sent" if summary.interrupted else "sent"
    print(
        f"{how} {summary.readings:,} readings of {summary.meters:,} meters, {summary.first_ts} to {summary.last_ts}, "
        f"in {summary.seconds:.1f} s ({rate:,.0f}/s)"
        + (f"; {account.refused:,} records were unreadable, {account.skipped.total():,} skipped" if account else "")
    )


def open_source(args: argparse.Namespace) -> sources.Source:
    """What SOURCE names.

    Raises:
        ReplayError: it is not there, or cannot be read.
    """
    if args.source.startswith("fleet:"):
        return fleet.source(fleet_spec(args.source, args.faults))
    options = Options(
        kind=args.kind,
        unit=args.unit,
        tz=args.tz or "UTC",
        timestamps=args.timestamps,
        interval_s=args.interval_s,
        zero_is_missing=args.zero_is_missing,
        columns=args.columns,
        meters=args.meters,
        start_ms=args.start,
        end_ms=args.end,
    )
    if args.tz:
        zone(args.tz)
    adapter = formats.adapter_options(options, args.tz, args.gas_kwh_per_m3, args.received)
    return sources.open_path(Path(args.source), options, args.format, adapter)


def fleet_spec(text: str, faults: float) -> fleet.FleetSpec:
    """The fleet that `fleet:SEED:METERS:DAYS[:START]` names.

    Raises:
        ReplayError: it is written another way.
    """
    _, *parts = text.split(":", 4)
    try:
        seed, meters, days = (int(part) for part in parts[:3])
        start = _time(parts[3]) if len(parts) > 3 else fleet.DEFAULT_START_MS
    except (ValueError, argparse.ArgumentTypeError) as error:
        raise ReplayError(f"{text!r} names no fleet: want fleet:SEED:METERS:DAYS, such as fleet:7:100:30") from error
    return fleet.FleetSpec(seed, meters, start, days, faults=Faults.all(faults) if faults else Faults())


def bootstrap_servers(args: argparse.Namespace) -> str:
    """Where Kafka is: --kafka, ENERGYAI_KAFKA, or the running embedded stack's.

    Raises:
        ReplayError: none of them is there.
    """
    from infra.embedded import state

    settings = Settings.load(data_dir=args.data_dir)
    named = args.kafka or settings.kafka
    if named:
        return str(named)
    running = state.checked(state.read(settings.stack_options().state_file))
    if running.get("phase") != "up" or not running.get("kafka"):
        raise ReplayError(
            f"no stack runs in {settings.data_dir}: `energyai up` first, or set ENERGYAI_KAFKA or --kafka"
        )
    return str(running["kafka"])


@contextmanager
def _stop_on_interrupt() -> Iterator[threading.Event]:
    """The first Ctrl-C asks for an orderly end, the second is a KeyboardInterrupt."""
    stop = threading.Event()

    def ask(signum: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _speed(text: str) -> float | None:
    if text == "max":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no speed: want a number above 0, or max")
    return speed


def _factor(text: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no energy of a m³ in kWh: want a number above 0, such as 9.77")
    return factor


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: want 0 to 65535")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _time(text: str) -> int:
    """Epoch milliseconds of an ISO-8601 date or time; UTC unless it says otherwise."""
    import pandas as pd

    try:
        stamp = pd.Timestamp(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no ISO-8601 time") from error
    if stamp.tz is None:
        stamp = stamp.tz_localize("UTC")
    return int(stamp.timestamp() * 1000)
