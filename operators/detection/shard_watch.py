"""The detector on a shard's history: which steps are to be judged when a window closes, and which anew.

A step is judged when a reading after it has come, or when its meter has been silent for longer than it is used to. A
step in which no reading ended is missing, though energy may be known of it later: what a counter says after an outage
tells how much was used, not that it was heard of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from operators.detection.detector import DEFAULT, Settings
from operators.detection.events import Events
from operators.detection.packed import pack, unpack
from operators.detection.rhythm import NONE, Rhythm
from operators.detection.state import NEVER, Floats, Ints
from operators.detection.watch import BAND, Watch
from operators.features import has_context
from operators.history import SLOTS
from operators.shard import STEPS_S, Shard

Predict = Callable[[Floats, Ints, int, Sequence[str]], NDArray[Any]]
"""Histories [n, 168 * k], their ends [n], the length of a step, time zones [n] → quantiles [n, 9] of the next step."""
SLOT_MS = 900_000
DAY_MS = 86_400_000
CATCH_UP_MS = 2 * DAY_MS
"""Steps that are older when they become known are passed over."""
VERSION = 1


class ShardWatch:
    """Anomalies of the meters of one shard. To be kept of it: `header()`, and what its `watch` says."""

    def __init__(self, watch: Watch | None = None, rhythm: Rhythm | None = None, clock_ms: int = NONE) -> None:
        """
        Args:
            watch, rhythm: as they were; None: nothing is known.
            clock_ms: end of the newest window.
        """
        self.watch = watch or Watch()
        self.rhythm = rhythm or Rhythm.empty(0)
        self.clock_ms = clock_ms

    def window(self, shard: Shard, end_ms: int, changed: set[int], predict: Predict) -> list[dict[str, Any]]:
        """Judges what a closed window has shown.

        Args:
            shard: with the window's readings.
            end_ms: the window's end, epoch ms UTC; or a time until which nothing came.
            changed: numbers of the shard's quarter hours that changed.
            predict: the forecast of the next step.

        Returns:
            Messages of the topic `anomalies`, without a model's name; of each anomaly the last word.
        """
        meters = len(shard.meters)
        if meters > len(self.rhythm.heard_ms):
            self.rhythm = self.rhythm.grown(meters)
            self.watch.grow(meters)
        self.rhythm = self.rhythm.hear(np.maximum(shard.newest_ms(), NONE), end_ms)
        self.clock_ms = max(self.clock_ms, end_ms)
        said = [self._again(shard, changed)]
        step_ms = shard.step_ms()
        until = self._until(step_ms, end_ms)
        begun = shard.first_ms <= end_ms - DAY_MS  # before, it does not show how long its steps are
        for step_s in STEPS_S:
            mine = np.flatnonzero(begun & (step_ms == step_s * 1000))
            said += self._judge(shard, mine, step_s, until[mine], predict)
        events = Events.none().joined(*said)
        # It became known now: what a late reading changes is newer than what was said of the same step before.
        return _last_words(shard, replace(events, at_ms=np.full(len(events), self.clock_ms)))

    def _until(self, step_ms: Ints, end_ms: int) -> Ints:
        """[m] the end of the newest step that can be judged."""
        known = np.minimum(self.rhythm.newest_ms, end_ms)
        silent = end_ms - self.rhythm.patience_ms(step_ms)
        return np.maximum(known, silent) // step_ms * step_ms

    def _judge(self, shard: Shard, meters: Ints, step_s: int, until: Ints, predict: Predict) -> list[Events]:
        """Goes through the steps of the meters up to their `until`, in the order of time."""
        ms = step_s * 1000
        done = self.watch.state.newest_ms[meters]
        done = np.where(done == NEVER, until - ms, np.maximum(done, until - CATCH_UP_MS)) // ms * ms
        said = []
        while (open_ := done < until).any():
            end = int(done[open_].min()) + ms
            mine = open_ & (done + ms == end)
            said.append(self._step(shard, meters[mine], end, step_s, predict))
            done = np.where(mine, end, done)
        return said

    def _step(self, shard: Shard, meters: Ints, end: int, step_s: int, predict: Predict) -> Events:
        history = shard.steps(meters, end, step_s)
        history[:, -1] = self._heard(shard, meters, end, step_s)
        ends = np.full(len(meters), end)
        zones = [shard.about(meter)[1] for meter in meters.tolist()]
        place = {meter: at for at, meter in enumerate(meters.tolist())}

        def again(cleaned: Floats, which: Ints) -> NDArray[Any]:
            at = [place[meter] for meter in which.tolist()]
            return predict(cleaned, ends[at], step_s, [zones[i] for i in at])

        issued = np.full((len(meters), len(BAND)), np.nan)
        good = has_context(~np.isnan(history))
        good &= end - SLOTS * SLOT_MS >= shard.first_ms[meters]
        if good.any():
            issued[good] = again(history[good], meters[good])[:, BAND]
        return self.watch.step(meters, ends, step_s, history, issued, again, max_kw=_max_kw(shard, meters))

    def _again(self, shard: Shard, changed: set[int]) -> Events:
        """Judges kept steps anew whose energy late readings have changed."""
        columns: list[tuple[Ints, Ints, Floats]] = []
        for meters, end, step_s, kwh in self.watch.kept():
            first = (end - step_s * 1000) // SLOT_MS
            if changed.isdisjoint(range(first, end // SLOT_MS)):
                continue
            now = self._heard(shard, meters, end, step_s)
            other = np.flatnonzero(~np.isclose(now, kwh, rtol=1e-9, atol=1e-9, equal_nan=True))
            columns.append((meters[other], np.full(len(other), end), now[other]))
        if not columns:
            return Events.none()
        meter, end_ms, value = (np.concatenate(parts) for parts in zip(*columns, strict=True))
        return self.watch.revise(meter, end_ms, value) if len(meter) else Events.none()

    @staticmethod
    def _heard(shard: Shard, meters: Ints, end: int, step_s: int) -> Floats:
        """[n] kWh of a step, NaN where no reading ended in it."""
        kwh, read = shard.step(meters, end, step_s)
        return np.where(read, kwh, np.nan)

    # --- state out and in -------------------------------------------------------------------------------------------

    def header(self) -> bytes:
        """All but the watch's base and steps."""
        columns = {name: getattr(self.rhythm, name) for name in Rhythm.__dataclass_fields__}
        columns["watch"] = np.frombuffer(self.watch.header(), np.uint8)
        return pack(VERSION, columns, clock=self.clock_ms)

    @classmethod
    def restore(cls, header: bytes, base: bytes, entries: dict[int, bytes], settings: Settings = DEFAULT) -> Self:
        """As it was when `header`, the watch's base and its entries were taken.

        Raises:
            ValueError: the state is of a version that this code does not know.
        """
        columns, head = unpack(VERSION, header, "a shard's watch")
        watch = Watch.restore(columns.pop("watch").tobytes(), base, entries, settings)
        return cls(watch, Rhythm(**columns), int(head["clock"]))


def _max_kw(shard: Shard, meters: Ints) -> Floats:
    return np.array([shard.about(meter)[2].max_kw for meter in meters.tolist()], np.float64)


def _last_words(shard: Shard, events: Events) -> list[dict[str, Any]]:
    rows = {(m, k, s): row for row, (m, k, s) in enumerate(zip(*_keys(events), strict=True))}
    last = events.take(np.array(sorted(rows.values()), np.int64))
    messages = last.messages(shard.meters, "")
    return [
        {**message, "tenant_id": shard.about(meter)[0]}
        for message, meter in zip(messages, last.meter.tolist(), strict=True)
    ]


def _keys(events: Events) -> tuple[list[int], list[int], list[int]]:
    return events.meter.tolist(), events.kind.tolist(), events.start_ms.tolist()
