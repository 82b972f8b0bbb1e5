"""Energy of meters as a Spark table of one row a meter (`rows.SERIES`): from Parquet, the database, or memory.

A Parquet data set, on any file system that Spark's Hadoop client knows (a folder, `s3a://…`, `hdfs://…`), is in long
form: columns `meter_id`, `bucket` (start of the step, UTC) and `kwh`, and if there `tz`, `site_id` and `coverage`: what
an export of the views `energy_hourly` or `energy_15m` holds. Other files are read as `energyai replay` reads them, by
the driver.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import pandas as pd
import psycopg2

from jobs.backtest.series import LEAST_KNOWN, VIEWS, SeriesError, reading
from jobs.retraining import rows
from jobs.retraining.session import told
from models.dataset import MeterSeries
from operators.meters import DEFAULT_SITE

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

LONG = {"meter_id", "bucket", "kwh"}
DRIVER = "org.postgresql.Driver"
_EARLIEST_MS = 315_532_800_000  # 1980
STEPS = "name string, zone string, site string, start_ms long, kwh float"

_SPREAD = "mod(hashtext(e.meter_id) & 2147483647, {parts}) = {part}"
_QUERY = """
SELECT e.meter_id AS name, coalesce(nullif(m.tz, 'UTC'), s.tz, 'UTC') AS zone,
       coalesce(m.site_id, 'default') AS site, (extract(epoch FROM e.bucket) * 1000)::bigint AS start_ms,
       e.kwh::real AS kwh
