"""The archive that is shipped to workers: whole, importable, and made anew only when a file changes."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

from jobs import package


def test_the_archive_can_be_imported_from_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = package.archive()
    names = zipfile.ZipFile(made).namelist()
    assert {"operators/shard.py", "jobs/forecast.py"} <= set(names)
    assert any(name.endswith(".onnx") for name in names)
    assert not any("__pycache__" in name for name in names)
    code = "import operators.shard, operators.forecast_messages; print(operators.shard.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(made)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(made) in done.stdout


def test_it_is_made_once_and_again_when_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(package, "ROOT", tmp_path / "project")
    source = tmp_path / "project" / "jobs" / "one.py"
    source.parent.mkdir(parents=True)
    source.write_text("A = 1")
    first = package.archive()
    stamp = first.stat().st_mtime_ns
    assert package.archive() == first
    assert first.stat().st_mtime_ns == stamp
    source.write_text("A = 2")
    second = package.archive()
    assert second != first
    assert zipfile.ZipFile(second).read("jobs/one.py") == b"A = 2"
    assert sorted(path.name for path in tmp_path.glob("*.zip")) == sorted([first.name, second.name]), "no part is left"
