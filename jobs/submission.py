"""Submitting jobs to the cluster, embedded or external, in a process with the environment that Flink's client wants."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence

from infra.embedded.stack import Stack
from jobs.errors import UserError
from jobs.settings import Addresses, Settings


def submit(settings: Settings, where: Addresses, jobs: Sequence[str], arguments: Sequence[str] = ()) -> dict[str, str]:
    """Submits `jobs`; their ids by name (`ingest` → id), as they are accepted.

    Raises:
        UserError: one line, the first thing that went wrong.
    """
    addresses = ["--kafka", where.kafka, "--database-url", where.database_url, "--flink-url", where.flink_url]
    command = [sys.executable, "-m", "jobs.client", *jobs, "--", *addresses, *arguments]
    env = {**os.environ, **Stack(settings.stack_options()).flink_env()}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    ids = {}
    for line in done.stdout.splitlines():
        if line.startswith('{"job": '):
            found = json.loads(line)
            ids[found["job"].removeprefix("energyai-")] = found["job_id"]
    if done.returncode:
        if settings.debug:
            sys.stderr.write(done.stderr)
        raise UserError(
            _reason(done.stderr) + " (ENERGYAI_DEBUG=1 shows all)", done.returncode if done.returncode > 0 else 1
        )
    return ids


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return (told or causes or lines or ["the client ended without a word"])[-1][:500]
