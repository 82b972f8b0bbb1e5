"""`energyai train`: a forecaster from past readings, exported, judged, and written with its card."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.commands._common import add_json, print_json
from jobs.commands._series import add_series, moment
from jobs.errors import UserError
from jobs.settings import Settings

if TYPE_CHECKING:
    from jobs.models.registry import Version

NAME = "train"
HELP = "train a forecaster"
EPILOG = """\
Trains on the readings before --until, exports to ONNX, holds the export against what was trained, judges it on the
time after, on seen and on unseen meters apart, and writes model, card.json and MODEL_CARD.md to --out. Windows are
made and judged on Spark, here or on a cluster (spark-submit jobs/retrain.py, with the same arguments); --in-memory does
the same without it and gives the same model.

  energyai train data.parquet --tz Europe/London --out my-model
  energyai train --source s3a://bucket/energy --out my-model --search 10
  energyai train --database-url URL --architecture lightgbm --out my-model
  energyai train data.parquet --out my-model --register        # and then: energyai models promote VERSION

It needs the training packages: make setup-test."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of `train`."""
    parser.epilog = EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add_series(parser)
    parser.add_argument(
        "--source",
        dest="source_uri",
        metavar="URI",
        help="a Parquet data set that Spark reads itself (folder, s3a://…) with meter_id, bucket, kwh",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the model and its card")
    parser.add_argument(
        "--until", type=moment, metavar="TIME", help="train before (default: the first 80%% of the period)"
    )
    parser.add_argument("--judge-from", type=moment, metavar="TIME", help="judge after (default: --until)")
    parser.add_argument("--judge-to", type=moment, metavar="TIME", help="judge before (default: the end)")
    parser.add_argument(
        "--unseen-share", type=float, default=0.2, metavar="X", help="meters kept out of training (default: 0.2)"
    )
    parser.add_argument("--name", help="of the data, for the card (default: the source's)")
    parser.add_argument(
        "--register",
        nargs="?",
        const="forecaster",
        metavar="MODEL",
        help="add it to the registry as MODEL's next version, signed (default MODEL: forecaster)",
    )
    parser.add_argument(
        "--search", type=int, default=0, metavar="N", help="try N settings of the architecture first (default: none)"
    )
    parser.add_argument(
        "--master", default="local[*]", help="Spark's, where spark-submit does not say it (default: local[*])"
    )
    parser.add_argument("--memory", default="2g", help="of Spark's driver, where this starts it (default: 2g)")
    parser.add_argument("--in-memory", action="store_true", help="without Spark: all meters in this process")
    add_json(parser)
    _training().add_options(parser)


def run(args: argparse.Namespace) -> int:
    """Trains; 0 when the files are written.

    Raises:
        UserError: with one line for the user; nothing was written, or with --register, it was and is not registered.
    """
    training = _training()
    from rich.console import Console

    from jobs.retrain import retrain
    from models.export import ExportError

    if not 0 <= args.unseen_share < 1:
        raise UserError("--unseen-share must be at least 0 and below 1", 2)
    if args.search < 0:
        raise UserError("--search must be 0 or more", 2)
    try:
        path, scores = retrain(args, _command(args), Console(stderr=True, quiet=args.json))
    except (ExportError, OSError, ValueError) as error:
        raise UserError(str(error), 2) from error
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return 130
    version = _registered(args, Path(path))
    if args.json:
        fields = {"model": path, "card": str(Path(path).with_name("card.json")), "scores": [vars(s) for s in scores]}
        print_json(fields | ({} if version is None else {"version": version.version, "uri": version.uri}))
        return 0
    training.report(Path(path), scores)
    if version is not None:
        print(f"registered: {version.model_name} version {version.version}, {version.uri}")
    return 0


def _registered(args: argparse.Namespace, path: Path) -> Version | None:
    """The version that the model has become; None where nobody asked for one."""
    if args.register is None:
        return None
    from jobs.models.registering import register

    return register(path, args.register, Settings.load(data_dir=args.data_dir))


def _command(args: argparse.Namespace) -> str:
    """What makes the model again; files by name only: where they lie, and passwords, are the reader's matter."""
    from jobs.retrain import day

    words = ["energyai train"]
    if args.source is not None:
        words.append(args.source.name)
    if args.source_uri is not None:
        words.append(f"--source {args.source_uri.rstrip('/').rsplit('/', 1)[-1]}")
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    for name, value in vars(args).items():
        if name in SKIPPED or value == parser.get_default(name):
            continue
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif name in TIMES:
            words.append(f"{option} {day(value)}")
        elif isinstance(value, tuple):
            words.append(f"{option} {','.join(value)}")
        else:
            words.append(f"{option} {value.name if isinstance(value, Path) else value}")
    return " ".join(words)


SKIPPED = {
    "source",
    "source_uri",
    "database_url",
    "data_dir",
    "json",
    "command",
    "run",
    "master",
    "memory",
    "in_memory",
    "register",
}
TIMES = {"until", "judge_from", "judge_to"}


def _training():  # type: ignore[no-untyped-def]
    """The module that trains.

    Raises:
        UserError: its packages are not there.
    """
    try:
        from models import train
    except ModuleNotFoundError as error:
        raise UserError(f"training needs the package {error.name}: make setup-test installs it", 2) from error
    return train
