"""Setting up: only what the lock names, with its hashes."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from infra import setup_env

LOCK = "foo-bar==1.0 ; python_version < '3.12' \\\n    --hash=sha256:00\nbaz==2.1 \\\n    --hash=sha256:11\n"


def test_requirements_are_the_names_in_setup_py_and_each_is_locked() -> None:
    text = (setup_env.ROOT / "setup.py").read_text()
    for groups in setup_env.PROFILES.values():
        names = setup_env.requirements(text, groups)
        assert len(setup_env.pinned(setup_env.LOCK.read_text(), names)) == len(names) > 10
    assert "torch" not in setup_env.requirements(text, setup_env.PROFILES["runtime"])


def test_a_package_that_is_not_locked_is_an_error() -> None:
    assert setup_env.pinned(LOCK, ["baz", "foo-bar"]) == ["baz==2.1", "foo-bar==1.0"]
    with pytest.raises(setup_env.SetupError, match="lacks other: run `make lock`"):
        setup_env.pinned(LOCK, ["baz", "other"])


def test_a_local_wheel_is_accepted_beside_the_published_ones(tmp_path: Path) -> None:
    (tmp_path / "baz-2.1+cpu-cp311-cp311-linux_x86_64.whl").write_bytes(b"wheel")
    (tmp_path / "baz-9.9-py3-none-any.whl").write_bytes(b"another version")
    digest = hashlib.sha256(b"wheel").hexdigest()
    once = setup_env.with_local_wheels(LOCK, tmp_path)
    assert once == LOCK.replace("baz==2.1 \\\n", f"baz==2.1 \\\n    --hash=sha256:{digest} \\\n")
    assert setup_env.with_local_wheels(once, tmp_path) == once
    assert setup_env.naming_local_wheels(once, tmp_path) == once.replace("baz==2.1 ", "baz==2.1+cpu ")
    assert setup_env.naming_local_wheels(LOCK, tmp_path) == LOCK, "a wheel whose hash is not locked is not used"


def test_the_locks_hold_hashes_and_no_addresses() -> None:
    for path in (setup_env.LOCK, setup_env.BOOTSTRAP):
        text = path.read_text()
        assert "://" not in text
        pins = re.findall(r"^[a-z0-9._-]+==.*", text, re.MULTILINE)
        assert pins
        assert all(pin.endswith("\\") for pin in pins), "a pin without a hash"


def test_the_tools_that_build_are_the_locked_ones() -> None:
    (wanted,) = setup_env.pinned(setup_env.LOCK.read_text(), ["setuptools"])
    assert f"\n{wanted} " in "\n" + setup_env.BOOTSTRAP.read_text()
