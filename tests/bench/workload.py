"""Workload W: what goes in, what must come out. Pure; the engines of both environments import it.

Each meter sends one JSON reading a minute. Of each meter and minute the engine makes the mean by event time, keeps the
last 96 means as its recoverable state, gives them to an ONNX network (96 → 128 → 128 → 72), and sends one message: the
mean of the network's 72 outputs. One reading a window is the worst case for whoever pays by window.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

Floats = NDArray[np.float64]

START_MS = 1_704_067_200_000
MINUTE_MS = 60_000
HISTORY = 96
"""Means that a window is forecast from; those of before the first minute are zero."""
STEPS = 72
HIDDEN = 128
PARTITIONS = 2
CLOSING = "closing-"
"""Begins the ids of the last readings of the topic, an hour later: they close every window, and are in no result."""
CLOSING_MS = 3_600_000
TOLERANCE = 1e-4
SEED = 8


@dataclass(frozen=True)
class Size:
    """How much of it."""

    meters: int
    minutes: int

    @property
    def readings(self) -> int:
        return self.meters * self.minutes


@dataclass(frozen=True)
class Job:
    """What an engine is told, by its environment (`BENCH_…`): one run of it."""

    kafka: str
    source: str
    """Topic of the readings, PARTITIONS partitions, each meter's in one of them."""
    sink: str
    """Topic of the results."""
    model: str
    """The network's ONNX file."""
    folder: str
    """For what the engine keeps on disk: checkpoints, state stores."""
    meters: int
    minutes: int

    @classmethod
    def from_environment(cls) -> Job:
        """What `environment` wrote.

        Raises:
            KeyError: not started by the harness.
        """
        text = {name: os.environ[f"BENCH_{name.upper()}"] for name in cls.__annotations__}
        return cls(
            text["kafka"], text["source"], text["sink"], text["model"], text["folder"],
            int(text["meters"]), int(text["minutes"]),
        )  # fmt: skip

    def environment(self) -> dict[str, str]:
        """The variables that carry it."""
        return {f"BENCH_{name.upper()}": str(getattr(self, name)) for name in self.__annotations__}


def meter_name(number: int) -> str:
    """The id of a meter."""
    return f"m{number:06d}"


def meter_number(name: str) -> int:
    """What `meter_name` was given."""
    return int(name[1:])


def means(size: Size) -> Floats:
    """[meters, minutes] the mean of each minute, which is the minute's only reading: kW, three decimals."""
    rng = np.random.default_rng(SEED)
    level = rng.uniform(0.5, 1.5, (size.meters, 1))
    phase = rng.uniform(0.0, 2 * np.pi, (size.meters, 1))
    wave = 0.5 * np.sin(2 * np.pi * np.arange(size.minutes) / 180.0 + phase)
    return np.asarray(np.round(level + wave + 0.1 * rng.standard_normal((size.meters, size.minutes)), 3))


def records(size: Size) -> Iterator[tuple[int, bytes, bytes]]:
    """(partition, key, value) of each reading in the order of time, and of those that close the windows."""
    table = means(size)
    names = [meter_name(number) for number in range(size.meters)]
    for minute in range(size.minutes):
        ts = START_MS + minute * MINUTE_MS + MINUTE_MS // 2
        for number, value in enumerate(table[:, minute].tolist()):
            yield number % PARTITIONS, names[number].encode(), reading(names[number], ts, value)
    for partition in range(PARTITIONS):
        name = f"{CLOSING}{partition}"
        yield partition, name.encode(), reading(name, START_MS + size.minutes * MINUTE_MS + CLOSING_MS, 0.0)


def reading(name: str, ts_ms: int, value: float) -> bytes:
    """A message of the topic `meter.readings`."""
    return orjson.dumps({"meter_id": name, "ts": ts_ms, "kind": "instant", "value": value, "unit": "kW"})


def result(name: str, end_ms: int, y: float) -> str:
    """The message of one window: meter, end of the minute in epoch ms, mean of the 72 forecast steps."""
    return f'{{"meter_id":"{name}","ts":{end_ms},"y":{y:.6f}}}'


def windows(table: Floats, minute: int) -> NDArray[np.float32]:
    """[meters, 96] the means up to and with `minute`, oldest first, zero before the first."""
    out = np.zeros((len(table), HISTORY), np.float32)
    known = min(HISTORY, minute + 1)
    out[:, HISTORY - known :] = table[:, minute + 1 - known : minute + 1]
    return out


class Network:
    """The ONNX network, one thread."""

    def __init__(self, path: str | Path) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session: Any = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def forecast(self, window: NDArray[np.float32]) -> NDArray[np.float32]:
        """[n] mean of the 72 outputs of each row of [n, 96]."""
        (y,) = self._session.run(["y"], {"x": window})
        return np.asarray(y.mean(axis=1))


def reference(size: Size, model: str | Path) -> Floats:
    """[meters, minutes] what must come out."""
    table, network = means(size), Network(model)
    return np.stack([network.forecast(windows(table, minute)) for minute in range(size.minutes)], axis=1).astype(float)
