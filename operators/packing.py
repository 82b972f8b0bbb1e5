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
    """Readings of a shard, in any order: p series, n readings."""

    series: list[tuple[str, str, str, int]]
    """[p] meter id, register, tenant id, kind; each once."""
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


def unpack(series: str, numbers: str) -> Pieces:
    """The readings in two texts of `sql/flink/shards.sql`.

    Args:
        series: "meter US register US tenant US kind" of each reading, joined by RS.
        numbers: five of each reading, in the same order, with spaces between.

    Raises:
        ValueError: another number of numbers than the series promise.

    >>> pieces = unpack("b2\\x1f1-0:1.8.0\\x1fdefault\\x1f0", "900000 1.25 0 0 0")
    >>> pieces.series, pieces.ts_ms.tolist(), pieces.value.tolist()
    ([('b2', '1-0:1.8.0', 'default', 0)], [900000], [1.25])
    """
    names = series.split(RECORD)
    table = np.fromstring(numbers, np.float64, sep=" ")
    if table.size != NUMBERS_PER_READING * len(names):
        raise ValueError(f"{table.size} numbers for {len(names)} readings")
    table = table.reshape(-1, NUMBERS_PER_READING)
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    fields = [name.split(UNIT) for name in number]
    return Pieces(
        series=[(meter, register, tenant, int(kind)) for meter, register, tenant, kind in fields],
        owner=np.fromiter(map(number.__getitem__, names), np.int64, len(names)),
        ts_ms=table[:, 0].astype(np.int64),
        value=table[:, 1].copy(),
        interval_ms=table[:, 2].astype(np.int64),
        revision=table[:, 3].astype(np.int64),
        quality=table[:, 4].astype(np.int8),
    )
