"""The command's arguments and what it prints; sending is replaced."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from jobs.replay import command
from jobs.replay.batch import ReplayError, concat
from jobs.replay.producer import Progress, Summary


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(list(words))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `send` was given; it sends nothing and counts."""
    got: dict[str, Any] = {}

    def send(batches: Any, bootstrap: str, topic: str, speed: float | None, show: Any, **more: Any) -> Summary:
        got.update(readings=concat(list(batches)), bootstrap=bootstrap, topic=topic, speed=speed, **more)
        show(Progress(len(got["readings"]), int(got["readings"].deliver_ms[-1]), 1.0))
        return Summary(len(got["readings"]), 1, "first", "last", 2.0, got.get("interrupt", False))

    monkeypatch.setattr(command, "send", send)
    return got


@pytest.fixture
def table(tmp_path: Path) -> str:
    path = tmp_path / "t.csv"
    path.write_text("time,a,b\n2024-01-01T00:00Z,1,\n2024-01-01T01:00Z,2,3\n")
    return str(path)


def test_sends_a_file(sent: dict[str, Any], table: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(parse(table, "--kafka", "k:1", "--speed", "3600")) == 0
    assert len(sent["readings"]) == 3
    assert (sent["bootstrap"], sent["topic"], sent["speed"]) == ("k:1", "meter.readings", 3600.0)
    out, err = capsys.readouterr()
    assert out.startswith("sent 3 readings of 1 meters, first to last, in 2.0 s")
    assert "START" in err


def test_json_is_the_last_line_and_the_only_one(
    sent: dict[str, Any], table: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.run(parse(table, "--kafka", "k:1", "--json")) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["readings"] == 3
    assert err == ""


def test_interrupted_is_130(sent: dict[str, Any], table: str, capsys: pytest.CaptureFixture[str]) -> None:
    sent["interrupt"] = True
    assert command.run(parse(table, "--kafka", "k:1")) == 130
    assert capsys.readouterr().out.startswith("interrupted; sent 3")


def test_the_broker_comes_from_the_environment_too(
    sent: dict[str, Any], table: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ENERGYAI_KAFKA", "e:2")
    command.run(parse(table))
    assert sent["bootstrap"] == "e:2"
    monkeypatch.delenv("ENERGYAI_KAFKA")
    with pytest.raises(ReplayError, match="energyai up"):
        command.run(parse(table, "--data-dir", str(tmp_path)))


def test_a_fleet_by_name(sent: dict[str, Any]) -> None:
    assert command.run(parse("fleet:5:3:1:2024-05-01", "--kafka", "k:1")) == 0
    assert len(set(sent["readings"].meter_id)) == 3
    for wrong in ("fleet:5", "fleet:a:b:c", "fleet:1:2:3:never", "fleet:1:0:3"):
        with pytest.raises(ReplayError):
            command.run(parse(wrong, "--kafka", "k:1"))


@pytest.mark.parametrize("words", [("--speed", "0"), ("--speed", "fast"), ("--meters", "-1"), ("--from", "never")])
def test_wrong_arguments_are_refused(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse("x.csv", *words)
    assert caught.value.code == 2
    assert words[1] in capsys.readouterr().err


def test_max_speed_is_no_speed() -> None:
    assert parse("x.csv", "--speed", "max").speed is None
    assert parse("x.csv").speed is None
