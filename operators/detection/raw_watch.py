"""Raw breaches as anomalies: open at once, closed with their quarter hour, taken back when corrected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
import orjson

from operators.detection.events import Kind as AnomalyKind
from operators.detection.events import Status, iso
from operators.detection.packed import pack, unpack
from operators.detection.raw import TIMES, Ints, Past, powers
from operators.energy import SLOT_MS, end_slot
from operators.findings import anomaly_id
from operators.meters import UNKNOWN, MeterConfig
from operators.packing import Pieces
from operators.readings import Quality

KEPT_MS = 7 * 86_400_000
"""How late a correction may come and still take a breach back."""
MOST = 100
"""Readings of one breach that are remembered: corrected ones are looked for among these."""
VERSION = 1
KIND = AnomalyKind.SPIKE.name.lower()
NAME = "raw"
"""In the anomaly's id, as its kind: what job ingest finds in the same reading has a row of its own."""


@dataclass
class Breach:
    """The breaches of one series in one quarter hour: one anomaly, called after the first."""

    series: int
    ts_ms: int
    from_ms: int
    tenant: str
    kw: float
    limit_kw: float
    usual_kw: float | None
    """The most there ever was, where that is what made the limit."""
    known_ms: int
    """Event time of what was said last."""
    revisions: dict[int, int] = field(default_factory=dict)
    """Time → revision of the readings in breach."""
    closed: bool = False

    @property
    def ends_ms(self) -> int:
        """When its quarter hour is over."""
        return end_slot(self.ts_ms) * SLOT_MS


