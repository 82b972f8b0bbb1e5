"""What goes wrong on the way from a generated meter, and the record of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray

from jobs.replay.batch import Batch, batch, concat
from jobs.replay.fleet_load import DAY_MS, SLOT_MS, SLOTS
from operators.readings import Kind, Quality

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
REJECT_CODES = (
    "not_json",
    "missing_field",
    "bad_type",
    "bad_unit",
    "bad_ts",
    "ts_in_future",
    "not_finite",
    "unknown_kind",
    "too_large",
)


@dataclass(frozen=True)
class Faults:
    """How often each fault occurs; all 0 is a fleet without any.

    The first group is what the building did and the meter measured; the second what the meter or its exchange did;
    the third what the way to us did.
    """

    spikes: float = 0.0
    """A meter and week: 1 to 4 slots at 5 to 10 times the load."""
    drops: float = 0.0
    """A meter and week: 2 to 12 hours at 3% of the load."""
    level_shifts: float = 0.0
    """A meter and week: 1.5 or 0.6 times the load from then on."""
    stuck: float = 0.0
    """A meter and week: 12 to 36 hours of the same value."""

    resets: float = 0.0
    """A register meter and week: the register starts again from 0 right after a reading."""
    replacements: float = 0.0
    """A register meter and week: another device in its place, which shows 20 to 80% of the old one's count."""
    rollovers: float = 0.0
    """Share of the register meters that start so near `register_max_kwh` that they pass it in the first days."""
    negatives: float = 0.0
    """A meter and week: an interval value with the wrong sign, quality invalid."""
    missing: float = 0.0
    """A meter and week: 1 to 48 hours of which nothing is ever sent."""

    duplicates: float = 0.0
    """Share of the readings that are sent again, within 10 minutes."""
    out_of_order: float = 0.0
    """Share of the readings that come up to 15 minutes later than the rest."""
    late: float = 0.0
    """Share of the readings that come 1 hour to `late_max_h` later."""
    late_max_h: float = 167.0
    revisions: float = 0.0
    """Share of the interval readings that come as an estimate first, 20% off, and as revision 1 within a day."""
    conflicts: float = 0.0
    """Share of the interval readings that come again with a lower value and no higher revision."""
    malformed: float = 0.0
    """Records a meter and week that are to be rejected, the codes in turn."""
    too_large_bytes: int = 200_000
    """Size of the record that is to be rejected as too large."""

    @classmethod
    def all(cls, scale: float = 1.0) -> Faults:
        """Every fault, at a rate fit for tests; `scale` times as often."""
        weekly: dict[str, Any] = dict.fromkeys(
            ("spikes", "drops", "level_shifts", "stuck", "resets", "replacements", "negatives", "missing", "malformed"),
            0.3 * scale,
        )
        shares: dict[str, Any] = dict.fromkeys(
            ("duplicates", "out_of_order", "late", "revisions", "conflicts"), min(1.0, 0.02 * scale)
        )
        return replace(cls(rollovers=min(1.0, 0.3 * scale)), **weekly, **shares)


@dataclass
class Log:
    """The record of what was injected."""

    rows: list[tuple[str, str, int, int, str]] = field(default_factory=list)

    def add(self, meter: str, kind: str, start_ms: int, end_ms: int, detail: str = "") -> None:
        """One fault of a meter over [start, end)."""
        self.rows.append((meter, kind, start_ms, end_ms, detail))

    def table(self) -> pd.DataFrame:
        """Columns meter_id, fault, start_ms, end_ms, detail."""
        return pd.DataFrame(self.rows, columns=["meter_id", "fault", "start_ms", "end_ms", "detail"])


