"""What `train`, `backtest` and `predict` share: which past energy, from files or from the database."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.commands._common import add_data_dir
from jobs.errors import UserError
from jobs.settings import Settings, addresses

if TYPE_CHECKING:
    from models.dataset import MeterSeries
    from operators.forecaster import Forecaster
    from operators.weather import Weather


def add_series(parser: argparse.ArgumentParser) -> None:
    """`SOURCE` and how it is read; without it the database."""
    parser.add_argument(
        "source",
        nargs="?",
        type=Path,
        metavar="SOURCE",
        help="a CSV or Parquet file or folder, as `energyai replay` reads it (default: the database)",
    )
    parser.add_argument(
        "--database-url", metavar="URL", help="libpq URL (default: ENERGYAI_DATABASE_URL, or the stack's)"
    )
    parser.add_argument("--step", choices=("hour", "quarter"), default="hour", help="database: step (default: hour)")
    parser.add_argument("--columns", type=_names, default=(), metavar="A,B", help="these meters only, by name")
    parser.add_argument("--tz", default="UTC", metavar="ZONE", help="files: where the meters are (default: not known)")
    parser.add_argument(
        "--timestamps", choices=("start", "end"), help="files: side of the interval that a stamp marks (as in replay)"
    )
    parser.add_argument("--unit", choices=("Wh", "kWh", "MWh"), help="files: unit of the values (default: kWh)")
    parser.add_argument("--zero-is-missing", action="store_true", help="files: zeros are gaps")
    parser.add_argument(
        "--weather",
        type=Path,
        metavar="FILE",
        help="files: hourly weather with its times of issue, CSV or Parquet (the database: its table weather)",
    )
    add_data_dir(parser)


def load_series(args: argparse.Namespace) -> list[MeterSeries]:
    """The energy that the arguments name.

    Raises:
        UserError: it cannot be read, with one line that says what to do.
    """
    from jobs.backtest import series, weather
    from jobs.replay.csv_parquet import Options

    if args.source is not None:
        options = Options(
            unit=args.unit,
            tz=args.tz,
            timestamps=args.timestamps,
            zero_is_missing=args.zero_is_missing,
            columns=tuple(args.columns),
        )
        sets = series.from_files(args.source, options, args.tz)
    else:
        step_s = 3600 if args.step == "hour" else 900
        sets = series.from_database(database_url(args), step_s, args.columns)
    series.check_length(sets)
    return weather.attached(sets, load_weather(args))


def load_weather(args: argparse.Namespace) -> Weather | None:
    """The weather that belongs to the energy that the arguments name; None: there is none.

    Raises:
        UserError: it cannot be read.
    """
    from jobs.backtest import weather

    if args.weather is not None:
        return weather.from_file(args.weather)
    in_files = args.source is not None or getattr(args, "source_uri", None) is not None
    return None if in_files else weather.from_database(database_url(args))


def database_url(args: argparse.Namespace) -> str:
    """`--database-url`, or the database of the settings or of the running stack."""
    if args.database_url:
        return str(args.database_url)
    settings = Settings.load(data_dir=args.data_dir)
    return settings.database_url or addresses(settings).database_url


def moment(text: str) -> int:
    """A date or an ISO-8601 time as epoch ms; without an offset it is UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date or ISO-8601 time, such as 2021-01-31") from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return int(found.timestamp() * 1000)


def load_model(path: Path | None) -> Forecaster:
    """The named model, or the shipped one.

    Raises:
        ModelError: it cannot be used.
    """
    from operators.forecaster import SHIPPED_MODEL, Forecaster, shipped_sha256

    return Forecaster.load(SHIPPED_MODEL, shipped_sha256()) if path is None else Forecaster.load(path)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise argparse.ArgumentTypeError("name at least one meter")
    return names


def unwritable(path: Path, error: OSError) -> UserError:
    """One line for a file that could not be written."""
    return UserError(f"{path} cannot be written ({error.strerror}): choose another place")
