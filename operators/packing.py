"""The texts in which columns cross between the JVM and Python: many meters in one message each way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

UNIT = "\x1f"
"""Between the fields of a piece."""

RECORD = "\x1e"
"""Between pieces."""

NUMBERS_PER_READING = 5


@dataclass(frozen=True)
class Pieces:
    """Readings of a shard: p series, n readings, those of one series side by side."""

    series: list[tuple[str, str, str, int]]
    """[p] meter id, register, tenant id, kind."""
    owner: NDArray[np.int64]
    """[n] which of the series a reading belongs to."""
    ts_ms: NDArray[np.int64]
    value: NDArray[np.float64]
    """kWh or kW."""
    interval_ms: NDArray[np.int64]
    revision: NDArray[np.int64]
    quality: NDArray[np.int8]


def joined(messages: Iterable[Mapping[str, Any]], key: str) -> str:
    """Messages for SQL to cut and send: "key US message", joined by RS, each called by its field `key`."""
    return RECORD.join(f"{message[key]}{UNIT}{orjson.dumps(message).decode()}" for message in messages)


def unpack(text: str) -> Pieces:
    """The readings in one text of `sql/flink/shards.sql`.

    Args:
        text: pieces "meter US register US tenant US kind US readings US numbers" joined by RS.

    Raises:
        ValueError: another number of numbers than the pieces promise.

    >>> pieces = unpack("b2\\x1f1-0:1.8.0\\x1fdefault\\x1f0\\x1f1\\x1f900000 1.25 0 0 0")
    >>> pieces.series, pieces.ts_ms.tolist(), pieces.value.tolist()
    ([('b2', '1-0:1.8.0', 'default', 0)], [900000], [1.25])
    """
    fields = [piece.split(UNIT) for piece in text.split(RECORD)]
    counts = np.array([int(field[4]) for field in fields], np.int64)
    numbers = np.fromstring(" ".join([field[5] for field in fields]), np.float64, sep=" ")
    if numbers.size != NUMBERS_PER_READING * counts.sum():
        raise ValueError(f"{numbers.size} numbers for {counts.sum()} readings")
    table = numbers.reshape(-1, NUMBERS_PER_READING)
    return Pieces(
        series=[(field[0], field[1], field[2], int(field[3])) for field in fields],
        owner=np.repeat(np.arange(len(fields)), counts),
        ts_ms=table[:, 0].astype(np.int64),
        value=table[:, 1].copy(),
        interval_ms=table[:, 2].astype(np.int64),
        revision=table[:, 3].astype(np.int64),
        quality=table[:, 4].astype(np.int8),
    )
