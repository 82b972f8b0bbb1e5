"""The command line's frame: help, one line for an error, exit codes, and a quick start."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from infra.database import DatabaseError
from infra.embedded.errors import StackError
from jobs import cli
from jobs.errors import UserError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, no_settings: pytest.MonkeyPatch) -> types.ModuleType:
    """A command `probe` whose `run` the test replaces."""
    module = types.ModuleType("jobs.commands.probe")
    module.add_arguments = lambda parser: parser.add_argument("--n", type=int, default=0)  # type: ignore[attr-defined]
    module.run = lambda args: args.n  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(cli, "available", lambda: {"probe": (module.__name__, "tests the frame")})
    return module


def test_a_command_gets_its_arguments_and_gives_its_exit_code(command: types.ModuleType) -> None:
    assert cli.main(["probe"]) == 0
    assert cli.main(["probe", "--n", "3"]) == 3


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (UserError("no stack\nruns", 3), 3, "error: no stack runs"),
        (StackError("kafka does not start"), 1, "error: kafka does not start"),
        (DatabaseError("no database"), 1, "error: no database"),
        (ValueError("odd"), 1, "error: ValueError: odd (ENERGYAI_DEBUG=1 shows where)"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_error_is_one_line_on_stderr(
    command: types.ModuleType, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, line: str
) -> None:
    def run(args: argparse.Namespace) -> int:
        raise error

    command.run = run  # type: ignore[attr-defined]
    assert cli.main(["probe"]) == code
    assert capsys.readouterr() == ("", line + "\n")


def test_debug_shows_the_traceback(command: types.ModuleType, no_settings: pytest.MonkeyPatch) -> None:
    def run(args: argparse.Namespace) -> int:
        raise UserError("x")

    command.run = run  # type: ignore[attr-defined]
    no_settings.setenv("ENERGYAI_DEBUG", "1")
    with pytest.raises(UserError):
        cli.main(["probe"])


def test_no_command_prints_help_and_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert "COMMAND" in capsys.readouterr().out


def test_commands_that_are_listed_have_the_frame() -> None:
    assert {"up", "down", "status", "doctor"} <= set(cli.available())
    for name in cli.available():
        parser = cli.build_parser(name)
        with pytest.raises(SystemExit) as stop:
            parser.parse_args([name, "--help"])
        assert stop.value.code == 0


def test_help_imports_no_heavy_module() -> None:
    code = "import sys; from jobs import cli; cli.build_parser(None); print(' '.join(sys.modules))"
    root = Path(cli.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    heavy = {"pandas", "numpy", "pyarrow", "kafka", "psycopg2", "pyflink", "rich", "psutil", "yaml"}
    assert not heavy & set(done.stdout.split())


def test_status_of_nothing_is_3_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], no_settings: pytest.MonkeyPatch
) -> None:
    assert cli.main(["status", "--json", "--data-dir", str(tmp_path)]) == 3
    status = json.loads(capsys.readouterr().out)
    assert status["phase"] == "down"
    assert status["parts"] == {}
    assert {"kafka", "database_url", "flink_url"} <= set(status)


def test_down_of_nothing_is_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], no_settings: pytest.MonkeyPatch
) -> None:
    assert cli.main(["down", "--data-dir", str(tmp_path)]) == 0
    assert "nothing runs" in capsys.readouterr().out


def test_doctor_finds_unreachable_services_and_says_how_to_mend(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], no_settings: pytest.MonkeyPatch
) -> None:
    no_settings.setenv("ENERGYAI_KAFKA", "127.0.0.1:1")
    no_settings.setenv("ENERGYAI_FLINK_URL", "http://127.0.0.1:1")
    no_settings.setenv("ENERGYAI_DATABASE_URL", "postgresql://me:secret@127.0.0.1:1/x")
    assert cli.main(["doctor", "--json", "--data-dir", str(tmp_path)]) == 1
    output = capsys.readouterr().out
    assert "secret" not in output
    checks = {check["name"]: check for check in json.loads(output)["checks"]}
    for name in ("kafka", "database", "flink"):
        assert checks[name]["state"] == "fail"
        assert "ENERGYAI_" in checks[name]["mend"]
    assert checks["python"]["state"] == "ok"


@pytest.mark.parametrize("words", [["up", "--memory", "lots"], ["up", "--kafka-port", "99999"]])
def test_up_refuses_bad_options(
    words: list[str], capsys: pytest.CaptureFixture[str], no_settings: pytest.MonkeyPatch
) -> None:
    assert cli.main(words) == 2
    assert capsys.readouterr().err.startswith(f"error: {words[1]} {words[2]}")
