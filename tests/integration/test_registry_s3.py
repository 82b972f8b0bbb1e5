"""The registry on an S3-compatible store: a real server (moto), reached as a real store is, by AWS_ENDPOINT_URL."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.errors import UserError
from jobs.models.registry import Registry
from operators.serving.artifacts import RefusedError, UnavailableError, load
from operators.serving.plan import CHAMPION, Announcement
from tests.unit.serving_support import KEY, PUBLIC, trained

pytestmark = [pytest.mark.integration, pytest.mark.long]

SERVER = "moto[server]==5.2.5"
"""Not in the lock: fifty packages for this one test. uv keeps it in an environment of its own."""
PATIENCE_S = 180.0


def answers(port: int, method: str = "GET", path: str = "/") -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of a server with the bucket `models`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [sys.executable, "-m", "uv", "run", "--isolated", "--no-project", "--with", SERVER]
    command += ["moto_server", "-H", "127.0.0.1", "-p", str(port)]
    log = tmp_path_factory.mktemp("s3") / "log"
    with log.open("w") as said, subprocess.Popen(command, stdout=said, stderr=said) as server:
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not answers(port, "PUT", "/models"):
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield port
        finally:
            server.terminate()


@pytest.fixture
def root(endpoint: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """The registry's address, and the environment that leads to it."""
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{endpoint}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return "s3://models/energyai"


def test_versions_are_registered_listed_read_and_loaded_from_s3(root: str, endpoint: int, tmp_path: Path) -> None:
    registry = Registry(root, PUBLIC)
    assert registry.numbers("forecaster") == []
    first = registry.register(trained(tmp_path / "a"), KEY)
    second = registry.register(trained(tmp_path / "b", 2.0), KEY)
    assert (first.uri, registry.numbers("forecaster")) == (f"{root}/forecaster/1/forecaster.onnx", [1, 2])
    # It lies in the store, not in a cache of this process.
    assert answers(endpoint, "HEAD", "/models/energyai/forecaster/2/manifest.sig")
    assert registry.get("forecaster", 2).card()["data"]["name"] == "test"
    announced = Announcement(1, 0, second.version, second.sha256, CHAMPION, second.uri)
    assert load("forecaster", announced, PUBLIC).sha256 == second.sha256
    with pytest.raises(UserError, match="no version 3"):
        registry.get("forecaster", 3)
    missing = Announcement(1, 0, 3, second.sha256, CHAMPION, f"{root}/forecaster/3/forecaster.onnx")
    with pytest.raises(UnavailableError):
        load("forecaster", missing, PUBLIC)
    other = Announcement(1, 0, second.version, first.sha256, CHAMPION, second.uri)
    with pytest.raises(RefusedError, match="sha256"):
        load("forecaster", other, PUBLIC)
