"""`energyai models` without a stack: what needs none, and one clear line where one is needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs import cli
from tests.unit.serving_support import trained


@pytest.fixture
def home(tmp_path: Path, no_settings: pytest.MonkeyPatch) -> Path:
    no_settings.setenv("ENERGYAI_HOME", str(tmp_path / "home"))
    return tmp_path


def test_versions_are_registered_listed_and_shown_without_a_stack(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["models", "list"]) == 0
    assert "register FILE" in capsys.readouterr().out
    path = trained(home / "new", 1.5, train_until="2020-01-01")
    assert cli.main(["models", "register", str(path)]) == 0
    assert "forecaster version 1" in capsys.readouterr().out
    assert cli.main(["models", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["version"], row["alias"], row["model_id"]) for row in found["versions"]] == [(1, None, "test-1.5-0.3")]
    assert found["announcements"] == []
    assert cli.main(["models", "show", "1"]) == 0
    assert "SHA-256" in capsys.readouterr().out
    assert cli.main(["models", "keys", "--json"]) == 0
    (key,) = json.loads(capsys.readouterr().out)["public_keys"]
    assert len(bytes.fromhex(key)) == 32


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["show", "7"], "energyai models list"),
        (["register", "nowhere.onnx"], "card beside it"),
        (["promote", "1"], "energyai up"),
        (["rollback"], "energyai up"),
        (["withdraw"], "energyai up"),
        (["announce"], "energyai up"),
    ],
)
def test_what_cannot_be_done_is_one_line_that_says_what_to_do(
    home: Path, capsys: pytest.CaptureFixture[str], words: list[str], says: str
) -> None:
    assert cli.main(["models", *words]) in (1, 3)
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ")
    assert says in told
    assert "\n" not in told


def test_a_version_signed_by_somebody_else_is_not_trusted(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "register", str(trained(home / "new"))]) == 0
    (home / "home/keys/model-signing.pem").unlink()
    assert cli.main(["models", "show", "1"]) == 1
    assert "not trusted" in capsys.readouterr().err
