"""Fixtures that all the tests share: one real stack for the whole session."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from infra.embedded.options import StackOptions, default_home
from infra.embedded.stack import Stack

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would the programs that tests start and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test is timed: on a busy machine an example may take long.
settings.register_profile("energyai", deadline=None)
settings.load_profile("energyai")

TIERS = ("integration", "faults", "bench", "proofs")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Sizes of the tests that may be as long as one likes."""
    sizes = parser.getgroup("energyai", "sizes of long tests")
    sizes.addoption("--fuzz-records", type=int, default=3_000, help="hostile records of tests/integration/test_fuzz.py")
    sizes.addoption("--fuzz-seed", type=int, default=1, help="their seed")
    sizes.addoption("--year-days", type=int, default=21, help="days of tests/proofs/test_year.py; the proof has 365")
    sizes.addoption("--year-meters", type=int, default=16, help="its meters; the proof has 50")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test's folder is its tier."""
    for item in items:
        for tier in TIERS:
            if tier in item.path.parts:
                item.add_marker(tier)


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[Stack]:
    """Kafka, TimescaleDB and Flink on free ports, migrated and with their topics, for the whole session.

    Tests share it: use topics, meters and jobs of your own, and cancel the jobs that you started.
    """
    home = Path(os.environ.get("ENERGYAI_HOME") or default_home())
    running = Stack(StackOptions(tmp_path_factory.mktemp("stack"), home=home))
    begun = time.monotonic()
    status = running.up()
    say = pytestconfig.get_terminal_writer().line
    parts = ", ".join(f"{name} {part['ready_s']} s" for name, part in status["parts"].items())
    say(f"\nstack up in {time.monotonic() - begun:.1f} s ({parts})")
    yield running
    begun = time.monotonic()
    running.down()
    say(f"\nstack down in {time.monotonic() - begun:.1f} s")


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without any ENERGYAI_ variable."""
    for name in list(os.environ):
        if name.startswith("ENERGYAI_"):
            monkeypatch.delenv(name)
    return monkeypatch
