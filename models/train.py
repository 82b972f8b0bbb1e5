"""Trains a forecaster, exports it to ONNX, judges the export, and writes it with its card.

python -m models.train --data DIR --out models/shipped
"""

from __future__ import annotations

import argparse
import hashlib
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from models import architectures, card
from models.augment import augmented
from models.contract import Architecture, Batch, Fit
from models.data_sources import CAMBRIDGE, CAMBRIDGE_FILE, load_cambridge, load_judged
from models.dataset import MeterSeries, cut, origins, shuffled, split_unseen
from models.evaluate import Score, cost_us, score_split, score_whole
from models.export import ExportError, export
from operators.features import Inputs, model_inputs
from operators.forecaster import Forecaster

MODEL = "forecaster.onnx"
BATCH_ROWS = 512
STEPS_PER_EPOCH = 500
PROBE_ROWS = 512
REPRODUCIBLE = (
    "The same seed, library versions and kind of processor give the same file, byte for byte (tested on a small run); "
    "another kind rounds otherwise, and only the figures agree."
)
LIBRARIES = ("torch", "numpy", "onnx", "onnxscript", "onnxruntime", "pandas")


def batches(series: MeterSeries, at: NDArray[np.int64], seed: int, steps: int, rows: int) -> Iterator[Batch]:
    """Random augmented windows as training batches; the same seed gives the same batches."""
    rng = np.random.default_rng(seed)
    for pairs in shuffled(at, rows, steps, rng):
        windows = augmented(cut(series, pairs), rng)
        inputs, scale = model_inputs(windows.history, windows.issued_at_ms, windows.utc_offset_s)
        used = scale > 0
        target = windows.target[used] / scale[used, None]
        yield Batch({name: value[used] for name, value in inputs.items()}, target.astype(np.float32))


def train(args: argparse.Namespace, console: Console) -> tuple[Path, list[Score]]:
    """Everything from data to files.

    Raises:
        FileNotFoundError, ValueError: data or arguments that cannot be used.
        ExportError: the export is not what was trained.
    """
    how = _how_long(args)
    series = load_cambridge(args.data)
    seen, unseen = split_unseen(len(series.names), args.seed)
    known = series.take(seen)
    at = origins(known, 0, known.step_of(args.until))
    if not len(at):
        raise ValueError(f"no training window before {args.until}: choose a later --until")
    console.print(
        f"{len(seen)} meters, {len(at):,} windows before {args.until}; {how.steps:,} steps of {args.rows} rows"
    )
    network, whole, minutes = _fitted(args, how, known, at, console)
    exported = export(network, _probe(known, at, args.seed))
    with TemporaryDirectory() as stage:
        # All files appear together, after the last thing that can fail or be interrupted.
        path = Path(stage) / MODEL
        path.write_bytes(exported.content)
        forecaster = Forecaster.load(path)
        scores = score_split(forecaster, series, seen, unseen, args.judge_year)
        for folder in args.also:
            scores += [score_whole(forecaster, other, group) for group, other in load_judged(folder)]
        training = {"windows": len(at), "whole": whole, "minutes": round(minutes, 1)}
        facts = {
            "model_id": exported.model_id,
            "sha256": forecaster.sha256,
            "bytes": len(exported.content),
            "opset": exported.opset,
            "export_difference": exported.difference,
            "cost_us_per_forecast": {f"batch_{rows}": round(cost_us(forecaster, rows), 1) for rows in (64, 4096)},
            "data": _data_facts(args, series, seen, unseen),
            "training": {**_training_facts(args, how), **training},
            "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
        }
        card.write(path.parent, facts, scores)
        args.out.mkdir(parents=True, exist_ok=True)
        for file in sorted(path.parent.iterdir()):
            shutil.copyfile(file, args.out / file.name)
    return args.out / MODEL, scores


