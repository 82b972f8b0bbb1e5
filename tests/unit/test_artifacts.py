"""Fetched parts: what does not match the lock is never kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.embedded import artifacts
from infra.embedded.artifacts import Jar, fetch_jar
from infra.embedded.errors import StackError

GOOD = b"good bytes"
JAR = Jar("org.example:thing:1.0", hashlib.sha256(GOOD).hexdigest(), "kafka")


def serving(*answers: bytes | Exception) -> tuple[list[str], Callable[[str, Path], Path]]:
    """A fetch that gives one answer after another, and the coordinates that it was asked for."""
    asked: list[str] = []

    def fetch(coordinate: str, repository: Path) -> Path:
        answer = answers[len(asked)]
        asked.append(coordinate)
        if isinstance(answer, Exception):
            raise answer
        repository.mkdir(parents=True)
        path = repository / "thing.jar"
        path.write_bytes(answer)
        return path

    return asked, fetch


def test_a_jar_is_fetched_once_and_then_found(tmp_path: Path) -> None:
    asked, fetch = serving(GOOD)
    path = fetch_jar(JAR, tmp_path, fetch)
    assert path == tmp_path / "kafka" / "thing-1.0.jar"
    assert path.read_bytes() == GOOD
    assert fetch_jar(JAR, tmp_path, fetch) == path
    assert asked == [JAR.coordinate]


def test_a_corrupted_jar_on_disk_is_fetched_again(tmp_path: Path) -> None:
    asked, fetch = serving(GOOD, GOOD)
    fetch_jar(JAR, tmp_path, fetch).write_bytes(b"bad")
    assert fetch_jar(JAR, tmp_path, fetch).read_bytes() == GOOD
    assert len(asked) == 2


@pytest.mark.parametrize("first", [b"torn", OSError("reset"), RuntimeError("HTTP 500")])
def test_one_failure_is_tried_again(tmp_path: Path, first: bytes | Exception) -> None:
    _, fetch = serving(first, GOOD)
    assert fetch_jar(JAR, tmp_path, fetch).read_bytes() == GOOD


def test_wrong_bytes_twice_are_an_error_and_leave_nothing(tmp_path: Path) -> None:
    _, fetch = serving(b"evil", b"evil")
    with pytest.raises(StackError, match=r"org\.example:thing:1\.0 could not be fetched as locked.*make setup"):
        fetch_jar(JAR, tmp_path, fetch)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_jars_of_an_older_lock_are_removed(tmp_path: Path) -> None:
    old = tmp_path / "kafka" / "thing-0.9.jar"
    old.parent.mkdir()
    old.write_bytes(b"old")
    artifacts.fetch_jars(tmp_path, [JAR], say=lambda _: None, fetch=serving(GOOD)[1])
    assert [path.name for path in (tmp_path / "kafka").iterdir()] == ["thing-1.0.jar"]


def test_the_lock_names_each_jar_once_and_all_that_we_ask_for() -> None:
    jars = artifacts.read_lock()
    coordinates = [jar.coordinate for jar in jars]
    assert len(set(coordinates)) == len(coordinates)
    assert len({(jar.jar_set, jar.coordinate.rpartition(":")[0]) for jar in jars}) == len(jars), (
        "two versions of one jar"
    )
    for jar_set, wanted in artifacts.JAR_SETS.items():
        assert {jar.coordinate for jar in jars if jar.jar_set == jar_set} >= set(wanted)
    kafka = {jar.coordinate.split(":")[2] for jar in jars if jar.coordinate.startswith("org.apache.kafka:")}
    assert kafka == {"4.3.1"}, "one version of Kafka"


@pytest.mark.parametrize("line", ["a:b:1 abc kafka", "a:b:1", "a:b " + "0" * 64 + " kafka"])
def test_a_malformed_lock_line_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "jars.lock"
    path.write_text(f"# comment\n{line}\n")
    with pytest.raises(StackError, match=r"jars\.lock:2"):
        artifacts.read_lock(path)


def test_missing_parts_are_listed_and_complete_ones_are_not(tmp_path: Path) -> None:
    assert "timescaledb modules" in artifacts.missing(tmp_path)
    for jar in artifacts.read_lock():
        (tmp_path / jar.jar_set).mkdir(exist_ok=True)
        (tmp_path / jar.jar_set / jar.file_name).touch()
    (tmp_path / "timescaledb").mkdir()
    (tmp_path / "timescaledb" / ".installed").touch()
    assert artifacts.missing(tmp_path) == []


def test_a_java_or_node_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="ENERGYAI_JAVA_HOME"):
        artifacts.java_home(tmp_path)
    with pytest.raises(StackError, match="ENERGYAI_NODE"):
        artifacts.node_binary(tmp_path / "node")
