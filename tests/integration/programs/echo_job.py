"""A small job for tests of the cluster: values of one topic, marked by Python, to another, exactly once."""

from __future__ import annotations

import argparse

from pyflink.table import DataTypes, EnvironmentSettings, TableEnvironment
from pyflink.table.udf import udf


@udf(result_type=DataTypes.STRING())  # type: ignore[misc]
def mark(value: str) -> str:
    """The value with a sign that Python saw it."""
    return f"py-{value}"


def main() -> None:
    """Submits the job and prints its id."""
    parser = argparse.ArgumentParser()
    for name in ("kafka", "source", "sink", "name"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    tables = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    tables.get_config().set("pipeline.name", args.name)
    tables.get_config().set("parallelism.default", "1")
    tables.create_temporary_function("mark", mark)
    for table, topic, extra in (
        ("incoming", args.source, "'properties.group.id' = 'echo', 'scan.startup.mode' = 'earliest-offset'"),
        (
            "outgoing",
            args.sink,
            f"'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = '{args.name}'",
        ),
    ):
        tables.execute_sql(
            f"CREATE TABLE {table} (v STRING) WITH ('connector' = 'kafka', 'topic' = '{topic}', 'format' = 'raw', "
            f"'properties.bootstrap.servers' = '{args.kafka}', {extra})"
        )
    print(tables.execute_sql("INSERT INTO outgoing SELECT mark(v) FROM incoming").get_job_client().get_job_id())


if __name__ == "__main__":
    main()
