"""Flink's REST API, answered by a small server of the test's own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from jobs import flink_rest
from jobs.errors import UserError
from jobs.flink_rest import FlinkRest

RUNNING = {"jid": "a1", "name": "energyai-forecast", "state": "RUNNING", "start-time": 5, "duration": 1}
ENDED = {"jid": "b2", "name": "energyai-ingest", "state": "CANCELED", "start-time": 9, "duration": 1}


class Answers(dict[str, list[tuple[int, Any]]]):
    """By "METHOD path": status and body of each call, the last one for ever; and the bodies that came."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, Any]] = []


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def flink(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> Iterator[FlinkRest]:
    monkeypatch.setattr(flink_rest, "POLL_S", 0.001)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            call = f"{self.command} {self.path}"
            answers.asked.append((call, json.loads(body) if body else None))
            queue = answers[call]
            status, content = queue.pop(0) if len(queue) > 1 else queue[0]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content.encode() if isinstance(content, str) else json.dumps(content).encode())

        do_GET = do_POST = do_PATCH = _answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield FlinkRest(f"http://127.0.0.1:{server.server_port}/")
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_job_is_found_by_id_name_and_short_name(flink: FlinkRest, answers: Answers) -> None:
    answers["GET /jobs/overview"] = [(200, {"jobs": [RUNNING, ENDED]})]
    assert [job["jid"] for job in flink.jobs()] == ["b2", "a1"], "newest first"
    for name in ("a1", "energyai-forecast", "forecast"):
        assert flink.find(name)["jid"] == "a1"
    with pytest.raises(UserError, match=r"no job ingest runs \(running: energyai-forecast\)"):
        flink.find("ingest")


def test_cancel_waits_for_the_end(flink: FlinkRest, answers: Answers) -> None:
    answers["PATCH /jobs/a1?mode=cancel"] = [(202, "")]
    answers["GET /jobs/a1"] = [(200, {"state": "CANCELLING"}), (200, {"state": "CANCELED"})]
    flink.cancel("a1")
    assert [call for call, _ in answers.asked] == ["PATCH /jobs/a1?mode=cancel", "GET /jobs/a1", "GET /jobs/a1"]


def test_waiting_has_an_end(flink: FlinkRest, answers: Answers) -> None:
    answers["GET /jobs/a1"] = [(200, {"state": "RUNNING"})]
    with pytest.raises(UserError, match="job a1 is still RUNNING after 0 s"):
        flink.wait("a1", 0.01)


def test_a_savepoint(flink: FlinkRest, answers: Answers) -> None:
    done = {"status": {"id": "COMPLETED"}, "operation": {"location": "file:/s"}}
    answers["POST /jobs/a1/stop"] = [(202, {"request-id": "r"})]
    answers["GET /jobs/a1/savepoints/r"] = [(200, {"status": {"id": "IN_PROGRESS"}}), (200, done)]
    assert flink.savepoint("a1", stop=True) == "file:/s"
    assert answers.asked[0] == ("POST /jobs/a1/stop", {"drain": False})


def test_a_savepoint_that_failed_says_why(flink: FlinkRest, answers: Answers) -> None:
    failed = {"status": {"id": "COMPLETED"}, "operation": {"failure-cause": {"class": "NoSpace"}}}
    answers["POST /jobs/a1/savepoints"] = [(202, {"request-id": "r"})]
    answers["GET /jobs/a1/savepoints/r"] = [(200, failed)]
    with pytest.raises(UserError, match="no savepoint: NoSpace"):
        flink.savepoint("a1", stop=False)


def test_the_cause_is_the_innermost_as_one_line(flink: FlinkRest, answers: Answers) -> None:
    trace = "Outer: x\n\tat a.b\nCaused by: Middle: y\nCaused by: Inner: z\n\tat c.d"
    answers["GET /jobs/a1/exceptions"] = [(200, {"exceptionHistory": {"entries": [{"stacktrace": trace}]}}), (200, {})]
    assert flink.cause("a1") == "Inner: z"
    assert flink.cause("a1") == "no reason given"


def test_a_refusal_and_a_cluster_that_is_not_there(flink: FlinkRest, answers: Answers) -> None:
    answers["GET /jobs/x"] = [(404, {"errors": ["not found\nat all"]})]
    with pytest.raises(UserError, match=r"Flink refused GET /jobs/x: .*not found"):
        flink.state("x")
    with pytest.raises(UserError, match=r"no Flink at http://127.0.0.1:1 .*energyai status") as error:
        FlinkRest("http://127.0.0.1:1").jobs()
    assert error.value.exit_code == 3
