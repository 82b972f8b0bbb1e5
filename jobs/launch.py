"""How every job starts: its environments, and one clear line when it cannot."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from jobs import package, preflight, uids
from jobs.errors import UserError
from jobs.flink_sql import statements
from jobs.job_settings import JobSettings


def table_environment(settings: JobSettings, name: str, options: Mapping[str, str] | None = None) -> tuple[Any, Any]:
    """A stream environment and the table environment on it, with this run's parallelism and name.

    Args:
        settings: of this run.
        name: of the job.
        options: Flink options of this job alone; the rest comes from flink-conf.yaml.
    """
    from pyflink.common import Configuration
    from pyflink.datastream import StreamExecutionEnvironment
    from pyflink.table import StreamTableEnvironment

    own = {"pipeline.name": name, "table.local-time-zone": "UTC", **(options or {})}
    if settings.savepoint:
        own["execution.state-recovery.path"] = settings.savepoint
    if settings.flink_url:
        address = urlsplit(settings.flink_url)
        own |= {"execution.target": "remote", "rest.address": str(address.hostname), "rest.port": str(address.port)}
        # The workers may be on machines that do not have this package.
        own["python.files"] = str(package.archive())
        stream = StreamExecutionEnvironment(_remote(own))
    else:
        configuration = Configuration()
        for key, value in own.items():
            configuration.set_string(key, value)
        stream = StreamExecutionEnvironment.get_execution_environment(configuration)
    stream.set_parallelism(settings.parallelism)
    return stream, StreamTableEnvironment.create(stream)


class Statements:
    """The INSERTs of one job. On their way into its stream environment all of the job's operators get fixed uids."""

    def __init__(self, t_env: Any) -> None:
        from pyflink.datastream import StreamExecutionEnvironment

        self._stream = StreamExecutionEnvironment(t_env._j_tenv.execEnv())
        self._name = t_env.get_config().get("pipeline.name", "energyai")
        self._inserts = t_env.create_statement_set()

    def add(self, insert: str) -> None:
        """One more INSERT."""
        self._inserts.add_insert_sql(insert)

    def attach_as_datastream(self) -> None:
        """Makes them part of the stream environment, which executes them; after everything else of the job."""
        self._inserts.attach_as_datastream()
        uids.fix(self._stream._j_stream_execution_environment)

    def execute(self) -> Any:
        """Submits a job of nothing but these; its JobClient."""
        self.attach_as_datastream()
        return self._stream.execute_async(self._name)


def job_of(t_env: Any, name: str, **settings: object) -> Statements:
    """The statements of `sql/flink/<name>.sql`: its INSERTs, after its tables and views are made.

    Args:
        t_env: a pyflink TableEnvironment.
        name: of the file.
        settings: what stands in it as ${name}.
    """
    job = Statements(t_env)
    for statement in statements(name, **settings):
        if statement.startswith("INSERT"):
            job.add(statement)
        else:
            t_env.execute_sql(statement)
    return job


def _remote(options: Mapping[str, str]) -> Any:
    """A Java environment that submits to a cluster: outside of `flink run`, PyFlink itself makes only local ones."""
    from pyflink.java_gateway import get_gateway

    jvm = get_gateway().jvm
    configuration = jvm.org.apache.flink.configuration.GlobalConfiguration.loadConfiguration()
    for key, value in options.items():
        configuration.setString(key, value)
    return jvm.org.apache.flink.streaming.api.environment.StreamExecutionEnvironment(configuration)


def main(name: str, argv: Sequence[str] | None, description: str | None, submit: Callable[[JobSettings], Any]) -> int:
    """A job's command line: settings, a look at what it needs, submission. Prints the job's id as JSON.

    Args:
        name: of the job.
        argv: arguments; None takes this process's.
        description: for `--help`.
        submit: submits, and returns a TableResult or JobClient.
    """
    try:
        settings = JobSettings.parse(argv, description or "")
        preflight.check(settings)
        result = submit(settings)
    except Exception as error:
        if not isinstance(getattr(error, "exit_code", None), int):
            raise
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)  # type: ignore[attr-defined]
    client = result if hasattr(result, "get_job_id") else result.get_job_client()
    if client is None:
        raise UserError(f"{name} was not submitted")
    print(json.dumps({"job": name, "job_id": str(client.get_job_id())}), flush=True)
    return 0
