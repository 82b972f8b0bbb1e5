"""A schedule of faults out of a seed: what happens to the stack, the jobs and the records, and when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

KILLS = ("taskmanager", "jobmanager", "worker", "kafka", "database", "gate")
"""What is killed with -9; `worker` is a Python process of the TaskManager, `gate` what clients of the database see."""
TROUBLES = ("database-stopped", "database-locked", "disk-full")
"""What the database suffers for some seconds."""
RESTARTS = ("restart-ingest", "restart-forecast")
"""Stop with a savepoint, and go on from it."""
FIRST, LAST = 0.05, 0.88
"""Faults begin within these shares of the replay: some of it is undisturbed, and something comes after the last."""
CLOSE = 0.02
"""The most that parts two faults which come close together."""


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong."""

    at: float
    """Share of the replay's records that were sent by then."""
    what: str
    """One of KILLS, TROUBLES, RESTARTS."""
    seconds: float = 0.0
    """How long a trouble lasts."""
    parallelism: int = 0
    """With which a job is restarted."""

    def __str__(self) -> str:
        detail = f" {self.seconds:.0f} s" if self.seconds else f" at parallelism {self.parallelism}"
        return f"{self.at:.2f} {self.what}{'' if self.what in KILLS else detail}"


@dataclass(frozen=True)
class Schedule:
    """All that a seed decides."""

    seed: int
    faults: tuple[Fault, ...]
    """In order of time."""
    duplicates: float
    """Chance that a record is the last of a burst that a producer sends again."""
    poison: float
    """Chance that a record that is no reading follows a record."""
    parallelism: int
    """With which the jobs start."""

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: parallelism {self.parallelism}, {self.duplicates:.1%} bursts sent again,"
            f" {self.poison:.1%} poison; {'; '.join(str(fault) for fault in self.faults)}"
        )


def schedule(seed: int) -> Schedule:
    """The schedule of a seed: four to six faults, kinds in turn from seed to seed, some close together."""
    rng = np.random.default_rng([seed, 1])
    count = int(rng.integers(4, 7))
    # Dealt like cards, one suit after the other by seed, so that few seeds have all kinds between them.
    kills = [KILLS[(seed + i) % len(KILLS)] for i in range(count - 2)]
    rest = [TROUBLES[seed % len(TROUBLES)], RESTARTS[seed % len(RESTARTS)]]
    whats = [str(what) for what in rng.permutation([*kills, *rest])]
    near = rng.random(count) < 0.4
    places = np.sort(rng.uniform(FIRST, LAST, count))
    for i in range(1, count):
        if near[i]:
            places[i] = places[i - 1] + rng.uniform(0, CLOSE)
    faults = sorted(
        (_fault(float(at), what, rng) for at, what in zip(places, whats, strict=True)), key=lambda fault: fault.at
    )
    return Schedule(
        seed,
        tuple(faults),
        duplicates=float(rng.uniform(0.01, 0.03)),
        poison=float(rng.uniform(0.02, 0.04)),
        parallelism=int(rng.integers(1, 3)),
    )


def _fault(at: float, what: str, rng: np.random.Generator) -> Fault:
    if what in TROUBLES:
        return Fault(at, what, seconds=float(rng.uniform(3, 8)))
    if what in RESTARTS:
        return Fault(at, what, parallelism=int(rng.integers(1, 3)))
    return Fault(at, what)
