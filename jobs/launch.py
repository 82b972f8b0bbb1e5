"""How every job starts: its environments, and one clear line when it cannot."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from jobs.job_settings import JobSettings


def table_environment(settings: JobSettings, name: str, options: Mapping[str, str] | None = None) -> tuple[Any, Any]:
    """A stream environment and the table environment on it, with this run's parallelism and name.

    Args:
        settings: of this run.
        name: of the job.
        options: Flink options of this job alone; the rest comes from flink-conf.yaml.
    """
    from pyflink.datastream import StreamExecutionEnvironment
    from pyflink.table import StreamTableEnvironment

    stream = StreamExecutionEnvironment.get_execution_environment()
    stream.set_parallelism(settings.parallelism)
    t_env = StreamTableEnvironment.create(stream)
    t_env.get_config().set("pipeline.name", name)
    t_env.get_config().set_local_timezone("UTC")
    for key, value in (options or {}).items():
        t_env.get_config().set(key, value)
    return stream, t_env


def launch(name: str, execute: Callable[[], Any]) -> int:
    """Submits a job and prints its id as JSON; the caller waits for it, or not.

    Args:
        name: the job's name.
        execute: `TableResult`- or `JobClient`-returning submission.
    """
    result = execute()
    client = result if hasattr(result, "get_job_id") else result.get_job_client()
    print(json.dumps({"job": name, "job_id": str(client.get_job_id())}))
    sys.stdout.flush()
    return 0
