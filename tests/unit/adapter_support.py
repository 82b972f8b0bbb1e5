"""Bytes through an adapter, as rows to compare with."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from operators import adapters
from operators.adapters import Options, Parsed
from operators.readings import Kind, Quality

SAMPLES = Path(__file__).parents[1] / "samples"
Row = tuple[str, str, int, str, float]


class Read:
    """All parts of an input."""

    def __init__(self, parts: Iterator[Parsed]) -> None:
        self.rows: list[Row] = []
        """meter, register, epoch ms, kind, value"""
        self.lengths: list[int] = []
        self.qualities: list[str] = []
        self.skipped: Counter[str] = Counter()
        self.refused = 0
        self.unreadable: list[tuple[str, str]] = []
        self.assumed: set[str] = set()
        for part in parts:
            r = part.readings
            self.rows += [
                (str(meter), str(register), int(ts), Kind(int(kind)).name.lower(), float(value))
                for meter, register, ts, kind, value in zip(
                    r.meter_id, r.register, r.ts_ms, r.kind, r.value, strict=True
                )
            ]
            self.lengths += (r.interval_ms // 1000).tolist()
            self.qualities += [Quality(int(q)).name.lower() for q in r.quality]
            self.skipped += part.skipped
            self.refused += part.refused
            self.unreadable += [(one.place, one.reason) for one in part.unreadable]
            self.assumed |= set(part.assumed)

    def of(self, register: str) -> list[tuple[int, float]]:
        """Times and values of a register."""
        return [(ts, value) for _, found, ts, _, value in self.rows if found == register]

    def by_register(self) -> dict[str, float]:
        """The value of each register, where each comes once."""
        assert len({row[1] for row in self.rows}) == len(self.rows)
        return {row[1]: row[4] for row in self.rows}


def read(name: str, content: bytes | str, **options: Any) -> Read:
    """`content` through the adapter of that name."""
    data = content.encode() if isinstance(content, str) else content
    return Read(adapters.parse(name, io.BytesIO(data), Options(**options)))


def sample(name: str) -> bytes:
    """A file of tests/samples."""
    return (SAMPLES / name).read_bytes()


def ms(text: str) -> int:
    """Epoch milliseconds of an ISO-8601 time with an offset."""
    return round(datetime.fromisoformat(text).timestamp() * 1000)
