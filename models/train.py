"""Trains a forecaster, exports it to ONNX, judges the export, and writes it with its card.

`energyai train` does it on any readings. What this module's own command does is the shipped model:
python -m models.train --data DIR --out models/shipped
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from models import architectures, card, importance
from models.contract import Architecture, Fit
from models.data_sources import CAMBRIDGE, CAMBRIDGE_FILE, load_cambridge, load_judged
from models.dataset import MeterSeries
from models.drawing import HIDDEN_SHARE
from models.estate import Estate, Facts, InMemory
from models.evaluate import Score, cost_us, score_whole
from models.export import Exported, ExportError, export
from operators.forecaster import Forecaster

MODEL = "forecaster.onnx"
BATCH_ROWS = 512
UNSEEN_SHARE = 0.2
STEPS_PER_EPOCH = 500
REPRODUCIBLE = (
    "The same seed, library versions and kind of processor give the same file, byte for byte (tested on a small run); "
    "another kind rounds otherwise, and only the figures agree."
)
LIBRARIES = (
    *("torch", "lightgbm", "scikit-learn", "optuna", "pyspark", "numpy", "onnx", "onnxscript", "onnxruntime", "pandas"),
    "holidays",
)


@dataclass(frozen=True)
class Job:
    """One training, whole: the same job gives the same model."""

    estate: Estate
    data: dict[str, Any]
    """For the card: `name`, and if there `doi`, `licence`, `notes`, `limits`."""
    until_ms: int
    """No training target at or after this, epoch ms UTC."""
    judge_ms: tuple[int, int]
    """Period that it is judged on."""
    judge_label: str
    fit: Fit
    command: str
    """What makes it again."""
    architecture: str = "mlp"
    rows: int = BATCH_ROWS
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the architecture, where they are not its own: what a search found."""
    trials: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    """Of that search."""
    also: Sequence[tuple[str, MeterSeries]] = field(default_factory=tuple)
    """Other series, judged only."""


def train(job: Job, out: Path, console: Console) -> tuple[Path, list[Score]]:
    """Everything from data to files.

    Raises:
        ValueError: data or settings that cannot be used.
        ExportError: the export is not what was trained.
    """
    known = job.estate.facts()
    console.print(
        f"{known.meters - len(known.unseen)} meters, {known.windows:,} windows before {_day(job.until_ms)}; "
        f"{job.fit.steps:,} steps of {job.rows} rows"
    )
    network, whole, minutes = _fitted(job, console)
    exported = export(network, job.estate.probe(job.fit.seed), job.estate.reference())
    with TemporaryDirectory() as stage:
        # All files appear together, after the last thing that can fail or be interrupted.
        path = Path(stage) / MODEL
        path.write_bytes(exported.content)
        forecaster = Forecaster.load(path)
        console.print("judging")
        scores = job.estate.scores(forecaster, exported.content, job.judge_label, *job.judge_ms)
        scores += [score for name, other in job.also if (score := score_whole(forecaster, other, name)) is not None]
        facts = _facts(job, known, network, forecaster, exported)
        facts["training"] |= {"windows": known.windows, "whole": whole, "minutes": round(minutes, 1)}
        card.write(path.parent, facts, scores)
        out.mkdir(parents=True, exist_ok=True)
        for file in sorted(path.parent.iterdir()):
            shutil.copyfile(file, out / file.name)
    return out / MODEL, scores


def _fitted(job: Job, console: Console) -> tuple[Architecture, bool, float]:
    """The trained model, whether all of the training ran, and the minutes that it took."""
    network = architectures.load(job.architecture, **job.settings)
    started = time.monotonic()
    with _progress(console) as bar:
        task = bar.add_task("training", total=1.0, loss=0.0)
        report = _tenths(console)

        def progress(share: float, loss: float) -> None:
            bar.update(task, completed=share, loss=loss)
            report(share, loss)

        batches = job.estate.batches(job.fit.seed, job.fit.steps, job.rows)
        whole = network.fit(batches, job.fit, progress)
    return network, whole, (time.monotonic() - started) / 60


def _tenths(console: Console) -> Callable[[float, float], None]:
    """A line each tenth where no bar can be drawn."""
    told = 0

    def report(share: float, loss: float) -> None:
        nonlocal told
        if not console.is_terminal and int(share * 10) > told:
            told = int(share * 10)
            console.print(f"training: {told * 10}%, loss {loss:.4f}")

    return report


def _progress(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f}% loss {task.fields[loss]:.4f}"),
    )
    return Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal
    )


