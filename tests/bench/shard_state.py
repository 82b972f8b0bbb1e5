"""What a shard's state costs by cadence: bytes of a meter and week, time of a window and of late readings.

python -m tests.bench.shard_state [--meters 200]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

import numpy as np

from operators.energy import SLOT_MS
from operators.packing import Pieces
from operators.readings import IMPORT_REGISTER, Kind
from operators.shard import KEPT, MemorySlots, Shard

START = 1_704_067_200_000 // SLOT_MS
CADENCES_S = (10, 60, 900, 3600)


def window(meters: int, slot: int, step_s: int, kind: Kind, rng: np.random.Generator) -> Pieces:
    """All readings of one quarter hour; none when no step ends in it."""
    ends = np.arange(slot * SLOT_MS + 1, (slot + 1) * SLOT_MS + 1)
    ts = ends[ends % (step_s * 1000) == 0]
    n = len(ts)
    owner = np.repeat(np.arange(meters), n)
    all_ts = np.tile(ts, meters)
    if kind == Kind.REGISTER:
        value = (all_ts - START * SLOT_MS) / 3.6e6 * (1 + owner % 7)
    else:
        value = rng.gamma(2.0, 0.2, len(owner))
    length = np.full(len(owner), step_s * 1000 if kind == Kind.INTERVAL else 0)
    zeros = np.zeros(len(owner), np.int64)
    names = [(f"m{i}", IMPORT_REGISTER, "default", int(kind)) for i in range(meters)]
    return Pieces(names, owner, all_ts, value, length, zeros, zeros.astype(np.int8))


def measure(meters: int, step_s: int, kind: Kind, windows: int) -> dict[str, float | int | str]:
    """State and time after `windows` quarter hours."""
    rng = np.random.default_rng(1)
    slots = MemorySlots()
    shard = Shard(slots)
    spent = 0.0
    readings = 0
    for slot in range(START, START + windows):
        pieces = window(meters, slot, step_s, kind, rng)
        if not len(pieces.ts_ms):
            continue
        readings += len(pieces.ts_ms)
        begun = time.perf_counter()
        shard.apply(pieces)
        list(shard.due((slot + 1) * SLOT_MS))
        spent += time.perf_counter() - begun
    late = window(max(1, meters // 20), START + windows - 40 - (START + windows - 40) % 4 + 3, step_s, kind, rng)
    begun = time.perf_counter()
    again = Pieces(
        late.series, late.owner, late.ts_ms, late.value + 0.001, late.interval_ms, late.revision + 1, late.quality
    )
    shard.apply(again)
    revised = time.perf_counter() - begun
    kept = sum(len(packed) for packed in slots.values())
    return {
        "kind": kind.name.lower(),
        "step_s": step_s,
        "readings": readings,
        "bytes_meter_readings": round(kept / meters),
        "bytes_meter_history": 13 * 672,
        "us_reading": round(1e6 * spent / readings, 2),
        "ms_window": round(1e3 * spent / windows, 3),
        "ms_revised_hour_of_5_percent": round(1e3 * revised, 2),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """One JSON line a cadence and kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--meters", type=int, default=200)
    parser.add_argument("--windows", type=int, default=KEPT + 10)
    args = parser.parse_args(argv)
    for kind in (Kind.REGISTER, Kind.INTERVAL):
        for step_s in CADENCES_S:
            print(json.dumps(measure(args.meters, step_s, kind, args.windows)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