@dataclass
class Building:
    """The faults of loads over time: what a day's load is multiplied by, and what is held."""

    faults: Faults
    meters: NDArray[np.object_]
    log: Log
    level: NDArray[np.float64] = field(init=False)
    spans: list[tuple[int, int, int, float]] = field(default_factory=list)
    """(meter, first slot, end slot, factor), slots counted from the start."""
    held: list[tuple[int, int, int]] = field(default_factory=list)
    """(meter, first slot, end slot): stuck."""
    held_wh: dict[tuple[int, int, int], NDArray[np.int64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.level = np.ones(len(self.meters))

    def factor(self, day: int, start_ms: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """[meters, 96]: what the day's loads are multiplied by; draws the faults that begin on it."""
        begin = day * SLOTS
        for name, rate in (
            ("spike", self.faults.spikes),
            ("drop", self.faults.drops),
            ("level_shift", self.faults.level_shifts),
            ("stuck", self.faults.stuck),
        ):
            for meter in np.flatnonzero(rng.random(len(self.meters)) < rate / 7):
                self._begin(name, int(meter), begin + int(rng.integers(SLOTS)), start_ms, rng)
        out = np.repeat(self.level[:, None], SLOTS, axis=1)
        for meter, first, end, factor in self.spans:
            out[meter, max(0, first - begin) : max(0, min(SLOTS, end - begin))] *= factor
            if end >= 1 << 40 and begin <= first < begin + SLOTS:
                self.level[meter] *= factor
        self.spans = [span for span in self.spans if begin + SLOTS < span[2] < 1 << 40]
        return out

    def _begin(self, name: str, meter: int, slot: int, start_ms: int, rng: np.random.Generator) -> None:
        length, factor = {
            "spike": (int(rng.integers(1, 5)), float(rng.uniform(5, 10))),
            "drop": (int(rng.integers(8, 49)), 0.03),
            "level_shift": (1 << 40, float(rng.choice([1.5, 0.6]))),
            "stuck": (int(rng.integers(48, 145)), 1.0),
        }[name]
        end = 1 << 40 if name == "level_shift" else slot + length
        if name == "stuck":
            self.held.append((meter, slot, end))
        else:
            self.spans.append((meter, slot, end, factor))
        last = start_ms + slot * SLOT_MS if name == "level_shift" else start_ms + end * SLOT_MS
        self.log.add(str(self.meters[meter]), name, start_ms + slot * SLOT_MS, last, f"×{factor:.2f}")

    def hold(self, day: int, wh: NDArray[np.int64]) -> NDArray[np.int64]:
        """[2, meters, 96] with the stuck stretches held at their first slot's value."""
        begin = day * SLOTS
        for span in self.held:
            meter, first, end = span
            if begin <= first < begin + SLOTS:
                self.held_wh[span] = wh[:, meter, first - begin].copy()
            low, high = max(0, first - begin), min(SLOTS, end - begin)
            if span in self.held_wh and low < high:
                wh[:, meter, low:high] = self.held_wh[span][:, None]
        self.held = [span for span in self.held if span[2] > begin + SLOTS]
        return wh


@dataclass
class Gaps:
    """Stretches of which nothing is sent."""

    faults: Faults
    meters: NDArray[np.object_]
    log: Log
    spans: list[tuple[int, int, int]] = field(default_factory=list)

    def keep(self, b: Batch, meter: NDArray[np.int64], day_ms: int, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Which of a day's readings are sent at all."""
        for index in np.flatnonzero(rng.random(len(self.meters)) < self.faults.missing / 7):
            start = day_ms + int(rng.integers(SLOTS)) * SLOT_MS
            end = start + int(rng.integers(4, 193)) * SLOT_MS
            self.spans.append((int(index), start, end))
            self.log.add(str(self.meters[index]), "missing", start, end)
        keep = np.ones(len(b), dtype=bool)
        for index, start, end in self.spans:
            keep &= ~((meter == index) & (b.ts_ms > start) & (b.ts_ms <= end))
        self.spans = [span for span in self.spans if span[2] > day_ms + DAY_MS]
        return keep


def deliver(b: Batch, faults: Faults, day_ms: int, rng: np.random.Generator, log: Log) -> Batch:
    """A day's readings as they arrive: some again, late, out of order, revised, in conflict, with the wrong sign."""
    n = len(b)
    delay = np.zeros(n, dtype=np.int64)
    slow = rng.random(n) < faults.out_of_order
    delay[slow] = rng.integers(1_000, 15 * MINUTE_MS, int(slow.sum()))
    late = rng.random(n) < faults.late
    delay[late] = rng.integers(HOUR_MS, int(faults.late_max_h * HOUR_MS), int(late.sum()))
    _note(log, b, late, "late")
    _note(log, b, slow & ~late, "out_of_order")
    deliver_ms = b.deliver_ms + delay

    interval = (b.kind == Kind.INTERVAL) & (b.value > 0)
    revised = interval & (rng.random(n) < faults.revisions)
    lower = interval & ~revised & (rng.random(n) < faults.conflicts)
    wrong = interval & ~revised & ~lower & (rng.random(n) < faults.negatives / 7 / 24)
    twice = ~revised & ~lower & (rng.random(n) < faults.duplicates)
    off = np.where(rng.random(n) < 0.5, 0.8, 1.2)
    value = np.where(revised, b.value * off, np.where(wrong, -b.value, b.value))
    quality = np.where(revised, Quality.ESTIMATED, np.where(wrong, Quality.INVALID, b.quality)).astype(np.int8)
    sent = replace(b, deliver_ms=deliver_ms, value=value, quality=quality)
    pause = rng.integers(1_000, 10 * MINUTE_MS, n)
    again = [
        sent,
        replace(sent, deliver_ms=deliver_ms + pause).take(twice),
        replace(b, deliver_ms=deliver_ms + pause * 140, revision=np.ones(n, dtype=np.int64)).take(revised),
        replace(sent, deliver_ms=deliver_ms + pause, value=b.value * 0.9).take(lower),
    ]
    for mask, name in ((twice, "duplicate"), (revised, "revision"), (lower, "conflict"), (wrong, "negative")):
        _note(log, b, mask, name)
    return concat(again)


def malformed(
    meters: NDArray[np.object_], faults: Faults, day_ms: int, first: int, *, rng: np.random.Generator, log: Log
) -> Batch | None:
    """A day's records that are to be rejected, the codes in turn from number `first` on; None on a day without."""
    count = int(rng.poisson(faults.malformed / 7 * len(meters)))
    if not count:
        return None
    chosen = meters[rng.integers(len(meters), size=count)]
    stamps = np.sort(day_ms + rng.integers(0, DAY_MS, count))
    raw = np.empty(count, dtype=object)
    for row in range(count):
        code = REJECT_CODES[(first + row) % len(REJECT_CODES)]
        raw[row] = bad_record(code, str(chosen[row]), int(stamps[row]), faults.too_large_bytes)
        log.add(str(chosen[row]), code, int(stamps[row]), int(stamps[row]), "rejected")
    return batch(chosen, stamps, np.zeros(count), raw=raw)


def bad_record(code: str, meter: str, ts_ms: int, too_large_bytes: int = 200_000) -> bytes:
    """A record for the dead letter, wrong in the one way that `code` names."""
    good: dict[str, object] = {
        "meter_id": meter,
        "kind": "interval",
        "unit": "kWh",
        "interval_s": 900,
        "ts": ts_ms,
        "value": 1.5,
    }
    if code == "not_json":
        return orjson.dumps(good)[:-9]
    if code == "not_finite":
        return orjson.dumps(good).replace(b'"value":1.5', b'"value":1e999')
    if code == "missing_field":
        del good["value"]
    wrong: dict[str, dict[str, object]] = {
        "bad_type": {"value": "one and a half"},
        "bad_unit": {"unit": "BTU"},
        "bad_ts": {"ts": "yesterday"},
        "ts_in_future": {"ts": "2999-01-01T00:00:00Z"},
        "unknown_kind": {"kind": "delta"},
        "too_large": {"note": "x" * too_large_bytes},
    }
    return orjson.dumps(good | wrong.get(code, {}))


def _note(log: Log, b: Batch, mask: NDArray[np.bool_], name: str) -> None:
    for row in np.flatnonzero(mask):
        log.add(str(b.meter_id[row]), name, int(b.ts_ms[row]), int(b.ts_ms[row]), str(b.register[row]))
