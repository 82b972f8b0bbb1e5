"""Runs of workload W: starts an engine, measures its processes, checks its results."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from infra.embedded import artifacts
from tests.bench.sample import Sample
from tests.bench.surroundings import Surroundings, alone, cluster
from tests.bench.watch import Watch
from tests.bench.workload import PARTITIONS, Job, Size

SOURCE = "bench-w"


@dataclass(frozen=True)
class Engine:
    """How an engine is run."""

    name: str
    title: str
    module: str
    """`tests.bench.engines.…`"""
    arguments: tuple[str, ...] = ()
    flink: bool = False
    means: bool = False
    """It gives the means themselves, not the network's outputs."""


ENGINES = (
    Engine("energyai", "EnergyAI, columnar shards", "energyai", flink=True),
    Engine("jvm_floor", "the same SQL without Python", "jvm_floor", flink=True, means=True),
    Engine("jvm_packed", "… with the texts packed and cut", "jvm_floor", ("--packed",), flink=True, means=True),
    Engine("per_element", "PyFlink, a call an element", "per_element", flink=True),
    Engine("loop", "plain loop, 1 process, no recovery", "loop"),
    Engine("loop_2", "plain loop, 2 processes, no recovery", "loop", ("--processes", "2")),
    Engine("bytewax", "Bytewax, 2 processes", "bytewax_flow"),
    Engine("quix", "Quix Streams, 2 processes", "quix"),
    Engine("spark", "Spark Structured Streaming, local[2]", "spark"),
)


@contextmanager
def prepared(around: Surroundings, size: Size, say: Callable[[str], None]) -> Iterator[Job]:
    """The topic with all the readings, and the network; what a run is told, but for its sink and folder."""
    model = around.folder / "network.onnx"
    job = Job(around.kafka, SOURCE, "", str(model), "", size.meters, size.minutes)
    around.python("tests.bench.network", str(model), env={})
    around.topic(SOURCE, PARTITIONS)
    say(f"W: putting {size.readings:,} readings on Kafka …")
    around.python("tests.bench.feed", env=job.environment())
    try:
        yield job
    finally:
        around.drop(SOURCE)


def run(around: Surroundings, engine: Engine, job: Job, repeat: int) -> Sample:
    """One run of one engine.

    Raises:
        EngineError: it did not get to its end.
    """
    folder = around.folder / "state"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    job = replace(job, sink=f"bench-w-{engine.name}-{repeat}", folder=str(folder))
    around.topic(job.sink, PARTITIONS)
    try:
        begun, ready, watch = (_on_flink if engine.flink else _alone)(around, engine, job, repeat)
        arguments = ["--means"] if engine.means else []
        check: dict[str, Any] = json.loads(around.python("tests.bench.check", *arguments, env=job.environment()))
    finally:
        around.drop(job.sink)
        shutil.rmtree(folder, ignore_errors=True)
    last = check["last_ms"] / 1000
    return Sample(
        engine=engine.name,
        count=check["expected"] - check["missing"],
        seconds=last - ready,
        startup_s=ready - begun,
        cpu_s=watch.cpu_s(ready, last),
        startup_cpu_s=watch.cpu_s(None, ready),
        peak_mb=watch.peak_bytes / 1e6,
        readings=job.meters * job.minutes,
        check=check,
    )


def _on_flink(around: Surroundings, engine: Engine, job: Job, _repeat: int) -> tuple[float, float, Watch]:
    with cluster(around) as flink, Watch(flink.pid) as watch:
        begun = time.time()
        job_id = flink.submit(f"tests.bench.engines.{engine.module}", *engine.arguments, env=job.environment())
        return begun, flink.finish(job_id, around.deadline_s), watch


def _alone(around: Surroundings, engine: Engine, job: Job, repeat: int) -> tuple[float, float, Watch]:
    log = around.logs / f"w-{engine.name}-{repeat}.log"
    java = {"JAVA_HOME": str(artifacts.java_home()), "BENCH_SPARK_JARS": str(around.peers.jars)}
    env = {**job.environment(), **java, "TMPDIR": job.folder}
    return alone(around, f"tests.bench.engines.{engine.module}", engine.arguments, log, env)
