"""A seeded fleet of meters, with the truth beside what is sent: for scale, fault tests and the demo's `sim-…` meters.

The energy of every slot is counted in whole Wh first; registers, intervals and power samples are all derived from it,
so that their sums equal the truth exactly. Days are generated one at a time, in order: memory is bounded by a day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.replay.batch import Batch, ReplayError, batch, concat, empty
from jobs.replay.fleet_faults import Building, Faults, Gaps, Log, deliver, malformed
from jobs.replay.fleet_load import ARCHETYPES, DAY_MS, SLOT_MS, SLOTS, LoadModel, Place
from jobs.replay.sources import Source
from operators.readings import EXPORT_REGISTER, Kind

DEFAULT_START_MS = 1_704_067_200_000
"""2024-01-01T00:00Z, a Monday."""
KINDS = {"register": Kind.REGISTER, "interval": Kind.INTERVAL, "instant": Kind.INSTANT}
ENERGY_UNITS = (("kWh", 1000), ("Wh", 1), ("MWh", 1_000_000))


@dataclass(frozen=True)
class FleetSpec:
    """What to generate; the same spec gives the same bytes."""

    seed: int = 0
    meters: int = 20
    start_ms: int = DEFAULT_START_MS
    """Start of the first slot: a multiple of 15 minutes."""
    days: int = 7
    kinds: tuple[str, ...] = ("interval:900", "register:900", "interval:3600", "instant:60")
    """What the meters send, in turn: kind and seconds between readings (instant: a divisor of 900)."""
    faults: Faults = field(default_factory=Faults)
    place: Place = field(default_factory=Place)
    prefix: str = "sim-"
    register_max_kwh: int = 100_000
    """Where the registers that the faults make roll over do so."""

    def __post_init__(self) -> None:
        if self.start_ms % SLOT_MS:
            raise ReplayError("a fleet starts at a quarter of an hour")
        if self.meters < 1 or self.days < 1:
            raise ReplayError("a fleet has at least one meter and one day")
        for kind in self.kinds:
            name, _, seconds = kind.partition(":")
            step = int(seconds) if seconds.isdigit() else 0
            fits = step > 0 and (
                900 % step == 0 if name == "instant" else step % 900 == 0 and DAY_MS % (step * 1000) == 0
            )
            if name not in KINDS or not fits:
                raise ReplayError(f"no fleet kind {kind!r}: want e.g. interval:900, register:3600, instant:60")


class FleetDay(NamedTuple):
    """A day of a fleet."""

    batch: Batch
    """What arrives on the day, in delivery order; after the last day, also what arrives later."""
    wh: NDArray[np.int64]
    """[2, meters, 96]: true import and export of the day's slots, Wh."""


@dataclass(frozen=True)
class Fleet:
    """A whole fleet in memory."""

    spec: FleetSpec
    meters: pd.DataFrame
    """meter_id, archetype, kind, step_s, unit, feeds_in, register_max_kwh (0: none)."""
    readings: Batch
    """In delivery order."""
    wh: NDArray[np.int64]
    """[2, meters, slots]: true import and export, Wh; slot 0 starts at `spec.start_ms`."""
    faults: pd.DataFrame
    """What was injected: meter_id, fault, start_ms, end_ms, detail."""


