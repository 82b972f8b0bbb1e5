"""How often the fast path's own limit is broken in recorded readings that nobody has tampered with.

python -m tests.bench.raw_alarms --cambridge FOLDER --year 2019
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from models.data_sources import load_cambridge, load_judged
from operators.detection.raw import Past, powers
from operators.readings import Kind

DAY_MS = 86_400_000


def alarms(kwh: Any, first_ms: int, step_s: int) -> tuple[int, float]:
    """Readings beyond three times what ever was, and the days of meters that have readings.

    Args:
        kwh: [meters, steps] of each step, NaN missing.
        first_ms: the first step's start, epoch ms UTC.
        step_s: their length.
    """
    meters, steps = kwh.shape
    series, unknown, past = np.arange(meters), np.full(meters, np.nan), Past.empty(meters)
    kind, length = np.full(meters, Kind.INTERVAL, np.int8), np.full(meters, step_s * 1000)
    found = 0
    for step in range(steps):
        ts_ms = np.full(meters, first_ms + (step + 1) * step_s * 1000)
        seen, past = powers(series, ts_ms, kind, kwh[:, step], length, unknown, past)
        found += int(seen.over.sum())
    return found, float(np.isfinite(kwh).sum() * step_s * 1000 / DAY_MS)


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cambridge", type=Path, metavar="FOLDER")
    parser.add_argument("--judged", type=Path, metavar="FOLDER", help="OpenSTEF's or Victoria's")
    parser.add_argument("--year", type=int, default=2019, help="of Cambridge")
    args = parser.parse_args(argv)
    sources = []
    if args.cambridge:
        series = load_cambridge(args.cambridge)
        first, last = (np.datetime64(f"{year}-01-01", "ms").astype(np.int64) for year in (args.year, args.year + 1))
        step_ms = series.step_s * 1000
        begin, end = (max(0, int(at - series.start_ms) // step_ms) for at in (first, last))
        sources.append((f"cambridge {args.year}", series.kwh[:, begin:end], int(first), series.step_s))
    if args.judged:
        sources += [(name, each.kwh, each.start_ms, each.step_s) for name, each in load_judged(args.judged)]
    for name, kwh, first_ms, step_s in sources:
        found, days = alarms(np.asarray(kwh, np.float64), first_ms, step_s)
        print(json.dumps({"data": name, "alarms": found, "meter_days": round(days), "a_day": round(found / days, 5)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