FROM {view} e LEFT JOIN meter m ON m.meter_id = e.meter_id LEFT JOIN site s ON s.site_id = m.site_id
WHERE e.coverage >= {least} AND e.kwh IS NOT NULL AND {where}
"""


def from_parquet(spark: SparkSession, path: str, zone: str, step_s: int | None = None) -> DataFrame:
    """The meters of a Parquet data set in long form.

    Args:
        spark: the session.
        path: of the file or folder, as Spark names it.
        zone: of meters without a column `tz`.
        step_s: seconds of a step; None: the shortest distance between steps of a meter, of those that the model knows.

    Raises:
        SeriesError: it cannot be read, or has other columns.
    """
    from pyspark.errors import PySparkException
    from pyspark.sql import functions as f

    try:
        table = spark.read.parquet(path)
    except PySparkException as error:
        raise SeriesError(f"{path} cannot be read ({told(error)}): give a Parquet file or folder", 2) from error
    missing = sorted(LONG - set(table.columns))
    if missing:
        raise SeriesError(f"{path} has no column {', '.join(missing)}: it must hold meter_id, bucket and kwh", 2)
    if "coverage" in table.columns:
        table = table.filter(f.col("coverage") >= LEAST_KNOWN)
    place = f.coalesce(f.col("tz"), f.lit(zone)) if "tz" in table.columns else f.lit(zone)
    there = "site_id" in table.columns
    site = f.coalesce(f.col("site_id").cast("string"), f.lit(DEFAULT_SITE)) if there else f.lit(DEFAULT_SITE)
    # Whole numbers are nanoseconds: what pandas writes.
    nanoseconds = dict(table.dtypes)["bucket"] == "bigint"
    start_ms = f.expr("bucket div 1000000" if nanoseconds else "unix_millis(cast(bucket AS timestamp))")
    steps = table.filter("kwh IS NOT NULL").select(
        f.col("meter_id").cast("string").alias("name"),
        place.alias("zone"),
        site.alias("site"),
        start_ms.alias("start_ms"),
        f.col("kwh").cast("float").alias("kwh"),
    )
    return by_meter(steps, step_s or _step_of(steps, path))


def from_database(
    spark: SparkSession, url: str, step_s: int, meters: Sequence[str] = (), parts: int | None = None
) -> DataFrame:
    """The meters of the database's energy views, read in parts by a hash of the meter.

    With PostgreSQL's JDBC driver on Spark's classpath (`--packages org.postgresql:postgresql:42.7.14`) Spark reads;
    without it each task does, by psycopg2: the same query, the same parts.

    Args:
        spark: the session.
        url: libpq URL.
        step_s: 3600 or 900.
        meters: by id; empty: all.
        parts: of the reading; None: as many as Spark runs at a time.

    Raises:
        SeriesError: it cannot be reached, or holds nothing of that.
    """
    number = parts or spark.sparkContext.defaultParallelism
    wheres = [_SPREAD.format(parts=number, part=part) for part in range(number)]
    if meters:
        named = ", ".join("'" + name.replace("'", "''") + "'" for name in meters)
        wheres = [f"{where} AND e.meter_id IN ({named})" for where in wheres]
    queries = [_QUERY.format(view=VIEWS[step_s], least=LEAST_KNOWN, where=where) for where in wheres]
    _check(url, f"SELECT 1 FROM {VIEWS[step_s]} LIMIT 1")
    steps = _by_jdbc(spark, url, queries) if _has_jdbc(spark) else _by_tasks(spark, url, queries)
    return by_meter(steps, step_s)


def from_memory(spark: SparkSession, sets: Sequence[MeterSeries]) -> DataFrame:
    """Series that the driver has read, spread over the executors."""
    found = [rows.series_row(series, i) for series in sets for i in range(len(series.names))]
    spread = spark.createDataFrame(pd.DataFrame(found), rows.SERIES)
    return spread.repartition(spark.sparkContext.defaultParallelism * 2, "name")


def by_meter(steps: DataFrame, step_s: int) -> DataFrame:
    """Rows of `STEPS` as one row a meter."""

    def grouped(readings: pd.DataFrame) -> pd.DataFrame:
        return rows.grouped(readings, step_s)

    return steps.groupBy("name").applyInPandas(grouped, rows.SERIES)


def _step_of(steps: DataFrame, path: str) -> int:
    """Of the first meter that has two steps; every meter of a data set has the same."""
    some = steps.select("name").first()
    if some is None:
        raise SeriesError(f"{path} holds no energy", 2)
    times = (
        steps.filter(steps["name"] == some["name"]).select("start_ms").distinct().toPandas()["start_ms"].sort_values()
    )
    if times.iloc[0] < _EARLIEST_MS:
        raise SeriesError(f"{path}: column bucket holds no times: it must be a timestamp, the start of each step", 2)
    apart = times.diff().min() / 1000
    if apart not in VIEWS:
        raise SeriesError(f"{path} has steps of {apart:.0f} s: it must have hours or quarter hours", 2)
    return int(apart)


def _check(url: str, query: str) -> None:
    with reading(url) as cursor:
        cursor.execute(query)
        found = cursor.fetchone()
    if found is None:
        raise SeriesError("the database holds no energy: replay readings first")


def _has_jdbc(spark: SparkSession) -> bool:
    from py4j.protocol import Py4JJavaError

    java = spark.sparkContext._jvm
    try:
        java.java.lang.Thread.currentThread().getContextClassLoader().loadClass(DRIVER)
    except Py4JJavaError:
        return False
    return True


def _by_jdbc(spark: SparkSession, url: str, queries: Sequence[str]) -> DataFrame:
    from psycopg2.extensions import parse_dsn

    parts = parse_dsn(url)
    address = f"jdbc:postgresql://{parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"
    # The embedded database shares one session between clients: named statements would collide.
    options = {"driver": DRIVER, "prepareThreshold": "0", "fetchsize": "10000"}
    options |= {name: parts[key] for name, key in (("user", "user"), ("password", "password")) if key in parts}
    if "sslmode" in parts:
        options["sslmode"] = parts["sslmode"]
    tables = [
        spark.read.format("jdbc").options(url=address, dbtable=f"({query}) AS steps", **options).load()
        for query in queries
    ]
    whole = tables[0]
    for table in tables[1:]:
        whole = whole.union(table)
    return whole


def _by_tasks(spark: SparkSession, url: str, queries: Sequence[str]) -> DataFrame:
    def read(frames: Iterable[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            for query in frame["query"]:
                with psycopg2.connect(url, connect_timeout=10) as connection, connection.cursor("steps") as cursor:
                    cursor.itersize = 50_000
                    cursor.execute(query)
                    while found := cursor.fetchmany(50_000):
                        yield pd.DataFrame(found, columns=["name", "zone", "site", "start_ms", "kwh"])

    one_each = spark.createDataFrame(pd.DataFrame({"query": list(queries)}), "query string").repartition(len(queries))
    return one_each.mapInPandas(read, STEPS)
