"""Retraining: past energy → windows, made on Spark → a trained network → ONNX, judged on Spark → model and card.

`energyai train` runs it on this machine; a cluster runs the same file:

    spark-submit --master … jobs/retrain.py --source s3a://… --out my-model
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jobs.commands._series import database_url, load_series, load_weather
from jobs.errors import UserError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from rich.console import Console

    from models.estate import Estate
    from models.evaluate import Score
    from models.train import Job

TRAINED_SHARE = 0.8


def retrain(args: argparse.Namespace, command: str, console: Console) -> tuple[str, list[Score]]:
    """All of it.

    Args:
        args: of `energyai train`.
        command: what makes the model again, for its card.
        console: where progress is told.

    Returns:
        The model's file and its figures.

    Raises:
        UserError: data that cannot be read or used.
        ValueError, ExportError: as `models.train.train`.
    """
    from models import train

    fit = train.how_long(args.epochs, args.steps_per_epoch, args.limit_minutes, args.seed, args.device)
    with _estate(args, console) as (estate, period):
        job = _job(args, estate, period, fit, command, console)
        path, scores = train.train(job, args.out, console)
    return str(path), scores


@contextmanager
def _on_spark(args: argparse.Namespace) -> Iterator[SparkSession]:
    """A session; what fails on it is told in one line."""
    from jobs.retraining.session import session, told

    # Under spark-submit the master is its matter.
    with session(None if "PYSPARK_GATEWAY_PORT" in os.environ else args.master, args.memory) as spark:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkException

        try:
            yield spark
        except (PySparkException, Py4JError) as error:
            raise UserError(f"Spark: {told(error)}") from error


@contextmanager
def _estate(args: argparse.Namespace, console: Console) -> Iterator[tuple[Estate, tuple[int, int, int]]]:
    """The meters; and the first moment, the last one, and the one that training ends before: epoch ms, UTC."""
    from models.estate import InMemory

    if args.in_memory:
        if args.source_uri is not None:
            raise UserError("--source is read by Spark: leave --in-memory out, or name a file without --source", 2)
        sets = load_series(args)
        first = min(series.start_ms for series in sets)
        last = max(series.start_ms + series.kwh.shape[1] * series.step_s * 1000 for series in sets)
        until = _until(args, first, last)
        yield InMemory.of(sets, until, args.seed, args.unseen_share), (first, last, until)
        return
    from jobs.retraining.estate import OnSpark

    with _on_spark(args) as spark:
        console.print(f"Spark {spark.version}, {spark.sparkContext.master}")
        series = _series(args, spark).persist()  # read once: for its ends, and for the training
        ends = series.selectExpr(
            "min(start_ms) AS first", "max(start_ms + length(kwh) div 4 * step_s * 1000) AS last"
        ).first()
        if ends is None or ends["last"] is None:
            raise UserError("there is no energy of these meters: choose others, or replay readings first")
        first, last = int(ends["first"]), int(ends["last"])
        until = _until(args, first, last)
        weather = load_weather(args)
        yield OnSpark(series, until, args.seed, args.unseen_share, weather), (first, last, until)


def _series(args: argparse.Namespace, spark: Any) -> DataFrame:
    """One row a meter: a data set that Spark reads, files that the driver reads, or the database."""
    from jobs.retraining import sources

    if args.source_uri is not None:
        return sources.from_parquet(spark, args.source_uri, args.tz)
    if args.source is not None:
        return sources.from_memory(spark, load_series(args))
    step_s = 3600 if args.step == "hour" else 900
    return sources.from_database(spark, database_url(args), step_s, args.columns)


def _until(args: argparse.Namespace, first: int, last: int) -> int:
    return args.until if args.until is not None else int(first + TRAINED_SHARE * (last - first))


def _job(
    args: argparse.Namespace, estate: Estate, period: tuple[int, int, int], fit: Any, command: str, console: Console
) -> Job:
    from models.search import Found, search
    from models.train import Job

    first, last, until = period
    begin, end = args.judge_from or until, args.judge_to or last
    found = Found({}, [])
    if args.search:
        console.print(f"searching: {args.search} trials")
        found = search(
            args.architecture,
            estate,
            (first, until),
            fit,
            args.rows,
            args.search,
            lambda number, loss: console.print(f"trial {number} of {args.search}: loss {loss:.5f}"),
        )
        console.print(f"best: {found.settings}")
    return Job(
        estate,
        {"name": _name(args)},
        until,
        (begin, end),
        f"{day(begin)} to {day(end)}",
        fit,
        command,
        args.architecture,
        args.rows,
        found.settings,
        found.trials,
    )


def _name(args: argparse.Namespace) -> str:
    if args.name:
        return str(args.name)
    if args.source_uri is not None:
        return str(args.source_uri).rstrip("/").rsplit("/", 1)[-1]
    return str(args.source.name) if args.source is not None else "the database's meters"


def day(ms: int) -> str:
    """A moment, UTC, as short as it can be told."""
    from datetime import UTC, datetime

    found = datetime.fromtimestamp(ms / 1000, UTC)
    return found.strftime("%Y-%m-%d" if ms % 86_400_000 == 0 else "%Y-%m-%dT%H:%MZ")


def main(argv: list[str] | None = None) -> int:
    """The entry of `spark-submit`: `energyai train` with the same arguments."""
    from jobs.cli import main as energyai

    return energyai(["train", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    raise SystemExit(main())