def _how_long(args: argparse.Namespace) -> Fit:
    steps = round(args.epochs * args.steps_per_epoch)
    if steps < 1:
        raise ValueError("--epochs and --steps-per-epoch leave nothing to train: make them larger")
    if args.limit_minutes is None:
        return Fit(args.seed, steps, args.device)
    if args.limit_minutes <= 0:
        raise ValueError("--limit-minutes must be more than 0")
    return Fit(args.seed, steps, args.device, args.limit_minutes * 60)


def _fitted(
    args: argparse.Namespace, how: Fit, known: MeterSeries, at: NDArray[np.int64], console: Console
) -> tuple[Architecture, bool, float]:
    """The trained network, whether all of the training ran, and the minutes that it took."""
    network = architectures.load(args.architecture)
    started = time.monotonic()
    with _progress(console) as bar:
        task = bar.add_task("training", total=1.0, loss=0.0)
        whole = network.fit(
            batches(known, at, how.seed, how.steps, args.rows),
            how,
            lambda share, loss: bar.update(task, completed=share, loss=loss),
        )
    return network, whole, (time.monotonic() - started) / 60


def _probe(known: MeterSeries, at: NDArray[np.int64], seed: int) -> Inputs:
    """Real inputs to compare the export on."""
    windows = cut(known, at[np.random.default_rng(seed).integers(0, len(at), PROBE_ROWS)])
    return model_inputs(windows.history, windows.issued_at_ms, windows.utc_offset_s)[0]


def _training_facts(args: argparse.Namespace, how: Fit) -> dict[str, Any]:
    return {
        "architecture": args.architecture,
        "seed": how.seed,
        "steps": how.steps,
        "rows": args.rows,
        "command": _command(args),
        "reproducible": REPRODUCIBLE,
    }


def main(argv: list[str] | None = None) -> int:
    """The command line; exit code 2 on bad data or arguments, 130 when interrupted (nothing is written)."""
    args = _parser().parse_args(argv)
    console = Console(stderr=True)
    try:
        path, scores = train(args, console)
    except (ExportError, OSError, ValueError) as error:
        print(f"train: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("train: interrupted; nothing was written", file=sys.stderr)
        return 130
    for score in scores:
        print(f"{score.group}: NRMSE {score.nrmse['model']:.2f}%, {score.ratio:.3f} of mean(day, week)")
    print(f"written: {path}, with {card.CARD} and {card.READABLE}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.train", description="Train, export and judge a forecaster.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the Cambridge Estates archive")
    parser.add_argument("--also", type=Path, action="append", default=[], help="folder of other series, judged only")
    parser.add_argument("--out", type=Path, required=True, help="folder for the model and its card")
    parser.add_argument("--architecture", choices=architectures.names(), default="mlp")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the batches and the weights")
    parser.add_argument("--epochs", type=float, default=16, help="of --steps-per-epoch batches each")
    parser.add_argument("--steps-per-epoch", type=int, default=STEPS_PER_EPOCH)
    parser.add_argument("--rows", type=int, default=BATCH_ROWS, help="of a batch")
    parser.add_argument("--device", default="cpu", help="a torch device")
    parser.add_argument("--limit-minutes", type=float, help="end training in good order by then")
    parser.add_argument("--until", type=int, default=2020, help="first year that is not trained on")
    parser.add_argument("--judge-year", type=int, default=2021)
    return parser


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("loss {task.fields[loss]:.4f}"))
    return Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal
    )


def _data_facts(
    args: argparse.Namespace, series: MeterSeries, seen: list[int], unseen: list[int]
) -> dict[str, str | int | list[str]]:
    return {
        **CAMBRIDGE,
        "file_sha256": hashlib.sha256((args.data / CAMBRIDGE_FILE).read_bytes()).hexdigest(),
        "meters": len(series.names),
        "meters_seen": len(seen),
        "unseen": [series.names[i] for i in unseen],
        "train_until": args.until,
        "judged_year": args.judge_year,
    }


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


if __name__ == "__main__":
    raise SystemExit(main())