def _facts(job: Job, known: Facts, network: Architecture, forecaster: Forecaster, exported: Exported) -> dict[str, Any]:
    """The card without its scores."""
    data = {
        **job.data,
        "meters": known.meters,
        "meters_seen": known.meters - len(known.unseen),
        "unseen": list(known.unseen),
        "from": _day(known.first_ms),
        "train_until": _day(job.until_ms),
        "judged": job.judge_label,
    }
    return {
        "model_id": exported.model_id,
        "feature_set": forecaster.feature_set,
        "sha256": forecaster.sha256,
        "bytes": len(exported.content),
        "opset": exported.opset,
        "export_difference": exported.difference,
        "export_flips": exported.flips,
        "cost_us_per_forecast": {f"batch_{rows}": round(cost_us(forecaster, rows), 1) for rows in (64, 4096)},
        "importance": _importance(job, network),
        "data": data,
        "training": {
            "architecture": job.architecture,
            "seed": job.fit.seed,
            "steps": job.fit.steps,
            "rows": job.rows,
            "settings": dict(job.settings),
            "trials": list(job.trials),
            "hidden": HIDDEN_SHARE,
            "command": job.command,
            "reproducible": REPRODUCIBLE,
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
    }


def _importance(job: Job, network: Architecture) -> dict[str, float]:
    """On windows of the period that the model is judged on."""
    found = job.estate.judged(*job.judge_ms)
    return {} if found is None else importance.permutation(network.predict, *found, job.fit.seed)


def how_long(epochs: float, steps_per_epoch: int, limit_minutes: float | None, seed: int, device: str) -> Fit:
    """Length of a training from the options of a command line.

    Raises:
        ValueError: nothing to train, or no time.
    """
    steps = round(epochs * steps_per_epoch)
    if steps < 1:
        raise ValueError("--epochs and --steps-per-epoch leave nothing to train: make them larger")
    if limit_minutes is None:
        return Fit(seed, steps, device)
    if limit_minutes <= 0:
        raise ValueError("--limit-minutes must be more than 0")
    return Fit(seed, steps, device, limit_minutes * 60)


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of a training, for this module's command line and for `energyai train`."""
    parser.add_argument("--architecture", choices=architectures.names(), default="mlp", help="(default: mlp)")
    parser.add_argument("--seed", type=int, default=0, help="of the split into seen and unseen meters, and of training")
    parser.add_argument("--epochs", type=float, default=32, help="of --steps-per-epoch batches (default: 32)")
    parser.add_argument("--steps-per-epoch", type=int, default=STEPS_PER_EPOCH, help=f"(default: {STEPS_PER_EPOCH})")
    parser.add_argument("--rows", type=int, default=BATCH_ROWS, help=f"of a batch (default: {BATCH_ROWS})")
    parser.add_argument("--limit-minutes", type=float, help="stop in good order by then; the result depends on speed")
    parser.add_argument("--device", default="cpu", help="torch's name (default: cpu)")


def report(path: Path, scores: Sequence[Score]) -> None:
    """What a training says at its end."""
    for score in scores:
        print(f"{score.group}: NRMSE {score.nrmse['model']:.2f}%, {score.ratio:.3f} of mean(day, week)")
    print(f"written: {path}, with {card.CARD} and {card.READABLE}")


def main(argv: list[str] | None = None) -> int:
    """The shipped model's command line; exit code 2 on bad data or arguments, 130 when interrupted."""
    args = _parser().parse_args(argv)
    try:
        path, scores = train(_shipped_job(args), args.out, Console(stderr=True))
    except (ExportError, OSError, ValueError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("train: interrupted; nothing was written", file=sys.stderr)
        return 130
    report(path, scores)
    return 0


def _shipped_job(args: argparse.Namespace) -> Job:
    fit = how_long(args.epochs, args.steps_per_epoch, args.limit_minutes, args.seed, args.device)
    series = load_cambridge(args.data)
    checksum = hashlib.sha256((args.data / CAMBRIDGE_FILE).read_bytes()).hexdigest()
    return Job(
        InMemory.of([series], _year_ms(args.until), args.seed, UNSEEN_SHARE),
        {**CAMBRIDGE, "file_sha256": checksum},
        _year_ms(args.until),
        (_year_ms(args.judge_year), _year_ms(args.judge_year + 1)),
        str(args.judge_year),
        fit,
        _command(args),
        args.architecture,
        args.rows,
        also=[pair for folder in args.also for pair in load_judged(folder)],
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.train", description="Train, export and judge a forecaster.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the Cambridge Estates archive")
    parser.add_argument("--also", type=Path, action="append", default=[], help="folder of other series, judged only")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model and its card")
    parser.add_argument("--until", type=int, default=2020, help="train on years before this one (default: 2020)")
    parser.add_argument("--judge-year", type=int, default=2021, help="(default: 2021)")
    add_options(parser)
    return parser


def _command(args: argparse.Namespace) -> str:
    """The command that makes the model again, with folders by name only: where they lie is the reader's matter."""
    parser = _parser()
    words = ["python -m models.train", f"--data {args.data.name}"]
    words += [f"--also {folder.name}" for folder in args.also]
    for name, value in vars(args).items():
        if name not in {"data", "also"} and value != parser.get_default(name):
            words.append(
                f"--{name.replace('_', '-')} {value.name if isinstance(value, Path) and value.is_absolute() else value}"
            )
    return " ".join(words)


def _year_ms(year: int) -> int:
    return int(datetime(year, 1, 1, tzinfo=UTC).timestamp() * 1000)


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")


if __name__ == "__main__":
    raise SystemExit(main())
