"""The Spark session of a training: the one of `spark-submit`, or one of this machine."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from infra.embedded.artifacts import java_home
from jobs.errors import UserError
from jobs.package import archive

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

PARTITIONS = 8
"""Of a shuffle; more on a cluster: spark.sql.shuffle.partitions. The results do not depend on it."""

_PYTHON_ERROR = re.compile(r"[\w.]*(Error|Exception): \S")
_MISSING_MODULE = "--add-modules=jdk.incubator.vector"


def told(error: Exception) -> str:
    """One line of what went wrong on Spark: of a failed worker its own last words."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    own = [line.split(": ", 1)[1] for line in lines if _PYTHON_ERROR.match(line)]
    return own[-1] if own else (lines[0] if lines else type(error).__name__)


@contextmanager
def session(master: str | None, memory: str = "2g", java: Path | None = None) -> Iterator[SparkSession]:
    """A session, stopped at the end unless it was there before.

    Args:
        master: such as `local[2]`; None: what `spark-submit` says.
        memory: of the driver's Java, where this starts it.
        java: a Java home; None: the one of the Python environment.

    Raises:
        UserError: Spark is not installed or does not start; one line that says what to do.
    """
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ModuleNotFoundError as error:
        raise UserError(f"training on Spark needs the package {error.name}: make setup-test installs it", 2) from error
    if SparkSession.getActiveSession() is not None:
        yield SparkSession.builder.getOrCreate()
        return
    builder = SparkSession.builder.appName("energyai-train").config("spark.sql.execution.arrow.pyspark.enabled", "true")
    # pandas writes nanoseconds, which Spark reads as whole numbers or not at all.
    builder = builder.config("spark.sql.legacy.parquet.nanosAsLong", "true")
    with tempfile.TemporaryDirectory(prefix="energyai-spark-") as name, _environment():
        folder = Path(name)
        if master is not None:
            _local_java(folder, java)
            # Workers import what the driver imports.
            os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable
            for setting, value in _local_settings(folder, memory).items():
                builder = builder.config(setting, value)
            builder = builder.master(master)
        try:
            spark = builder.getOrCreate()
        except (PySparkException, OSError) as error:
            raise UserError(
                f"Spark does not start ({told(error)}): check --master, or train with --in-memory", 3
            ) from error
        try:
            spark.sparkContext.addPyFile(str(archive()))
            yield spark
        finally:
            spark.stop()


@contextmanager
def _environment() -> Iterator[None]:
    """Leaves the environment as it was: others in this process start a Java of their own."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _local_settings(folder: Path, memory: str) -> dict[str, str]:
    return {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": memory,
        "spark.driver.maxResultSize": "0",
        "spark.local.dir": str(folder),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.sql.shuffle.partitions": str(PARTITIONS),
        "spark.sql.session.timeZone": "UTC",
    }


def _local_java(folder: Path, java: Path | None) -> None:
    """Points Spark to the Java of the Python environment, which has no incubator module: Spark asks for it, in vain."""
    real = java_home(java) / "bin" / "java"
    (folder / "bin").mkdir()
    script = folder / "bin" / "java"
    keep = f'[ "$word" = {_MISSING_MODULE} ] || set -- "$@" "$word"'
    script.write_text(f'#!/bin/sh\nfor word; do shift; {keep}; done\nexec {quote(str(real))} "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    os.environ["JAVA_HOME"] = str(folder)
    # What goes wrong reaches the person as one line; Java's account of it would bury that.
    (folder / "log4j2.properties").write_text("rootLogger.level = off\n", encoding="utf-8")
    os.environ.setdefault("SPARK_CONF_DIR", str(folder))
