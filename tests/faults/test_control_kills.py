"""The control job on a live site while its parts die: leases end in failsafe, the limit holds, it goes on by itself."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from infra.embedded.stack import Stack
from jobs.device import Now
from jobs.simulation.live import LiveSite
from tests.control_site import LIMIT_KW, LOAD_KW, SITE, Controlled, controlled
from tests.faults.chaos import Chaos, until
from tests.faults.schedule import Fault

PREFIX = "control-kill-"
PARTS = ("worker", "taskmanager", "jobmanager", "kafka")
FAILSAFE_S = 20.0
TICK_S = 2.0
"""A device looks at its lease four times a second; two seconds are for a machine with other work."""


class Watched:
    """Looks at the devices all the time, and keeps each moment at which one followed a lease that was over."""

    def __init__(self, site: LiveSite) -> None:
        self.site = site
        self.outlived: list[tuple[str, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the look-out."""
        self._stop.set()
        self._thread.join(10)

    def _look(self) -> None:
        while not self._stop.wait(0.2):
            for name, driver in self.site.drivers.items():
                lane = driver.keeper.power
                lease, now = lane.current, Now.read()
                if lane.state == "active" and lease is not None and now.mono_s > lease.end_s + TICK_S:
                    self.outlived.append((name, now.mono_s - lease.end_s))


@pytest.fixture(scope="module")
def run(stack: Stack) -> Iterator[Controlled]:
    settings = {**SITE["settings"], "failsafe_min_s": FAILSAFE_S}
    with controlled(stack, PREFIX, {**SITE, "settings": settings}) as made:
        yield made


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_killed_parts_and_a_frozen_one_leave_a_safe_site(stack: Stack, run: Controlled) -> None:
    chaos = Chaos(stack, run.deployment, run.ids)
    until(lambda: set(run.site.states().values()) == {"active"}, "both devices follow leases")
    watched = Watched(run.site)
    try:
        for part in PARTS:
            begun_ms = time.time_ns() // 1_000_000
            chaos.run(Fault(0.0, part))
            until(lambda at=begun_ms: _newest_ms(run) > at + 5_000, f"leases are renewed after {part} was killed", 300)
        _freeze(stack, run)
        until(lambda: set(run.site.states().values()) == {"active"}, "devices follow leases again", 300)
    finally:
        watched.close()
    assert watched.outlived == []
    imported = np.array(run.site.import_kw)
    seconds = imported[:, 0] // 1000
    minutes = [imported[seconds // 60 == minute, 1].mean() for minute in np.unique(seconds // 60)[2:]]
    assert np.mean(minutes) <= LIMIT_KW, minutes
    sent = run.setpoints()
    assert len({s["setpoint_id"] for s in sent}) == len(sent)


def _newest_ms(run: Controlled) -> int:
    """When the older of the devices' present leases was made (epoch ms); 0 unless all have one."""
    lanes = [driver.keeper.power for driver in run.site.drivers.values()]
    if any(lane.state != "active" or lane.current is None for lane in lanes):
        return 0
    return min(lane.current.setpoint.execution_ms for lane in lanes if lane.current is not None)


def _freeze(stack: Stack, run: Controlled) -> None:
    """The TaskManager neither works nor dies, until each device has fallen back by itself."""
    pid = stack.status()["parts"]["taskmanager"]["pid"]
    frozen = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in frozen:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        until(lambda: set(run.site.states().values()) == {"failsafe"}, "devices fall back", 200)
        # The battery rests, the heating is off: the building alone.
        until(lambda: abs(run.site.import_kw[-1][1] - LOAD_KW) < 0.5, "only the building draws power", 30)
    finally:
        for process in frozen:
            if process.is_running():
                os.kill(process.pid, signal.SIGCONT)
