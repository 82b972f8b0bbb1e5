"""(d) The plain loop: confluent-kafka, orjson, the network a minute at once. No recovery: what is lost with it is lost.

python -m tests.bench.engines.loop [--processes N]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import numpy as np
import orjson
from confluent_kafka import Producer

from tests.bench.drain import batches
from tests.bench.workload import CLOSING, HISTORY, MINUTE_MS, PARTITIONS, Job, Network, result

GROWTH = 1024


class Minutes:
    """Sums of the open minutes and the means of the last 96, as arrays over the meters."""

    def __init__(self) -> None:
        self.number: dict[str, int] = {}
        self.names: list[str] = []
        self.open: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.history = np.zeros((GROWTH, HISTORY), np.float32)

    def row(self, name: str) -> int:
        """The meter's row."""
        row = self.number.get(name)
        if row is None:
            row = self.number[name] = len(self.names)
            self.names.append(name)
            if row == len(self.history):
                self.history = np.concatenate([self.history, np.zeros_like(self.history)])
        return row

    def add(self, rows: np.ndarray, minutes: np.ndarray, values: np.ndarray) -> None:
        """Readings of one batch."""
        for minute in np.unique(minutes).tolist():
            mine = minutes == minute
            total, count = self.open.get(minute) or (np.zeros(0), np.zeros(0))
            room = len(self.names)
            self.open[minute] = (
                np.pad(total, (0, room - len(total))) + np.bincount(rows[mine], values[mine], room),
                np.pad(count, (0, room - len(count))) + np.bincount(rows[mine], minlength=room),
            )

    def close(self, minute: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows that have a mean in this minute, and their windows."""
        total, count = self.open.pop(minute)
        rows = np.flatnonzero(count)
        history = self.history[rows]
        history[:, :-1] = history[:, 1:]
        history[:, -1] = total[rows] / count[rows]
        self.history[rows] = history
        return rows, history


def run(job: Job, partitions: list[int]) -> None:
    """Reads the partitions to their end."""
    network, state = Network(job.model), Minutes()
    producer = Producer({"bootstrap.servers": job.kafka, "linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    newest = dict.fromkeys(partitions, 0)
    print("ready", time.time(), flush=True)

    def close(until: int) -> None:
        for minute in sorted(minute for minute in state.open if minute < until):
            rows, history = state.close(minute)
            end = (minute + 1) * MINUTE_MS
            for row, y in zip(rows.tolist(), network.forecast(history).tolist(), strict=True):
                name = state.names[row]
                producer.produce(job.sink, result(name, end, y), name)
            producer.poll(0)

    for messages in batches(job.kafka, job.source, partitions):
        rows, minutes, values = [], [], []
        for message in messages:
            value = orjson.loads(message.value())
            ts = value["ts"]
            partition = message.partition()
            newest[partition] = max(newest[partition], ts)
            if not value["meter_id"].startswith(CLOSING):
                rows.append(state.row(value["meter_id"]))
                minutes.append(ts // MINUTE_MS)
                values.append(value["value"])
        if rows:
            state.add(np.array(rows), np.array(minutes), np.array(values))
        close(min(newest.values()) // MINUTE_MS)
    close(1 << 62)
    producer.flush()


def main() -> int:
    """One process, or several that share the partitions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--partitions", help="of this process")
    args = parser.parse_args()
    if args.partitions or args.processes == 1:
        chosen = args.partitions.split(",") if args.partitions else range(PARTITIONS)
        run(Job.from_environment(), [int(partition) for partition in chosen])
        return 0
    command = [sys.executable, "-m", "tests.bench.engines.loop", "--partitions"]
    shares = [",".join(map(str, range(process, PARTITIONS, args.processes))) for process in range(args.processes)]
    children = [subprocess.Popen([*command, share]) for share in shares if share]
    return max(child.wait() for child in children)


if __name__ == "__main__":
    sys.exit(main())
