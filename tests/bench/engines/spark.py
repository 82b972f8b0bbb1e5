"""(g) Spark Structured Streaming, local[2]: windowed mean, then transformWithStateInPandas; RocksDB and checkpoints on.

python -m tests.bench.engines.spark
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from pyspark.sql import SparkSession
from pyspark.sql import functions as f
from pyspark.sql.streaming import StatefulProcessor, StatefulProcessorHandle

from tests.bench.workload import CLOSING, HISTORY, MINUTE_MS, Job, Network, result

BATCHES = 5
"""Micro-batches that the topic is read in, at least; a smaller one is of 20,000 readings."""
SMALLEST_BATCH = 20_000


class Forecasts(StatefulProcessor):
    """Keyed by meter: its windows of a micro-batch → messages; the last 96 means are the state."""

    def __init__(self, model: str) -> None:
        self._model = model

    def init(self, handle: StatefulProcessorHandle) -> None:
        self._network = Network(self._model)
        self._history = handle.getValueState("history", "means array<float>")

    def handleInputRows(self, key: Any, rows: Iterator[pd.DataFrame], _timers: Any) -> Iterator[pd.DataFrame]:  # noqa: N802
        frame = pd.concat(list(rows)).sort_values("end_ms")
        before = self._history.get()[0] if self._history.exists() else [0.0] * HISTORY
        all_means = np.concatenate([np.array(before, np.float32), frame["mean"].to_numpy(np.float32)])
        ys = self._network.forecast(np.ascontiguousarray(sliding_window_view(all_means, HISTORY)[1:]))
        self._history.update((all_means[-HISTORY:].tolist(),))
        name = key[0]
        values = [result(name, end, y) for end, y in zip(frame["end_ms"].tolist(), ys.tolist(), strict=True)]
        yield pd.DataFrame({"key": [name] * len(values), "value": values})

    def close(self) -> None:
        pass


def main() -> int:
    """Reads what the topic holds, and ends."""
    job = Job.from_environment()
    folder = Path(job.folder)
    os.environ |= {"PYSPARK_PYTHON": sys.executable, "JAVA_HOME": str(java(folder / "java"))}
    jars = ",".join(str(jar) for jar in sorted(Path(os.environ["BENCH_SPARK_JARS"]).glob("*.jar")))
    spark = (
        SparkSession.builder.master("local[2]")
        .config("spark.jars", jars)
        .config("spark.ui.enabled", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.local.dir", str(folder / "local"))
        .config("spark.sql.warehouse.dir", str(folder / "warehouse"))
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.sql.shuffle.partitions", "2")
        .config(
            "spark.sql.streaming.stateStore.providerClass",
            "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider",
        )
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("ERROR")
    readings = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", job.kafka)
        .option("subscribe", job.source)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", max(SMALLEST_BATCH, job.meters * job.minutes // BATCHES))
        .load()
        .select(f.from_json(f.col("value").cast("string"), "meter_id string, ts bigint, value double").alias("r"))
        .select("r.meter_id", f.timestamp_millis("r.ts").alias("time"), "r.value")
    )
    means = (
        readings.withWatermark("time", "2 minutes")
        .groupBy(f.window("time", f"{MINUTE_MS} milliseconds"), "meter_id")
        .agg(f.avg("value").alias("mean"))
        .where(~f.col("meter_id").startswith(CLOSING))
        .select("meter_id", f.unix_millis("window.end").alias("end_ms"), "mean")
    )
    results = means.groupBy("meter_id").transformWithStateInPandas(
        Forecasts(job.model), "key string, value string", "Append", "None"
    )
    print("ready", time.time(), flush=True)
    # What the last batch's watermark closes is given by the next batch, and a run to the end makes none: a second run
    # from the checkpoint does.
    for _ in range(2):
        query = (
            results.writeStream.format("kafka")
            .option("kafka.bootstrap.servers", job.kafka)
            .option("topic", job.sink)
            .option("checkpointLocation", str(folder / "checkpoint"))
            .outputMode("append")
            .trigger(availableNow=True)
            .start()
        )
        query.awaitTermination()
    spark.stop()
    return 0


def java(folder: Path) -> Path:
    """A Java home whose `java` leaves out a module that Spark asks for and a runtime lacks; only MLlib uses it."""
    script = folder / "bin" / "java"
    script.parent.mkdir(parents=True)
    real = shlex.quote(str(Path(os.environ["JAVA_HOME"]) / "bin" / "java"))
    keep = '[ "$word" = --add-modules=jdk.incubator.vector ] || set -- "$@" "$word"'
    script.write_text(f'#!/bin/sh\nfor word; do shift; {keep}; done\nexec {real} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    return folder


if __name__ == "__main__":
    sys.exit(main())
