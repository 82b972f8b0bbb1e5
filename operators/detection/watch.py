"""The detector as a job uses it: forecasts that no anomaly has spoilt, and late readings that take events back.

After an anomaly the history that forecasts are made from is wrong: a spike of yesterday is expected again today. So the
steps of an event are replaced, for the detector's own forecasts only, by what was expected in their place. Meters
without such steps use the forecast that was issued anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from operators.detection.detector import DEFAULT, Settings, Step, observe
from operators.detection.events import Events, Status
from operators.detection.packed import pack, unpack
from operators.detection.state import NEVER, Floats, Ints, State
from operators.features import CONTEXT_HOURS, MIN_KNOWN_SHARE, QUANTILES

Bools = NDArray[np.bool_]
Predict = Callable[[Floats, Ints], NDArray[Any]]
"""From histories [n, 168 * k] kWh and positions of their meters [n] to quantiles [n, 9] kWh of the next step."""
BAND = [0, len(QUANTILES) // 2, len(QUANTILES) - 1]
CONTEXT_MS = CONTEXT_HOURS * 3_600_000
MARK_MS = 6 * 3_600_000
"""How far apart the states lie that are kept to go through steps again from."""
VERSION = 1


@dataclass(frozen=True)
class Entry:
    """One step as it was taken in, and what was said of it."""

    meters: Ints
    step: Step
    said: Events
    """`meter` is the position in the shard."""

    @property
    def newest_ms(self) -> int:
        """The latest end of its steps."""
        return int(self.step.end_ms.max())


class Watch:
    """Anomalies of the meters of one shard.

    To be kept of it: `header()`; `base()`, which changes with `base_number`; and for each kept step `entry(number)`.
    """

    def __init__(self, settings: Settings = DEFAULT, kept_h: float = 24.0) -> None:
        """`kept_h`: how late a reading may be and still take an event back."""
        self._settings = settings
        self._kept_ms = int(kept_h * 3_600_000)
        self.state = State.empty(0)
        self._marks: dict[int, State] = {0: State.empty(0)}
        """Number of a step → the state before it: of the oldest kept step, and of some later ones."""
        self._band = np.zeros((0, 3))
        self._band_ms = np.zeros(0, np.int64)
        """By meter: the forecast of its next step, and that step's end."""
        self._instead: tuple[Ints, Ints, Floats] = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
        """Meter, end and kWh of steps that forecasts are to be made without."""
        self._entries: dict[int, Entry] = {}
        self._next = 0
        self.changed: set[int] = set()
        """Numbers of kept steps that late readings have changed: to be saved again, then cleared."""

    def grow(self, meters: int) -> None:
        """Makes room for new meters after the old ones."""
        more = meters - len(self.state)
        self.state = self.state.grown(meters)
        self._marks = {number: state.grown(meters) for number, state in self._marks.items()}
        self._band = np.concatenate((self._band, np.full((more, 3), np.nan)))
        self._band_ms = np.concatenate((self._band_ms, np.full(more, NEVER)))

    def step(
        self,
        meters: Ints,
        end_ms: Ints,
        step_s: int,
        history: Floats,
        issued: Floats,
        predict: Predict,
        *,
        max_kw: Floats | None = None,
        fresh: Bools | None = None,
    ) -> Events:
        """Takes in a step of some meters, the missing ones included.

        Args:
            meters: [n] positions, each once; a meter not seen before makes room for itself.
            end_ms: [n] end of the step, epoch ms UTC.
            step_s: its length.
            history: [n, 168 * k] kWh of the steps that end with it, NaN missing.
            issued: [n, 3] the 0.1, 0.5, 0.9 quantile of the next step from the forecast issued at `end_ms`, calibrated;
                NaN where none was.
            predict: makes the forecasts of which the history is not to be taken as it is.
            max_kw: [n] what the connection can carry.
            fresh: [n] whether a reading ended in the step; default: where there is a value.

        Returns:
            What there is to say, `meter` by position in the shard.
        """
        if len(meters) and int(meters.max()) >= len(self.state):
            self.grow(int(meters.max()) + 1)
        kwh = np.asarray(history[:, -1], np.float64)
        known = np.isfinite(kwh)
        expected = np.where((self._band_ms[meters] == end_ms)[:, None], self._band[meters], np.nan)
        step = Step(
            end_ms, step_s, kwh, known.astype(np.float64), expected,
            np.full(len(meters), np.nan) if max_kw is None else max_kw, known if fresh is None else fresh,
        )  # fmt: skip
        seen = observe(self.state.take(meters), step, self._settings)
        self._mark(int(end_ms.max(initial=NEVER)))
        self.state = self.state.put(meters, seen.state)
        events = seen.events.of_meters(meters)
        self._remember(Entry(meters, step, events))
        self._replace(meters, end_ms, seen.instead)
        self._expect(meters, end_ms, step_s, history, issued, predict)
        return events

    def revise(self, meter: Ints, end_ms: Ints, kwh: Floats, fresh: Bools | None = None) -> Events:
        """What late readings change: kept steps have other energies than they had.

        The kept steps of those meters are gone through again with the forecasts that they were held against. Events
        that were said and do not come about again are retracted; new and changed ones are said again.

        Args:
            meter, end_ms, kwh: [c] positions, ends and energies of changed steps; those not kept are left out.
            fresh: [c] as in `step`.
        """
        fresh = np.isfinite(kwh) if fresh is None else fresh
        changed: set[int] = set()
        for number, entry in self._entries.items():
            rows, at = _matches(entry, meter, end_ms)
            if len(rows):
                changed.update(entry.meters[rows].tolist())
                self._entries[number] = replace(entry, step=_with(entry.step, rows, kwh[at], fresh[at]))
                self.changed.add(number)
        if not changed:
            return Events.none()
        mine = np.array(sorted(changed), np.int64)
        before, after = [], []
        state = self._marks[self.base_number]
        for number, entry in self._entries.items():
            if number in self._marks:
                self._marks[number] = self._marks[number].put(mine, state.take(mine))
            rows = np.flatnonzero(np.isin(entry.meters, mine))
            chosen = entry.meters[rows]
            seen = observe(state.take(chosen), _take(entry.step, rows), self._settings)
            state = state.put(chosen, seen.state)
            of_mine = np.isin(entry.said.meter, mine)
            said = seen.events.of_meters(chosen)
            before.append(entry.said.take(of_mine))
            after.append(said)
            self._entries[number] = replace(entry, said=entry.said.take(~of_mine).joined(said))
            if of_mine.any() or len(said):
                self.changed.add(number)
            self._forget(chosen, entry.step.end_ms[rows])
            self._replace(chosen, entry.step.end_ms[rows], seen.instead)
        self.state = self.state.put(mine, state.take(mine))
        return _difference(Events.none().joined(*before), Events.none().joined(*after), int(end_ms.max()))

    # --- forecasts --------------------------------------------------------------------------------------------------

    def _expect(
        self, meters: Ints, end_ms: Ints, step_s: int, history: Floats, issued: Floats, predict: Predict
    ) -> None:
        band = np.array(issued, np.float64)
        cleaned = np.asarray(history, np.float64).copy()
        place = np.full(len(self.state), -1)
        place[meters] = np.arange(len(meters))
        of, at_ms, kwh = self._instead
        row = place[of]
        back = np.where(row >= 0, (end_ms[row] - at_ms) // (step_s * 1000), -1)
        use = (row >= 0) & (back >= 0) & (back < history.shape[1])
        cleaned[row[use], history.shape[1] - 1 - back[use]] = kwh[use]
        again = np.zeros(len(meters), np.bool_)
        again[row[use]] = True
        known = np.isfinite(cleaned)
        again &= known.mean(axis=1) >= MIN_KNOWN_SHARE
        chosen = np.flatnonzero(again)
        if len(chosen):
            band[chosen] = predict(cleaned[chosen], meters[chosen])[:, BAND]
        self._band[meters] = band
        self._band_ms[meters] = end_ms + step_s * 1000

    def _replace(self, meters: Ints, end_ms: Ints, instead: Floats) -> None:
        new = np.flatnonzero(np.isfinite(instead))
        columns = zip(self._instead, (meters[new], end_ms[new], instead[new]), strict=True)
        of, at_ms, kwh = (np.concatenate(pair) for pair in columns)
        young = at_ms > self.state.newest_ms[of] - CONTEXT_MS
        # A level that has stayed is taken as it is, from its beginning.
        settled = (self.state.kind[of] >= 0) & (at_ms > self.state.start_ms[of])
        settled &= self.state.newest_ms[of] - self.state.start_ms[of] > self._settings.accept_h * 3.6e6
        self._instead = of[young & ~settled], at_ms[young & ~settled], kwh[young & ~settled]

    def _forget(self, meters: Ints, end_ms: Ints) -> None:
        of, at_ms, kwh = self._instead
        gone = np.zeros(len(of), np.bool_)
        for end in np.unique(end_ms).tolist():
            gone |= (at_ms == end) & np.isin(of, meters[end_ms == end])
        self._instead = of[~gone], at_ms[~gone], kwh[~gone]

    # --- steps kept -------------------------------------------------------------------------------------------------

    def _mark(self, end_ms: int) -> None:
        last = next(reversed(self._entries.values()), None)
        if last is not None and last.newest_ms // MARK_MS != end_ms // MARK_MS:
            self._marks[self._next] = self.state

    def _remember(self, entry: Entry) -> None:
        if not len(entry.meters) or self._kept_ms <= 0:
            return
        self._entries[self._next] = entry
        self._next += 1
        newest = int(entry.step.end_ms.max())
        young = next(number for number, kept in self._entries.items() if newest - kept.newest_ms < self._kept_ms)
        # From mark to mark, for what is before the oldest mark cannot be gone through again.
        for number in [number for number in self._marks if number <= young][:-1]:
            del self._marks[number]
        for number in [number for number in self._entries if number < self.base_number]:
            del self._entries[number]
            self.changed.discard(number)

    @property
    def base_number(self) -> int:
        """Of the step before which `base` was the state."""
        return next(iter(self._marks))

    def base(self) -> bytes:
        """The state from which the kept steps lead to the present one."""
        return self._marks[self.base_number].to_bytes()

    def kept(self) -> Iterator[tuple[Ints, int, int, Floats]]:
        """Of each kept step: its meters, its end, its length and the energies as they were taken in."""
        for entry in self._entries.values():
            for end in np.unique(entry.step.end_ms).tolist():
                mine = entry.step.end_ms == end
                yield entry.meters[mine], end, entry.step.step_s, entry.step.kwh[mine]

    def numbers(self) -> list[int]:
        """Of the kept steps, oldest first."""
        return list(self._entries)

    def entry(self, number: int) -> bytes:
        """A kept step: changes only when a late reading changes it."""
        entry = self._entries[number]
        columns: dict[str, NDArray[Any]] = {"meters": entry.meters}
        columns |= {f"step.{f.name}": np.asarray(getattr(entry.step, f.name)) for f in fields(Step)}
        columns |= {f"said.{f.name}": getattr(entry.said, f.name) for f in fields(Events)}
        return pack(VERSION, columns)

    def header(self) -> bytes:
        """All but the base and the kept steps."""
        columns: dict[str, NDArray[Any]] = {
            "band": self._band,
            "band_ms": self._band_ms,
            "of": self._instead[0],
            "at_ms": self._instead[1],
            "kwh": self._instead[2],
        }
        return pack(VERSION, columns, next=self._next, base=self.base_number)

    @classmethod
    def restore(
        cls, header: bytes, base: bytes, entries: dict[int, bytes], settings: Settings = DEFAULT, kept_h: float = 24.0
    ) -> Self:
        """A watch as it was when `header`, `base` and the entries were taken.

        Raises:
            ValueError: the state is of a version that this code does not know.
        """
        watch = cls(settings, kept_h)
        columns, head = unpack(VERSION, header, "a watch")
        watch._band, watch._band_ms = columns["band"], columns["band_ms"]
        watch._instead = columns["of"], columns["at_ms"], columns["kwh"]
        watch.state = State.from_bytes(base).grown(len(watch._band))
        watch._marks = {int(head["base"]): watch.state}
        for number in sorted(entries):
            found, _ = unpack(VERSION, entries[number], "a watch")
            step: dict[str, Any] = {f.name: found[f"step.{f.name}"] for f in fields(Step)}
            step["step_s"] = int(found["step.step_s"])
            said = Events(**{f.name: found[f"said.{f.name}"] for f in fields(Events)})
            entry = Entry(found["meters"], Step(**step), said)
            watch._next = number
            watch._mark(entry.newest_ms)
            seen = observe(watch.state.take(entry.meters), entry.step, settings)
            watch.state = watch.state.put(entry.meters, seen.state)
            watch._entries[number] = entry
        watch._next = int(head["next"])
        return watch


def _matches(entry: Entry, meter: Ints, end_ms: Ints) -> tuple[Ints, Ints]:
    """Rows of an entry that changes are about, and which changes: one row once, the last change counts."""
    wanted = {(m, e): at for at, (m, e) in enumerate(zip(meter.tolist(), end_ms.tolist(), strict=True))}
    keys = zip(entry.meters.tolist(), entry.step.end_ms.tolist(), strict=True)
    found = [(row, wanted[key]) for row, key in enumerate(keys) if key in wanted]
    rows, at = np.array(found, np.int64).reshape(-1, 2).T
    return rows, at


def _with(step: Step, rows: Ints, kwh: Floats, fresh: Bools) -> Step:
    changed = {"kwh": kwh, "coverage": np.isfinite(kwh).astype(np.float64), "fresh": fresh}
    columns = {}
    for name, value in changed.items():
        columns[name] = getattr(step, name).copy()
        columns[name][rows] = value
    return replace(step, **columns)


def _take(step: Step, rows: Ints) -> Step:
    return replace(step, **{f.name: getattr(step, f.name)[rows] for f in fields(Step) if f.name != "step_s"})


def _difference(before: Events, after: Events, at_ms: int) -> Events:
    """What is to be said so that a listener who heard `before` knows `after`; the last word of each event counts."""
    said, now = _last_words(before), _last_words(after)
    gone = before.take(np.array([row for key, row in said.items() if key not in now], np.int64))
    gone = replace(gone, status=np.full(len(gone), int(Status.RETRACTED)), at_ms=np.full(len(gone), at_ms))
    news = [
        row
        for key, row in now.items()
        if key not in said
        or (after.status[row], after.end_ms[row]) != (before.status[said[key]], before.end_ms[said[key]])
    ]
    return gone.joined(after.take(np.array(sorted(news), np.int64)))


def _last_words(events: Events) -> dict[tuple[int, int, int], int]:
    keys = zip(events.meter.tolist(), events.kind.tolist(), events.start_ms.tolist(), strict=True)
    return {key: row for row, key in enumerate(keys)}