class Generator:
    """Makes a fleet's days; `meters` is known at once, `log` grows with the days."""

    def __init__(self, spec: FleetSpec) -> None:
        self.spec = spec
        self.load = LoadModel(spec.seed, spec.meters, spec.start_ms, spec.place)
        self.log = Log()
        rng = np.random.default_rng([spec.seed, 3])
        index = np.arange(spec.meters)
        kinds = [spec.kinds[int(i)].partition(":") for i in (index + index // len(ARCHETYPES)) % len(spec.kinds)]
        self.ids = np.array([f"{spec.prefix}{ARCHETYPES[i % len(ARCHETYPES)].name}-{i}" for i in index], dtype=object)
        self.kind = np.array([KINDS[name] for name, _, _ in kinds], dtype=np.int8)
        self.step_s = np.array([int(seconds) for _, _, seconds in kinds], dtype=np.int64)
        unit = (index // 3) % len(ENERGY_UNITS)
        self.unit = np.array([ENERGY_UNITS[u][0] for u in unit], dtype=object)
        self.wh_per_unit = np.array([ENERGY_UNITS[u][1] for u in unit], dtype=np.float64)
        self.unit[self.kind == Kind.INSTANT] = "kW"
        rolls = (self.kind == Kind.REGISTER) & (rng.random(spec.meters) < spec.faults.rollovers)
        self.register_max = np.where(rolls, spec.register_max_kwh, 0)
        self.counted = rng.integers(0, 50_000_000, (2, spec.meters))
        near = (self.load.scale * rng.uniform(2, 20, spec.meters) * 1000).astype(np.int64)
        self.counted[0] = np.where(rolls, np.maximum(spec.register_max_kwh * 1000 - near, 0), self.counted[0])
        self.turns = np.zeros(spec.meters, dtype=np.int64)
        self.seq = np.zeros(spec.meters, dtype=np.int64)
        self.building = Building(spec.faults, self.ids, self.log)
        self.gaps = Gaps(spec.faults, self.ids, self.log)
        self.pending = empty()
        self.bad = 0

    @property
    def meters(self) -> pd.DataFrame:
        """One row a meter."""
        names = {int(kind): name for name, kind in KINDS.items()}
        return pd.DataFrame(
            {
                "meter_id": self.ids,
                "archetype": [ARCHETYPES[int(k)].name for k in self.load.kind],
                "kind": [names[int(k)] for k in self.kind],
                "step_s": self.step_s,
                "unit": self.unit,
                "feeds_in": self.load.feeds_in,
                "register_max_kwh": self.register_max,
            }
        )

    def days(self) -> Iterator[FleetDay]:
        """The days in order, once."""
        for day in range(self.spec.days):
            yield self._day(day)

    def _day(self, day: int) -> FleetDay:
        spec = self.spec
        begin = spec.start_ms + day * DAY_MS
        rng = np.random.default_rng([spec.seed, 4, day])
        factor = self.building.factor(day, spec.start_ms, rng)
        wh = self.building.hold(day, self.load.day(day, factor))
        readings, meter = self._readings(begin, wh, self._restarts(begin, rng), rng)
        keep = self.gaps.keep(readings, meter, begin, rng)
        arriving = [self.pending, deliver(readings.take(keep), spec.faults, begin, rng, self.log)]
        bad = malformed(self.ids, spec.faults, begin, self.bad, rng=rng, log=self.log)
        if bad is not None:
            self.bad += len(bad)
            arriving.append(bad)
        due = concat([part for part in arriving if len(part)]).by_delivery()
        # A reading at the day's end is the next day's first: its time may still see a delayed one.
        now = due.deliver_ms < begin + DAY_MS
        if day == spec.days - 1:
            now[:] = True
        self.pending = due.take(~now)
        return FleetDay(due.take(now), wh)

    def _restarts(self, begin: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """[2, meters]: the slot at whose end a register starts again (-1: none), and at which share of its count."""
        faults, n = self.spec.faults, self.spec.meters
        registers = (self.kind == Kind.REGISTER) & (self.register_max == 0)
        step = np.maximum(self.step_s // 900, 1)
        slot = (rng.integers(0, SLOTS, n) // step + 1) * step - 1
        draw = rng.random((3, n))
        out = np.zeros((2, n))
        out[0] = -1
        for row, (name, rate) in enumerate((("reset", faults.resets), ("replacement", faults.replacements))):
            for meter in np.flatnonzero(registers & (draw[row] < rate / 7) & (out[0] < 0) & (slot < SLOTS - 1)):
                # A used device in its place shows a count of its own; one that was reset shows what it counted since.
                out[:, meter] = slot[meter], 0.2 + 0.6 * draw[2, meter] if name == "replacement" else 0.0
                at = begin + (int(slot[meter]) + 1) * SLOT_MS
                self.log.add(str(self.ids[meter]), name, at, at, f"at {out[1, meter]:.2f} of its count")
        return out

    def _readings(
        self, begin: int, wh: NDArray[np.int64], restart: NDArray[np.float64], rng: np.random.Generator
    ) -> tuple[Batch, NDArray[np.int64]]:
        """The day's readings in time order, nothing gone wrong on the way yet, and the number of each one's meter."""
        total = np.concatenate([self.counted[:, :, None], self.counted[:, :, None] + np.cumsum(wh, axis=2)], axis=2)
        for meter in np.flatnonzero(restart[0] >= 0):
            last = int(restart[0, meter]) + 1
            count = total[:, meter, last : last + 1]
            total[:, meter, last + 1 :] += (count * restart[1, meter]).astype(np.int64) - count
        self.counted = total[:, :, -1]
        parts: list[Batch] = []
        owners: list[NDArray[np.int64]] = []
        for kind, step in sorted({(int(k), int(s)) for k, s in zip(self.kind, self.step_s, strict=True)}):
            mine = np.flatnonzero((self.kind == kind) & (self.step_s == step))
            if kind == Kind.INSTANT:
                parts.append(self._power(mine, step, begin, wh, rng))
                owners.append(np.repeat(mine, SLOTS * 900 // step))
                continue
            for side, register in ((0, ""), (1, EXPORT_REGISTER)):
                meters = mine if side == 0 else mine[self.load.feeds_in[mine]]
                if len(meters):
                    parts.append(
                        self._energy(meters, kind, step, begin, wh=wh[side], total=total[side], register=register)
                    )
                    owners.append(np.repeat(meters, len(parts[-1]) // len(meters)))
        together, owner = concat(parts), np.concatenate(owners)
        order = np.lexsort((owner, together.ts_ms))
        together, owner = together.take(order), owner[order]
        return self._numbered(together, owner), owner

    def _energy(
        self,
        meters: NDArray[np.int64],
        kind: int,
        step: int,
        begin: int,
        *,
        wh: NDArray[np.int64],
        total: NDArray[np.int64],
        register: str,
    ) -> Batch:
        """The day's intervals or counts of meters of one kind and step, in the order of the meters."""
        slots = step // 900
        if kind == Kind.INTERVAL:
            values = wh[meters].reshape(len(meters), SLOTS // slots, slots).sum(axis=2)
            stamps = begin + np.arange(1, SLOTS // slots + 1) * step * 1000
        else:
            # The very first reading opens the count: without it the first slot's energy could not be known.
            first = 0 if begin == self.spec.start_ms else 1
            values = total[meters][:, first * slots :: slots]
            stamps = begin + np.arange(first, SLOTS // slots + 1) * step * 1000
            top = self.register_max[meters] * 1000
            self._note_rollovers(meters, top, values, stamps)
            values = np.where(top[:, None] > 0, values % np.maximum(top, 1)[:, None], values)
        count = values.shape[1]
        return batch(
            np.repeat(self.ids[meters], count),
            np.tile(stamps, len(meters)),
            (values / self.wh_per_unit[meters][:, None]).ravel(),
            kind=np.full(values.size, kind, dtype=np.int8),
            unit=np.repeat(self.unit[meters], count),
            interval_s=step if kind == Kind.INTERVAL else 0,
            register=register,
        )

    def _note_rollovers(
        self, meters: NDArray[np.int64], top: NDArray[np.int64], values: NDArray[np.int64], stamps: NDArray[np.int64]
    ) -> None:
        turns = values // np.where(top > 0, top, np.iinfo(np.int64).max)[:, None]
        before = np.concatenate([self.turns[meters][:, None], turns[:, :-1]], axis=1)
        for row, column in zip(*np.nonzero(turns > before), strict=True):
            self.log.add(str(self.ids[meters[row]]), "rollover", int(stamps[column]), int(stamps[column]))
        self.turns[meters] = turns[:, -1]

    def _power(
        self, meters: NDArray[np.int64], step: int, begin: int, wh: NDArray[np.int64], rng: np.random.Generator
    ) -> Batch:
        """Net power at the end of every step; the mean over a slot's samples times 15 minutes is the slot's energy."""
        k = 900 // step
        net = wh[0, meters] - wh[1, meters]
        wobble = rng.normal(0, 0.05, (len(meters), SLOTS, k))
        level = net[:, :, None] * 4.0 * (1 + wobble - wobble.mean(axis=2, keepdims=True))
        watts = np.diff(np.round(np.cumsum(level, axis=2)), axis=2, prepend=0)
        watts[:, :, -1] += net * 4 * k - watts.sum(axis=2)
        stamps = begin + np.arange(1, SLOTS * k + 1) * step * 1000
        return batch(
            np.repeat(self.ids[meters], SLOTS * k),
            np.tile(stamps, len(meters)),
            (watts / 1000).ravel(),
            kind=Kind.INSTANT,
            unit="kW",
        )

    def _numbered(self, b: Batch, owner: NDArray[np.int64]) -> Batch:
        """The readings with each meter's running number."""
        order = np.argsort(owner, kind="stable")
        counts = np.bincount(owner, minlength=self.spec.meters)
        starts = np.repeat(np.cumsum(counts) - counts, counts)
        b.seq[order] = np.arange(len(b)) - starts + np.repeat(self.seq, counts)
        self.seq += counts
        return b


def generate(spec: FleetSpec) -> Fleet:
    """The whole fleet at once: for tests and small fleets (a reading takes about 150 bytes)."""
    generator = Generator(spec)
    days = list(generator.days())
    return Fleet(
        spec,
        generator.meters,
        concat([day.batch for day in days]),
        np.concatenate([day.wh for day in days], axis=2),
        generator.log.table(),
    )


def source(spec: FleetSpec) -> Source:
    """The fleet, ready to replay, a day in memory at a time."""
    return Source(
        f"fleet of {spec.meters} (seed {spec.seed})",
        spec.start_ms,
        spec.start_ms + spec.days * DAY_MS,
        lambda: (day.batch for day in Generator(spec).days() if len(day.batch)),
        [f"{spec.prefix}…: generated meters, seed {spec.seed}; nothing measured"],
    )


def demo_spec(start_ms: int, end_ms: int, meters: int = 20, seed: int = 7) -> FleetSpec:
    """The demo's generated meters: beside the real ones, over the same period, with a little of every fault."""
    faults = Faults(
        spikes=0.05,
        drops=0.05,
        level_shifts=0.02,
        stuck=0.03,
        resets=0.2,
        rollovers=0.5,
        negatives=0.02,
        missing=0.1,
        duplicates=0.002,
        out_of_order=0.01,
        late=0.002,
        late_max_h=48.0,
        revisions=0.002,
        conflicts=0.0005,
        malformed=0.15,
    )
    place = Place(latitude=34.1, longitude=-117.4, tz="America/Los_Angeles", mean_c=18.0, swing_c=7.0)
    kinds = ("interval:900", "register:900", "interval:3600", "register:3600", "instant:300")
    return FleetSpec(seed, meters, start_ms, (end_ms - start_ms) // DAY_MS, kinds, faults, place)
