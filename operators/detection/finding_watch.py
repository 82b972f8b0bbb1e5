"""What a shard's derivation of energy finds odd with counters, as messages: resets and negative steps, and their end.

A function of the set of readings, like table `anomaly`'s rows of the same ids: what a late reading explains is taken
back, for as long as the shard keeps readings.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import orjson

from operators.detection.events import Status, iso
from operators.energy import SLOT_MS
from operators.findings import CAUSES, anomaly_id
from operators.increments import Event, Events
from operators.shard import KEPT, Shard

KINDS = ("reset", "negative")
"""The others' place is the step, or the single reading (`raw_watch`)."""
WORDS = {
    "dip": "the counter fell a little",
    "glitch": "the counter fell and came back",
    "reset": "the counter began again near zero",
    "rollover": "the counter passed its end",
    "replacement": "the counter fell to another value, as another meter's",
    "lost": "no counter reading for too long to tell when the energy was used",
}


class FindingWatch:
    """Findings of one shard that were said, and those that are to be said."""

    def __init__(self, said: bytes = b"[]") -> None:
        """`said`: of `said()`."""
        self._said: dict[tuple[int, int], dict[str, Any]] = {
            (series, ts_ms): message for series, ts_ms, message in orjson.loads(said)
        }
        self._now: dict[tuple[int, int], Events | None] = {}
        """What is new of a series and time; None: nothing is odd there any more."""

    def listen(self, shard: Shard) -> Self:
        """Takes what the shard finds."""
        shard.found = self._found
        return self

    def _found(self, series: int, from_ms: int, until_ms: int, events: Events) -> None:
        for key in {*self._said, *self._now}:
            if key[0] == series and from_ms <= key[1] <= until_ms:
                self._now[key] = None
        for at in range(len(events.ts_ms)):
            event = events.take(np.array([at]))
            if CAUSES[Event(int(event.code[0]))][0] in KINDS:
                self._now[series, int(event.ts_ms[0])] = event

    def messages(self, shard: Shard, known_ms: int) -> list[dict[str, Any]]:
        """Messages of topic `anomalies` for what was found since the last call.

        Args:
            shard: that was listened to.
            known_ms: end of the window that showed it.
        """
        out = []
        for key, event in self._now.items():
            before = self._said.pop(key, None)
            now = None if event is None else _message(shard, key[0], event)
            if before is not None and (now is None or now["anomaly_id"] != before["anomaly_id"]):
                out.append({**before, "status": Status.RETRACTED.name.lower(), "known_at": iso(known_ms)})
            if now is not None:
                self._said[key] = now
                if now != before:
                    out.append({**now, "status": Status.CLOSED.name.lower(), "known_at": iso(known_ms)})
        self._now = {}
        oldest = known_ms - KEPT * SLOT_MS
        for key in [key for key in self._said if key[1] < oldest]:
            del self._said[key]
        return out

    def said(self) -> bytes:
        """What must be kept."""
        return orjson.dumps([[*key, message] for key, message in self._said.items()])


def _message(shard: Shard, series: int, event: Events) -> dict[str, Any]:
    meter, register, tenant, _ = shard.series[series]
    kind, cause = CAUSES[Event(int(event.code[0]))]
    ts_ms = int(event.ts_ms[0])
    before, after = float(event.before[0]), float(event.after[0])
    return {
        "anomaly_id": anomaly_id(meter, register, kind, ts_ms),
        "meter_id": meter,
        "tenant_id": tenant,
        "kind": kind,
        "start": iso(int(event.from_ms[0])),
        "end": iso(ts_ms),
        "score": None,
        "observed_kwh": after - before,
        "expected_kwh": float(event.kwh[0]),
        "lower_kwh": None,
        "upper_kwh": None,
        "model_id": None,
        "cause": cause,
        "detail": f"{WORDS[cause]}: {before:.6g} kWh, then {after:.6g}",
    }
