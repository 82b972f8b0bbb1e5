"""The few calls of Flink's REST API that the command line needs."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from typing import Any

from jobs.errors import UserError

ENDED = {"FINISHED", "FAILED", "CANCELED", "SUSPENDED"}
POLL_S = 0.5


class FlinkRest:
    """A session cluster, by the address of its Web UI."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def call(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """One call; the answer's JSON.

        Raises:
            UserError: the cluster does not answer, or refuses.
        """
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, content, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            reason = " ".join(error.read().decode(errors="replace").split())[:300]
            raise UserError(f"Flink refused {method} {path}: {reason}") from error
        except (OSError, ValueError) as error:
            raise UserError(
                f"no Flink at {self.url} ({error}): see `energyai status`, or check ENERGYAI_FLINK_URL", 3
            ) from error

    def jobs(self) -> list[dict[str, Any]]:
        """All jobs, newest first: `jid`, `name`, `state`, `start-time`, `duration`."""
        return sorted(self.call("/jobs/overview")["jobs"], key=lambda job: -job["start-time"])

    def running(self) -> list[dict[str, Any]]:
        """Those of them that have not ended."""
        return [job for job in self.jobs() if job["state"] not in ENDED]

    def find(self, name: str) -> dict[str, Any]:
        """The running job that `name` names: a job id, a job's name, or that without `energyai-`.

        Raises:
            UserError: none runs.
        """
        running = self.running()
        for job in running:
            if name in (job["jid"], job["name"], job["name"].removeprefix("energyai-")):
                return job
        names = ", ".join(job["name"] for job in running) or "none"
        raise UserError(f"no job {name} runs (running: {names})")

    def state(self, job_id: str) -> str:
        """A job's state."""
        return str(self.call(f"/jobs/{job_id}")["state"])

    def cause(self, job_id: str) -> str:
        """Why a job failed, as one line."""
        entries = self.call(f"/jobs/{job_id}/exceptions").get("exceptionHistory", {}).get("entries", [])
        if not entries:
            return "no reason given"
        lines = [line.strip() for line in entries[0]["stacktrace"].splitlines()]
        causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
        return (causes or lines)[-1][:400]

    def cancel(self, job_id: str, within_s: float = 60.0) -> None:
        """Cancels a job and waits for its end."""
        self.call(f"/jobs/{job_id}?mode=cancel", "PATCH")
        self.wait(job_id, within_s)

    def cancel_if_running(self, job_id: str) -> None:
        """Cancels a job, unless it has ended by itself."""
        if self.state(job_id) not in ENDED:
            self.cancel(job_id)

    def wait(self, job_id: str, within_s: float) -> str:
        """A job's last state.

        Raises:
            UserError: it has not ended by then.
        """
        deadline = time.monotonic() + within_s
        while (state := self.state(job_id)) not in ENDED:
            if time.monotonic() > deadline:
                raise UserError(f"job {job_id} is still {state} after {within_s:.0f} s")
            time.sleep(POLL_S)
        return state

    def savepoint(self, job_id: str, *, stop: bool, within_s: float = 300.0) -> str:
        """Saves a job's state, and stops the job if `stop`; where the savepoint is.

        Raises:
            UserError: it failed, or took too long.
        """
        path, body = (f"/jobs/{job_id}/stop", {"drain": False}) if stop else (f"/jobs/{job_id}/savepoints", {})
        trigger = self.call(path, "POST", body)["request-id"]
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            answer = self.call(f"/jobs/{job_id}/savepoints/{trigger}")
            if answer["status"]["id"] == "COMPLETED":
                done = answer["operation"]
                if "failure-cause" in done:
                    raise UserError(f"no savepoint: {done['failure-cause'].get('class', done['failure-cause'])}")
                return str(done["location"])
            time.sleep(POLL_S)
        raise UserError(f"no savepoint after {within_s:.0f} s")
