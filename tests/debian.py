"""Programs of Debian packages for tests (Prometheus, Alertmanager), unpacked beside the other fetched parts, once."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SHARE = b"/usr/share/prometheus/alertmanager"
"""Where Debian's Alertmanager looks for its templates, which are installed nowhere here."""

VERIFIED = (
    "-o", "APT::Get::AllowUnauthenticated=false",
    "-o", "Acquire::AllowInsecureRepositories=false",
    "-o", "Acquire::AllowDowngradeToInsecureRepositories=false",
)  # fmt: skip
"""No hash is pinned here: Debian's mirrors keep only the newest version of a package. apt checks the archive against
the SHA-256 in the list that Debian has signed; this keeps a machine's configuration from switching that off.
"""


def program(package: str, binary: str, home: Path) -> Path:
    """The path of a package's program; fetched with apt, installed nowhere: run it in its package's folder (`root`).

    What it needs of `/usr/share` is made relative to that folder: the same path of the same length, in the binary.

    Args:
        package: Debian's name.
        binary: path inside the package.
        home: folder of fetched parts.
    """
    folder = root(package, home)
    found = folder / binary
    if not found.is_file():
        draft = folder.with_name(f".{package}-{os.getpid()}")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        done = _run(["apt-get", *VERIFIED, "download", package], draft)
        if done.returncode:  # lists that are missing or old
            _run(["apt-get", *VERIFIED, "update"], draft)
            done = _run(["apt-get", *VERIFIED, "download", package], draft)
        archives = list(draft.glob("*.deb"))
        assert archives, f"{package} cannot be downloaded: {done.stderr[-300:]}"
        done = _run(["dpkg", "-x", str(archives[0]), str(draft)], draft)
        assert done.returncode == 0, done.stderr
        archives[0].unlink()
        content = (draft / binary).read_bytes()
        (draft / binary).write_bytes(content.replace(SHARE, SHARE[1:].replace(b"/", b"//", 1)))
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    return found


def root(package: str, home: Path) -> Path:
    """The folder that a package was unpacked into."""
    return home / "parts" / "debian" / package


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