class RawWatch:
    """The fast path of one shard. To be kept of it: `names()`, `header()` and `breaches()`."""

    def __init__(self) -> None:
        self.series: list[tuple[str, str, int]] = []
        """Meter, register, kind."""
        self.past = Past.empty(0)
        self._series_of: dict[tuple[str, str, int], int] = {}
        self._open: dict[tuple[int, int], Breach] = {}
        self._newest_ms = 0

    def take(self, pieces: Pieces, configs: Mapping[str, MeterConfig]) -> list[dict[str, Any]]:
        """Looks at readings.

        Args:
            pieces: readings as they came.
            configs: of meters, by name.

        Returns:
            Messages of the topic `anomalies`.
        """
        number = self._introduce(pieces)
        max_kw = np.full(len(self.series), np.nan)
        max_kw[number] = [configs.get(name[0], UNKNOWN).max_kw for name in pieces.series]
        row = number[pieces.owner]
        kind = np.array([name[3] for name in pieces.series], np.int8)[pieces.owner]
        valid = pieces.quality != Quality.INVALID
        value = np.where(valid, pieces.value, np.nan)
        found, self.past = powers(row, pieces.ts_ms, kind, value, pieces.interval_ms, max_kw, self.past)
        self._newest_ms = max(self._newest_ms, int(pieces.ts_ms.max(initial=0)))
        over, messages = found.over, []
        corrected = ~over & ((pieces.revision > 0) | ~valid) if self._open else np.zeros(len(row), np.bool_)
        for i in np.flatnonzero(over | corrected).tolist():
            at, revision = int(pieces.ts_ms[i]), int(pieces.revision[i])
            key = int(row[i]), end_slot(at)
            breach = self._open.get(key)
            if over[i] and breach is None:
                limit, usual = float(found.limit_kw[i]), float(found.usual_kw[i])
                learnt = usual if limit == TIMES * usual else None
                tenant = pieces.series[int(pieces.owner[i])][2]
                breach = Breach(key[0], at, int(found.from_ms[i]), tenant, float(found.kw[i]), limit, learnt, at)
                breach.revisions[at] = revision
                self._open[key] = breach
                messages.append(self._message(breach, Status.OPEN))
            elif over[i] and breach is not None and len(breach.revisions) < MOST:
                breach.revisions[at] = max(revision, breach.revisions.get(at, revision))
            elif breach is not None and breach.revisions.get(at, revision) < revision + (not valid[i]):
                del breach.revisions[at]
                if not breach.revisions:
                    del self._open[key]
                    breach.known_ms = max(breach.known_ms, self._newest_ms)
                    messages.append(self._message(breach, Status.RETRACTED))
        return messages

    def close(self, until_ms: int) -> list[dict[str, Any]]:
        """Messages of the breaches whose quarter hour is over at `until_ms`; those long past are forgotten."""
        messages = []
        for key, breach in list(self._open.items()):
            if not breach.closed and breach.ends_ms <= until_ms:
                breach.closed, breach.known_ms = True, breach.ends_ms
                messages.append(self._message(breach, Status.CLOSED))
            if breach.closed and breach.ends_ms < until_ms - KEPT_MS:
                del self._open[key]
        return messages

    def ends_ms(self) -> Iterator[int]:
        """When breaches are to be closed."""
        return (breach.ends_ms for breach in self._open.values() if not breach.closed)

    def _introduce(self, pieces: Pieces) -> Ints:
        before = len(self.series)
        for meter, register, _, kind in pieces.series:
            key = (meter, register, kind)
            if key not in self._series_of:
                self._series_of[key] = len(self.series)
                self.series.append(key)
        if len(self.series) > before:
            self.past = self.past.grown(len(self.series))
        return np.array(
            [self._series_of[meter, register, kind] for meter, register, _, kind in pieces.series], np.int64
        )

    def _message(self, breach: Breach, status: Status) -> dict[str, Any]:
        meter, register, _ = self.series[breach.series]
        hours = (breach.ts_ms - breach.from_ms) / 3.6e6
        last = max(breach.revisions, default=breach.ts_ms)
        limit = (
            f"at most {breach.limit_kw:.4g} kW are possible"
            if breach.usual_kw is None
            else f"never more than {breach.usual_kw:.4g} kW before"
        )
        return {
            "anomaly_id": anomaly_id(meter, register, NAME, breach.ts_ms),
            "meter_id": meter,
            "kind": KIND,
            "start": iso(breach.from_ms),
            "end": None if status == Status.OPEN else iso(last),
            "score": None,
            "observed_kwh": breach.kw * hours if hours else None,
            "expected_kwh": None,
            "lower_kwh": None,
            "upper_kwh": breach.limit_kw * hours if hours else None,
            "model_id": None,
            "status": status.name.lower(),
            "known_at": iso(breach.known_ms),
            "tenant_id": breach.tenant,
            "detail": f"{breach.kw:.4g} kW, {limit}",
        }

    # --- state out and in -------------------------------------------------------------------------------------------

    def names(self) -> bytes:
        """The series, as JSON: changes only when one is new."""
        return orjson.dumps(self.series)

    def header(self) -> bytes:
        """What is kept of the series."""
        return pack(VERSION, {f.name: getattr(self.past, f.name) for f in fields(Past)}, newest=self._newest_ms)

    def breaches(self) -> bytes:
        """The breaches that may still be closed or taken back."""
        return orjson.dumps([vars(breach) for breach in self._open.values()], option=orjson.OPT_NON_STR_KEYS)

    @classmethod
    def restore(cls, names: bytes, header: bytes, breaches: bytes) -> Self:
        """As it was when the three were taken.

        Raises:
            ValueError: the state is of a version that this code does not know.
        """
        watch = cls()
        columns, head = unpack(VERSION, header, "a raw watch")
        watch.series = [(str(meter), str(register), int(kind)) for meter, register, kind in orjson.loads(names)]
        watch._series_of = {name: number for number, name in enumerate(watch.series)}
        watch.past, watch._newest_ms = Past(**columns), int(head["newest"])
        for fields_ in orjson.loads(breaches):
            fields_["revisions"] = {int(at): revision for at, revision in fields_["revisions"].items()}
            breach = Breach(**fields_)
            watch._open[breach.series, end_slot(breach.ts_ms)] = breach
        return watch
