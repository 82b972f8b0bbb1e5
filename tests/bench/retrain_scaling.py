"""What retraining on Spark costs as the number of meters grows: time of its parts, and memory of driver and workers.

python -m tests.bench.retrain_scaling --meters 100 1000 --master local[2]
python -m tests.bench.retrain_scaling --meters 200 --train 500      # the whole training on one core and on two
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

FIRST = "2021-01-01"
FILES = 8
ROWS = 512


def write_meters(folder: Path, meters: int, days: int) -> None:
    """Made-up meters with a daily rhythm, in the long form that `--source` reads."""
    hours = pd.date_range(FIRST, periods=24 * days, freq="h", tz="UTC", unit="us")
    rng = np.random.default_rng(0)
    day = 2 + np.sin(np.arange(len(hours)) * (2 * np.pi / 24))
    for number, part in enumerate(np.array_split(np.arange(meters), FILES)):
        frames = [
            pd.DataFrame({"meter_id": f"m{i}", "bucket": hours, "kwh": day * rng.gamma(8, 1 / 8, len(hours))})
            for i in part
        ]
        if frames:
            pd.concat(frames).to_parquet(folder / f"{number}.parquet", index=False)


@contextmanager
def peak_memory(every_s: float = 0.1) -> Iterator[dict[str, float]]:
    """Largest resident memory, MB, of this process and of the processes it started (Java, Python workers)."""
    found = {"driver_mb": 0.0, "java_mb": 0.0, "workers_mb": 0.0}
    done = threading.Event()

    def watch() -> None:
        me = psutil.Process()
        while not done.wait(every_s):
            now = {"driver_mb": me.memory_info().rss, "java_mb": 0, "workers_mb": 0}
            for child in me.children(recursive=True):
                try:
                    which = "java_mb" if child.name() == "java" else "workers_mb"
                    now[which] += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            for name, value in now.items():
                found[name] = max(found[name], round(value / 2**20, 1))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        done.set()
        thread.join()


def measure(meters: int, days: int, rounds: int, master: str) -> dict[str, Any]:
    """Reads, draws and judges without training, whose cost does not depend on the meters."""
    from jobs.retraining import sources
    from jobs.retraining.estate import OnSpark
    from jobs.retraining.session import session
    from models.drawing import ROUND
    from operators.forecaster import SHIPPED_MODEL, Forecaster

    first_ms = int(pd.Timestamp(FIRST, tz="UTC").timestamp() * 1000)
    until_ms, last_ms = (first_ms + int(share * days) * 86_400_000 for share in (0.8, 1.0))
    times: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder, peak_memory() as memory, session(master) as spark:
        write_meters(Path(folder), meters, days)
        begun = time.monotonic()

        def lap(name: str) -> None:
            nonlocal begun
            times[name] = round(time.monotonic() - begun, 1)
            begun = time.monotonic()

        estate = OnSpark(sources.from_parquet(spark, folder, "UTC"), until_ms, 0, 0.2)
        windows = estate.facts().windows
        lap("read_s")
        batches = sum(1 for _ in estate.batches(0, rounds * ROUND, ROWS))
        lap("batches_s")
        estate.scores(Forecaster.load(), SHIPPED_MODEL.read_bytes(), "judged", until_ms, last_ms)
        lap("judge_s")
    return {"meters": meters, "days": days, "windows": windows, "batches": batches, **times, **memory}


def whole(meters: int, days: int, steps: int) -> dict[str, Any]:
    """`jobs/retrain.py` from data to card, on one core and on two: seconds, and whether the model is the same."""
    found: dict[str, tuple[float, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "energy"
        data.mkdir()
        write_meters(data, meters, days)
        for master in ("local[1]", "local[2]"):
            out = Path(folder) / master
            words = ["--source", data, "--out", out, "--epochs", 1, "--steps-per-epoch", steps, "--master", master]
            begun = time.monotonic()
            subprocess.run([sys.executable, "-m", "jobs.retrain", *map(str, words), "--json"], check=True)
            took = round(time.monotonic() - begun, 1)
            found[master] = took, hashlib.sha256((out / "forecaster.onnx").read_bytes()).hexdigest()
    (one, model), (two, again) = found["local[1]"], found["local[2]"]
    return {
        "meters": meters,
        "days": days,
        "steps": steps,
        "local[1]_s": one,
        "local[2]_s": two,
        "ratio": round(one / two, 2),
        "same_model": model == again,
    }


def main(argv: Sequence[str] | None = None) -> int:
    """One JSON object a line, a line each number of meters."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--meters", type=int, nargs="+", default=[100, 1000], help="(default: 100 1000)")
    parser.add_argument("--days", type=int, default=60, help="of each meter (default: 60)")
    parser.add_argument("--rounds", type=int, default=1, help="of batches that are drawn (default: 1)")
    parser.add_argument("--master", default="local[2]", help="Spark's (default: local[2])")
    parser.add_argument("--train", type=int, metavar="STEPS", help="time whole trainings of so many steps instead")
    args = parser.parse_args(argv)
    for meters in args.meters:
        if args.train is None:
            found = measure(meters, args.days, args.rounds, args.master)
        else:
            found = whole(meters, args.days, args.train)
        print(json.dumps(found), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
