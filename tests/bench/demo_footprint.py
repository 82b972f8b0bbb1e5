"""What the demo costs: time to the first forecast row, peak memory, disk. Run it from a checkout that is set up.

    .venv/bin/python tests/bench/demo_footprint.py --data-dir DIR [--seconds 240]

On a folder that has the demo's data already, each forecast is stored as it stands: there, the first message on the
topic `forecasts` is looked for. Memory is the proportional set size (shared pages counted once) of the demo and of
every process of its stack, sampled twice a second. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import psycopg2

from jobs import demo_counts

SAMPLE_S = 0.5


def main() -> int:
    """Runs `energyai demo` until it has been up for `--seconds`, interrupts it, and says what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="an empty folder measures a first start")
    parser.add_argument("--seconds", type=float, default=240.0, help="how long to look after the first forecast")
    args = parser.parse_args()
    energyai = Path(sys.executable).with_name("energyai")
    begun = time.monotonic()
    demo = subprocess.Popen([energyai, "demo", "--data-dir", args.data_dir], start_new_session=True)
    up_s = first_s = None
    before = 0
    peak, parts = 0, {}
    try:
        while first_s is None or time.monotonic() - begun < first_s + args.seconds:
            if demo.poll() is not None:
                raise SystemExit(f"the demo ended by itself, exit code {demo.returncode}")
            used = memory(args.data_dir, demo.pid)
            if sum(used.values()) > peak:
                peak, parts = sum(used.values()), used
            state = read_state(args.data_dir)
            if state.get("phase") == "up":
                if up_s is None:
                    up_s = time.monotonic() - begun
                    before = forecasts(state)
                elif first_s is None and forecasts(state) > before:
                    first_s = time.monotonic() - begun
            time.sleep(SAMPLE_S)
    finally:
        demo.send_signal(signal.SIGINT)
        code = demo.wait(120)
    left = memory(args.data_dir, -1)
    disk = sum(f.stat().st_blocks * 512 for f in args.data_dir.rglob("*") if f.is_file() and not f.is_symlink())
    result = {
        "stack_up_s": round(up_s or 0, 1),
        "first_forecast_s": round(first_s or 0, 1),
        "peak_memory_gb": round(peak / 1e9, 2),
        "peak_by_process_mb": {name: round(size / 1e6) for name, size in sorted(parts.items(), key=lambda x: -x[1])},
        "data_gb": round(disk / 1e9, 2),
        "exit_code": code,
        "processes_left": len(left),
    }
    print(json.dumps(result))
    return 0


def read_state(folder: Path) -> dict[str, str]:
    """The stack's state file, if it is there."""
    try:
        found: dict[str, str] = json.loads((folder / "stack.json").read_text())
    except (OSError, ValueError):
        return {}
    return found


def forecasts(state: dict[str, str]) -> int:
    """Stored forecasts and messages of forecasts."""
    connection = psycopg2.connect(state["database_url"])
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM forecast_issue")
            rows = int((cursor.fetchone() or (0,))[0])
    finally:
        connection.close()
    return rows + demo_counts.records(state["kafka"], "forecasts")


def memory(folder: Path, pid: int) -> dict[str, int]:
    """Bytes by process, of those that name the folder on their command line or descend from one that does."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter(["cmdline"]):
        if process.pid == pid or str(folder) in " ".join(process.info["cmdline"] or []):
            for each in [process, *children(process)]:
                found[each.pid] = each
    for own in (psutil.Process(), *psutil.Process().parents()):
        found.pop(own.pid, None)
    used: dict[str, int] = {}
    for process in found.values():
        try:
            name = f"{process.name()}-{process.pid}"
            used[name] = process.memory_full_info().pss
        except psutil.Error:
            continue
    return used


def children(process: psutil.Process) -> list[psutil.Process]:
    """All descendants, as far as they can be seen."""
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []


if __name__ == "__main__":
    sys.exit(main())
