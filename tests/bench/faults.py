"""Faults put into clean series by a seed, and how well events find them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

KINDS = ("spike", "drop", "stuck", "level_shift", "time_shift", "missing")
HOURS = {"drop": (2, 12), "stuck": (6, 24), "level_shift": (24, 72), "time_shift": (24, 72), "missing": (3, 24)}
"""Length of each; a spike has one to three steps."""
GAP_DAYS = (4, 9)
"""Between one fault and the next."""
GRACE = 2
"""Steps after a fault in which an event still belongs to it."""
FLAT_RUN = 4
ODD = 8.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fault:
    """Steps [first, stop) of one meter."""

    meter: int
    kind: str
    first: int
    stop: int


def clean(kwh: Floats, per_hour: int) -> bool:
    """Whether a stretch [t] may be taken for normal; looks at all of it, later steps too, and asks no forecast.

    Nothing is missing; no value repeats itself more often in a row than FLAT_RUN where repeats are rare; and no step is
    further from the median of its hour of the day, or changed more, than ODD times the usual.
    """
    if not np.isfinite(kwh).all() or kwh.std() < 1e-9:
        return False
    same = np.diff(kwh) == 0
    if same.mean() > 0.15:
        return False
    run = longest = 0
    for repeats in same.tolist():
        run = run + 1 if repeats else 0
        longest = max(longest, run)
    if longest >= FLAT_RUN:
        return False
    day = 24 * per_hour
    by_hour = kwh[: len(kwh) // day * day].reshape(-1, day)
    off = np.abs(by_hour - np.median(by_hour, axis=0))
    change = np.abs(np.diff(kwh))
    return bool(off.max() < ODD * off.mean() and change.max() < 2 * ODD * change.mean())


def inject(kwh: Floats, per_hour: int, warm: int, rng: np.random.Generator, meter: int) -> tuple[Floats, list[Fault]]:
    """A clean stretch [t] with faults after its first `warm` steps; sizes in standard deviations of those."""
    y, faults = kwh.copy(), []
    deviation, positive = kwh[:warm].std(), bool((kwh >= 0).all())
    at = warm + int(rng.integers(0, 4 * 24 * per_hour))
    while True:
        kind = KINDS[int(rng.integers(len(KINDS)))]
        low, high = HOURS.get(kind, (0, 0))
        length = int(rng.integers(1, 4)) if kind == "spike" else int(rng.integers(low * per_hour, high * per_hour + 1))
        if at + length + 48 * per_hour >= len(kwh):
            return y, faults
        steps = slice(at, at + length)
        if kind == "spike":
            y[steps] += rng.uniform(3, 6) * deviation
        elif kind == "drop":
            y[steps] = 0.0
        elif kind == "stuck":
            y[steps] = kwh[at - 1]
        elif kind == "level_shift":
            y[steps] += rng.uniform(1, 2.5) * deviation * rng.choice((-1.0, 1.0))
            y[steps] = np.maximum(y[steps], 0.0) if positive else y[steps]
        elif kind == "time_shift":
            late = int(rng.integers(2 * per_hour, 6 * per_hour + 1))
            y[steps] = kwh[at - late : at - late + length]
        else:
            y[steps] = np.nan
        faults.append(Fault(meter, kind, at, at + length))
        at += length + int(rng.integers(GAP_DAYS[0] * 24 * per_hour, GAP_DAYS[1] * 24 * per_hour))


@dataclass
class Score:
    """Counts that add up over sets and seeds."""

    faults: int = 0
    found: int = 0
    false: int = 0
    days: float = 0.0
    delays: tuple[int, ...] = ()
    by_kind: tuple[tuple[str, bool], ...] = ()

    def __add__(self, other: Score) -> Score:
        return Score(
            self.faults + other.faults, self.found + other.found, self.false + other.false, self.days + other.days,
            self.delays + other.delays, self.by_kind + other.by_kind,
        )  # fmt: skip

    def figures(self) -> dict[str, object]:
        """F1, precision and recall of events, median delay in steps after a fault's first, false alarms a meter-day."""
        precision = self.found / max(self.found + self.false, 1)
        recall = self.found / max(self.faults, 1)
        kinds = {kind: [found for name, found in self.by_kind if name == kind] for kind in KINDS}
        return {
            "f1": round(2 * precision * recall / max(precision + recall, 1e-9), 3),
            "precision": round(precision, 3),
            "recall": round(recall, 3),
            "delay_steps": float(np.median(self.delays)) if self.delays else None,
            "false_a_meter_day": round(self.false / max(self.days, 1e-9), 4),
            "faults": self.faults,
            "meter_days": round(self.days, 1),
            "recall_by_kind": {kind: round(float(np.mean(found)), 2) for kind, found in kinds.items() if found},
        }


def score(opened: Iterable[tuple[int, int]], faults: list[Fault], warm: int, shape: tuple[int, int], k: int) -> Score:
    """Events (meter, step at which they became known) against faults; any event of a fault finds it."""
    delay: dict[Fault, int] = {}
    false = 0
    of_meter: dict[int, list[Fault]] = {}
    for fault in faults:
        of_meter.setdefault(fault.meter, []).append(fault)
    for meter, step in sorted(opened):
        if step < warm:
            continue
        hit = [f for f in of_meter.get(meter, []) if f.first <= step < f.stop + GRACE]
        if hit:
            delay.setdefault(hit[0], step - hit[0].first)
        else:
            false += 1
    days = shape[0] * (shape[1] - warm) / (24 * k)
    kinds = tuple((fault.kind, fault in delay) for fault in faults)
    return Score(len(faults), len(delay), false, days, tuple(delay.values()), kinds)
