"""Programs of Debian packages for tests (Prometheus, Alertmanager), unpacked beside the other fetched parts, once."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


def program(package: str, binary: str, home: Path) -> Path:
    """The path of a package's program; fetched with apt, installed nowhere.

    Args:
        package: Debian's name.
        binary: path inside the package.
        home: folder of fetched parts.
    """
    folder = home / "parts" / "debian" / package
    found = folder / binary
    if not found.is_file():
        draft = folder.with_name(f".{package}-{os.getpid()}")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        done = _run(["apt-get", "download", package], draft)
        if done.returncode:  # lists that are missing or old
            _run(["apt-get", "update"], draft)
            done = _run(["apt-get", "download", package], draft)
        archives = list(draft.glob("*.deb"))
        assert archives, f"{package} cannot be downloaded: {done.stderr[-300:]}"
        done = _run(["dpkg", "-x", str(archives[0]), str(draft)], draft)
        assert done.returncode == 0, done.stderr
        archives[0].unlink()
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    return found


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
