"""The other engines' environment: `tests/bench/peers.lock` and `peers-jars.lock`, by hash, in `<home>/peers`.

`python -m tests.bench.peers` installs it; `--lock` resolves peers.lock again from peers.in. EnergyAI needs none of it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.embedded import artifacts
from infra.embedded.errors import StackError
from infra.embedded.options import PROJECT_ROOT, default_home

FOLDER = Path(__file__).parent
PACKAGES = FOLDER / "peers.in"
LOCK = FOLDER / "peers.lock"
JARS_LOCK = FOLDER / "peers-jars.lock"
BOOTSTRAP = PROJECT_ROOT / "infra" / "bootstrap.txt"


@dataclass(frozen=True)
class Peers:
    """Where it is."""

    folder: Path

    @classmethod
    def of(cls, home: Path) -> Peers:
        """The peers' environment of a home folder (`.energyai`)."""
        return cls(home / "peers")

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    @property
    def jars(self) -> Path:
        return self.folder / "jars" / "spark"

    def ready(self) -> bool:
        """Whether it holds what the locks name."""
        stamp = self.folder / ".installed"
        return self.python.exists() and stamp.is_file() and stamp.read_text() == digest()

    def install(self, say: Callable[[str], None] = print) -> None:
        """Makes it hold what the locks name; nothing when it does.

        Raises:
            StackError: a package or jar cannot be had.
        """
        if self.ready():
            return
        say("The other engines, in an environment of their own: about 600 MB the first time (Spark is most of it) …")
        self.folder.mkdir(parents=True, exist_ok=True)
        uv = [sys.executable, "-m", "uv"]
        run([*uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(self.folder / "venv")])
        install = [*uv, "pip", "install", "--python", str(self.python), "--require-hashes", "-r", str(LOCK)]
        run([*install, "--build-constraints", str(BOOTSTRAP)])
        for jar in artifacts.read_lock(JARS_LOCK):
            artifacts.fetch_jar(jar, self.folder / "jars")
        (self.folder / ".installed").write_text(digest())


def digest() -> str:
    """What the environment depends on."""
    text = b"\0".join(path.read_bytes() for path in (LOCK, JARS_LOCK, BOOTSTRAP))
    return hashlib.sha256(text + sys.version.encode()).hexdigest()


def run(command: list[str]) -> None:
    """A step whose output is shown.

    Raises:
        StackError: it failed.
    """
    if subprocess.run(command, cwd=PROJECT_ROOT, check=False).returncode:
        raise StackError(
            f"`{' '.join(command[1:5])} …` failed (see above): mend that, often the network, and run again"
        )


def lock() -> None:
    """Resolves peers.lock again."""
    options = ["--generate-hashes", "--universal", "--python-version", "3.11", "--no-emit-index-url", "--no-header"]
    os.environ["UV_FIND_LINKS"] = ""
    packages = str(PACKAGES.relative_to(PROJECT_ROOT))
    run([sys.executable, "-m", "uv", "pip", "compile", "--quiet", *options, packages, "-o", str(LOCK)])


def main() -> int:
    """Installs, or resolves again."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers", description=__doc__)
    parser.add_argument("--lock", action="store_true", help="resolve peers.lock again")
    parser.add_argument("--home", type=Path, default=Path(os.environ.get("ENERGYAI_HOME") or default_home()))
    args = parser.parse_args()
    try:
        if args.lock:
            lock()
        else:
            Peers.of(args.home.absolute()).install()
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
