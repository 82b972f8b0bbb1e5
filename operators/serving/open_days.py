"""Forecasts of days that are not over yet, packed: what calibration and comparison learn from when they are.

Each meter has at most one such day, of 24 hours from an issue; the next begins when it is over, so that no step is
learnt from twice. Values are kept as 16-bit shares of each forecast's largest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from operators.features import HORIZON_HOURS, QUANTILES

DAY_MS = HORIZON_HOURS * 3_600_000
_SCALE = 32_767
_LARGEST = 1e30
"""kWh; a forecast beyond is cut to it, so that its scale stays finite."""


@dataclass(frozen=True)
class OpenDay:
    """What one shard issued at one time with one step, of the meters whose day begins then."""

    issued_ms: int
    step_s: int
    meters: NDArray[np.int64]
    """[m] positions in the shard."""
    level: NDArray[np.float32]
    """[m] mean absolute kWh of a step of the week before."""
    raw: dict[str, NDArray[np.float32]]
    """By the model's SHA-256: [m, 9, steps] kWh, before calibration, as `of` rounds them."""
    about: dict[str, Any]
    """What else is to be known when the day is over; JSON."""

    @classmethod
    def of(
        cls,
        issued_ms: int,
        step_s: int,
        meters: NDArray[np.int64],
        level: NDArray[Any],
        raw: dict[str, NDArray[np.float32]],
        about: dict[str, Any] | None = None,
    ) -> Self:
        """The day, rounded as it will be read again: a restart must not change what is learnt."""
        rounded = {sha: _unpacked(*_packed(values)) for sha, values in raw.items()}
        columns = (np.asarray(meters, np.int64), np.asarray(level, np.float32))
        return cls(issued_ms, step_s, *columns, rounded, about or {})

    @property
    def end_ms(self) -> int:
        """When the day is over."""
        return self.issued_ms + DAY_MS

    def to_bytes(self) -> bytes:
        """For a checkpoint."""
        head = orjson.dumps(
            {
                "issued_ms": self.issued_ms,
                "step_s": self.step_s,
                "meters": len(self.meters),
                "models": list(self.raw),
                "about": self.about,
            }
        )
        parts = [len(head).to_bytes(4, "little"), head, self.meters.astype("<i4").tobytes()]
        parts.append(self.level.astype("<f4").tobytes())
        for values in self.raw.values():
            shares, largest = _packed(values)
            parts += [largest.astype("<f4").tobytes(), shares.astype("<i2").tobytes()]
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """What `to_bytes` wrote."""
        at = 4 + int.from_bytes(content[:4], "little")
        head = orjson.loads(content[4:at])
        count, steps = head["meters"], DAY_MS // (head["step_s"] * 1000)

        def column(kind: str, values: int) -> NDArray[Any]:
            nonlocal at
            found = np.frombuffer(content, kind, values, at)
            at += found.nbytes
            return found

        meters, level = column("<i4", count).astype(np.int64), column("<f4", count).astype(np.float32)
        raw = {}
        for sha in head["models"]:
            largest = column("<f4", count).astype(np.float32)
            shares = column("<i2", count * len(QUANTILES) * steps).astype(np.int16)
            raw[sha] = _unpacked(shares.reshape(count, len(QUANTILES), steps), largest)
        return cls(head["issued_ms"], head["step_s"], meters, level, raw, head["about"])


def _packed(values: NDArray[np.float32]) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """16-bit shares [m, 9, steps] of each row's largest [m]; what was unpacked packs to the same."""
    bounded = np.clip(values, -_LARGEST, _LARGEST)
    largest = np.abs(bounded).max(axis=(1, 2)).astype(np.float32)
    # In 64 bits: the share of the smallest 32-bit numbers is beyond 32.
    wide = largest.astype(np.float64)
    inverse = np.divide(_SCALE, wide, out=np.zeros(len(wide)), where=wide > 0)
    return np.rint(bounded * inverse[:, None, None]).astype(np.int16), largest


def _unpacked(shares: NDArray[np.int16], largest: NDArray[np.float32]) -> NDArray[np.float32]:
    return (shares * (largest.astype(np.float64) / _SCALE)[:, None, None]).astype(np.float32)
