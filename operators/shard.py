"""A shard: the recent history of some hundred meters, as arrays. Pure; `operators.shard_function` gives it to Flink.

What is kept for each series (one kind of one register of one meter) is the energy of each quarter hour of the last 168
hours, how much of it was measured, and where the series stands (`operators.energy.Carry`). Readings may come in any
order within a week: one that is older than where its series stands patches the quarter hours that it covers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from operators.energy import NEVER, SLOT_MS, Carry, SeriesConfig, derive, resolve
from operators.features import CONTEXT_HOURS, has_context
from operators.flows import EXPORT, IMPORT, NET, NONE, flow_of
from operators.packing import Pieces
from operators.readings import Kind, Quality, Readings

SLOTS_PER_HOUR = 4
SLOTS = CONTEXT_HOURS * SLOTS_PER_HOUR
KNOWN_SHARE = 0.5
"""A step of which less was measured is missing; one of which more was measured counts with its mean power."""
CLOSED_SHARE = 0.9
"""A step of which so much was measured is closed: a forecast from its end on may be issued."""
STEPS_S = (900, 3600)
VERSION = 1
SEVERAL = -1


@dataclass(frozen=True)
class Due:
    """Meters for which a forecast is to be issued at one time, with one step."""

    issued_at_ms: int
    step_s: int
    meter_id: list[str]
    tenant_id: list[str]
    history: NDArray[np.float64]
    """[m, 168 h] kWh of each step, oldest first, NaN where missing; the last ends at `issued_at_ms`."""


class Shard:
    """Histories of the meters of one key."""

    def __init__(self) -> None:
        self.series: list[tuple[str, str, str, int]] = []
        """Meter id, register, tenant id, kind; in the order of their first reading, which is kept for ever."""
        self.meters: list[str] = []
        self._meter_of: dict[str, int] = {}
        self._series_of: dict[tuple[str, str, str, int], int] = {}
        self._owner = np.zeros(0, np.int64)
        self._flow = np.zeros(0, np.int64)
        self._sign = np.zeros(0)
        self._only_series = np.zeros(0, np.int64)
        """By meter: its series, or SEVERAL."""
        self._tenant: list[str] = []
        self.kwh = np.zeros((0, SLOTS))
        self.covered_ms = np.zeros((0, SLOTS), np.int32)
        self.head = NEVER
        """Number of the newest quarter hour in the ring (epoch ms // 900,000)."""
        self.carry = Carry.empty(0)
        self.first_ms = np.zeros(0, np.int64)
        """By meter: when its energy begins."""
        self.issued_ms = np.zeros(0, np.int64)
        """By meter: the newest forecast."""
        self.short_ms = np.zeros(0, np.int64)
        """By meter: how much time was measured in stretches of up to a quarter hour …"""
        self.long_ms = np.zeros(0, np.int64)
        """… and how much in longer ones: which tells the meter's step."""

    # --- readings in ------------------------------------------------------------------------------------------------

    def apply(self, pieces: Pieces) -> set[int]:
        """Takes readings in, in any order and repeated or not.

        Returns:
            Numbers of the quarter hours that changed, among those that are kept.
        """
        owner = self._introduce(pieces)[pieces.owner]
        keep = _resolved(pieces, owner)
        owner, ts_ms = owner[keep], pieces.ts_ms[keep]
        value, length, quality = pieces.value[keep], pieces.interval_ms[keep], pieces.quality[keep]
        old = ts_ms <= self.carry.last_ms[owner]
        changed = self._extend(owner[~old], ts_ms[~old], value[~old], length[~old], quality[~old])
        if old.any():
            changed |= self._patch(owner[old], ts_ms[old], value[old], length[old], quality[old])
        return changed

    def _introduce(self, pieces: Pieces) -> NDArray[np.int64]:
        """Numbers of the pieces' series; new ones are added."""
        new = [series for series in dict.fromkeys(pieces.series) if series not in self._series_of]
        for series in new:
            self._series_of[series] = len(self.series)
            self.series.append(series)
            if series[0] not in self._meter_of:
                self._meter_of[series[0]] = len(self.meters)
                self.meters.append(series[0])
                self._tenant.append(series[2])
        if new:
            self._owner = np.array([self._meter_of[series[0]] for series in self.series], np.int64)
            self._flow = np.array([flow_of(series[1], Kind(series[3])) for series in self.series], np.int64)
            self._sign = np.select([self._flow // 10 == EXPORT // 10, self._flow == NONE], [-1.0, 0.0], 1.0)
            counts = np.bincount(self._owner, minlength=len(self.meters))
            self._only_series = np.zeros(len(self.meters), np.int64)
            self._only_series[self._owner] = np.arange(len(self.series))
            self._only_series[counts > 1] = SEVERAL
            self._grow()
        return np.array([self._series_of[series] for series in pieces.series], np.int64)

    def _grow(self) -> None:
        more = len(self.series) - len(self.kwh)
        self.kwh = np.vstack([self.kwh, np.zeros((more, SLOTS))])
        self.covered_ms = np.vstack([self.covered_ms, np.zeros((more, SLOTS), np.int32)])
        fresh = Carry.empty(more)
        self.carry = Carry(
            *(np.concatenate([getattr(self.carry, f.name), getattr(fresh, f.name)]) for f in fields(Carry))
        )
        more = len(self.meters) - len(self.first_ms)
        self.first_ms = np.concatenate([self.first_ms, np.full(more, np.iinfo(np.int64).max)])
        self.issued_ms = np.concatenate([self.issued_ms, np.full(more, NEVER)])
        self.short_ms = np.concatenate([self.short_ms, np.zeros(more, np.int64)])
        self.long_ms = np.concatenate([self.long_ms, np.zeros(more, np.int64)])

    def _config(self) -> SeriesConfig:
        return SeriesConfig.of_kinds(np.array([series[3] for series in self.series], np.int8))

    def _extend(
        self,
        owner: NDArray[np.int64],
        ts_ms: NDArray[np.int64],
        value: NDArray[np.float64],
        length: NDArray[np.int64],
        quality: NDArray[np.int8],
    ) -> set[int]:
        """Readings after where their series stands: exact, by the derivation that the database uses."""
        before = self.carry.last_ms
        done = derive(owner, ts_ms, value, length, quality, config=self._config(), carry=self.carry)
        self.carry = done.carry
        valid = quality != Quality.INVALID  # as the carry, or the cadence would depend on where a window ends
        self._learn_cadence(owner[valid], ts_ms[valid], length[valid], before)
        slots = done.slots
        return self._set(slots.series, slots.slot_ms // SLOT_MS, slots.kwh, slots.covered_ms)

    def _patch(
        self,
        owner: NDArray[np.int64],
        ts_ms: NDArray[np.int64],
        value: NDArray[np.float64],
        length: NDArray[np.int64],
        quality: NDArray[np.int8],
    ) -> set[int]:
        """Readings before where their series stands: an interval's energy is put into what it covers.

        A whole quarter hour is replaced, a part is added while there is room for it. A late counter or power reading
        changes nothing here: the energy across it is known already, from the readings around it.
        """
        interval = length > 0
        if not interval.any():
            return set()
        slots = derive(
            owner[interval],
            ts_ms[interval],
            value[interval],
            length[interval],
            quality[interval],
            config=self._config(),
        ).slots
        number = slots.slot_ms // SLOT_MS
        row, column = slots.series, number % SLOTS
        kept = (number <= self.head) & (number > self.head - SLOTS)
        there = np.where(kept, self.covered_ms[row, column], 0)
        whole = slots.covered_ms >= SLOT_MS
        # Estimated energy fills no room: it replaces what is estimated, or its repeat would count twice.
        estimated = slots.covered_ms == 0
        whole |= estimated & (there == 0)
        room = ~estimated & (there + slots.covered_ms <= SLOT_MS)
        kwh = slots.kwh + np.where(whole, 0.0, self.kwh[row, column])
        covered = np.where(whole, slots.covered_ms, there + slots.covered_ms)
        take = kept & (whole | room)
        return self._set(row[take], number[take], kwh[take], covered[take])

    def _set(
        self,
        row: NDArray[np.int64],
        number: NDArray[np.int64],
        kwh: NDArray[np.float64],
        covered_ms: NDArray[np.int64],
    ) -> set[int]:
        if not len(row):
            return set()
        self._advance(int(number.max()))
        kept = number > self.head - SLOTS
        row, number = row[kept], number[kept]
        column = number % SLOTS
        self.kwh[row, column], self.covered_ms[row, column] = kwh[kept], covered_ms[kept]
        np.minimum.at(self.first_ms, self._owner[row], number * SLOT_MS)
        return set(np.unique(number).tolist())

    def _advance(self, newest: int) -> None:
        """Makes room for quarter hours up to `newest`."""
        if newest <= self.head:
            return
        if self.head != NEVER:
            passed = np.arange(max(self.head + 1, newest - SLOTS + 1), newest + 1) % SLOTS
            self.kwh[:, passed], self.covered_ms[:, passed] = 0.0, 0
        self.head = newest

    def _learn_cadence(
        self,
        owner: NDArray[np.int64],
        ts_ms: NDArray[np.int64],
        length: NDArray[np.int64],
        before: NDArray[np.int64],
    ) -> None:
        order = np.lexsort((ts_ms, owner))
        owner, ts_ms, length = owner[order], ts_ms[order], length[order]
        previous = np.concatenate([[NEVER], ts_ms[:-1]])
        first = np.concatenate([[True], owner[1:] != owner[:-1]]) if len(owner) else np.zeros(0, np.bool_)
        previous[first] = before[owner[first]]
        span = np.where(length > 0, length, np.where(previous == NEVER, 0, ts_ms - previous))
        meter = self._owner[owner]
        short = span <= SLOT_MS
        np.add.at(self.short_ms, meter[short], span[short])
        np.add.at(self.long_ms, meter[~short], np.minimum(span[~short], SLOTS * SLOT_MS))

    # --- forecasts due ----------------------------------------------------------------------------------------------

    def due(self, window_end_ms: int) -> Iterator[Due]:
        """Forecasts to issue now that time has passed `window_end_ms`: for each meter its newest closed step, if new.

        A meter has context when its energy began 168 hours ago or more, and at least half of the steps since are known.
        """
        newest = np.full(len(self.meters), NEVER)
        np.maximum.at(newest, self._owner, self.carry.last_ms)
        step_ms = np.where(self.short_ms >= self.long_ms, 900_000, 3_600_000)
        issue = np.minimum(newest, window_end_ms) // step_ms * step_ms
        ready = (newest != NEVER) & (issue > self.issued_ms) & (issue - SLOTS * SLOT_MS >= self.first_ms)
        for step in STEPS_S:
            of_step = np.flatnonzero(ready & (step_ms == step * 1000))
            for issued_at in np.unique(issue[of_step]).tolist():
                meters = of_step[issue[of_step] == issued_at]
                history, closed = self._history(meters, issued_at, step)
                good = closed & has_context(~np.isnan(history))
                chosen = meters[good]
                if len(chosen):
                    self.issued_ms[chosen] = issued_at
                    names = [self.meters[i] for i in chosen.tolist()]
                    tenants = [self._tenant[i] for i in chosen.tolist()]
                    yield Due(issued_at, step, names, tenants, history[good])

    def _history(
        self, meters: NDArray[np.int64], issued_at_ms: int, step_s: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Net kWh of each step of the last 168 hours, NaN where missing; and whether the last step is closed."""
        last = issued_at_ms // SLOT_MS - 1
        columns = np.arange(last - SLOTS + 1, last + 1)
        kwh, covered = self._net(meters, columns % SLOTS)
        # The ring may be ahead of this time, or behind it.
        absent = (columns > self.head) | (columns <= self.head - SLOTS)
        kwh[:, absent], covered[:, absent] = 0.0, 0
        per = step_s * 1000 // SLOT_MS
        shape = (len(meters), SLOTS // per, per)
        energy, measured = kwh.reshape(shape).sum(2), covered.reshape(shape).sum(2)
        share = measured / (step_s * 1000)
        with np.errstate(divide="ignore", invalid="ignore"):
            history = np.where(share >= KNOWN_SHARE, energy / share, np.nan)
        return history, share[:, -1] >= CLOSED_SHARE

    def _net(
        self, meters: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Net kWh and measured time of each meter and column: [m, c] both."""
        row = self._only_series[meters]
        at = np.ix_(row, columns)
        kwh = self.kwh[at] * self._sign[row][:, None]
        covered = self.covered_ms[at].astype(np.int64)
        for place in np.flatnonzero(row == SEVERAL).tolist():
            series = np.flatnonzero(self._owner == meters[place])
            kwh[place], covered[place] = net_of_registers(
                self._flow[series], self.kwh[np.ix_(series, columns)], self.covered_ms[np.ix_(series, columns)]
            )
        return kwh, covered

    # --- state out and in -------------------------------------------------------------------------------------------

    def header(self) -> bytes:
        """Everything but the quarter hours, as JSON."""
        return orjson.dumps(
            {
                "version": VERSION,
                "series": self.series,
                "head": int(self.head),
                "carry": {f.name: getattr(self.carry, f.name) for f in fields(Carry)},
                "first_ms": self.first_ms,
                "issued_ms": self.issued_ms,
                "short_ms": self.short_ms,
                "long_ms": self.long_ms,
            },
            option=orjson.OPT_SERIALIZE_NUMPY,
        )

    def column(self, number: int) -> bytes:
        """One quarter hour of all series: float64 kWh, then int32 measured ms."""
        at = number % SLOTS
        return self.kwh[:, at].tobytes() + self.covered_ms[:, at].tobytes()

    def oldest(self) -> int:
        """Number of the oldest quarter hour that is kept."""
        return self.head - SLOTS + 1

    @classmethod
    def restore(cls, header: bytes, columns: dict[int, bytes]) -> Self:
        """A shard as it was when `header` and `columns` were taken.

        Raises:
            ValueError: the state is of a newer version than this code.
        """
        state: dict[str, Any] = orjson.loads(header)
        if state["version"] > VERSION:
            raise ValueError(f"state of version {state['version']}, this code knows {VERSION}: deploy the newer code")
        shard = cls()
        series = [(str(m), str(r), str(t), int(k)) for m, r, t, k in state["series"]]
        none = np.zeros(0)
        shard._introduce(Pieces(series, none, none, none, none, none, none))  # type: ignore[arg-type]
        empty = Carry.empty(0)
        shard.carry = Carry(*(np.array(state["carry"][f.name], getattr(empty, f.name).dtype) for f in fields(Carry)))
        for name in ("first_ms", "issued_ms", "short_ms", "long_ms"):
            setattr(shard, name, np.array(state[name], np.int64))
        shard.head = state["head"]
        for number, column in columns.items():
            if shard.head - SLOTS < number <= shard.head:
                n = len(column) // 12  # Series that came later were not there
                shard.kwh[:n, number % SLOTS] = np.frombuffer(column, np.float64, n)
                shard.covered_ms[:n, number % SLOTS] = np.frombuffer(column, np.int32, n, n * 8)
        return shard


def net_of_registers(
    flow: NDArray[np.int64], kwh: NDArray[np.float64], covered_ms: NDArray[np.int32]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """One meter's net energy from several registers, slot by slot, by the rule of `energy_15m`.

    Of the registers that tell of one direction the most direct that has energy counts (`operators.flows`); net power
    counts where there is neither import nor export.

    Args:
        flow: [s] of each series; kwh, covered_ms: [s, slots].

    Returns:
        [slots] kWh import minus export, and measured time.
    """
    present = (kwh != 0) | (covered_ms > 0)
    totals = {}
    for direction in (IMPORT, EXPORT, NET // 10 * 10):
        total = np.full(kwh.shape[1], np.nan)
        for code in np.unique(flow[flow // 10 == direction // 10]).tolist():
            of_code = flow == code
            there = present[of_code].any(0) & np.isnan(total)
            total[there] = kwh[of_code][:, there].sum(0)
        totals[direction] = total
    either = ~(np.isnan(totals[IMPORT]) & np.isnan(totals[EXPORT]))
    net = np.where(
        either,
        np.nan_to_num(totals[IMPORT]) - np.nan_to_num(totals[EXPORT]),
        np.nan_to_num(totals[NET // 10 * 10]),
    )
    return net, covered_ms[flow != NONE].max(0, initial=0).astype(np.int64)


def _resolved(pieces: Pieces, owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of the readings that count, of several of a series at one time."""
    n = len(owner)
    blank = np.full(n, "", object)
    kind = np.array([series[3] for series in pieces.series], np.int8)[pieces.owner]
    readings = Readings(
        blank, blank, pieces.ts_ms, kind, pieces.value, pieces.interval_ms, pieces.revision, pieces.quality, blank
    )
    return resolve(owner, readings).keep
