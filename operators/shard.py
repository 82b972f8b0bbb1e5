"""A shard: the recent history of some hundred meters, as arrays. Pure; `operators.shard_function` gives it to Flink.

What is kept for each series (one kind of one register of one meter) is the energy of each quarter hour of the last 168
hours (`operators.history`), where the series stands (`operators.energy.Carry`), and its readings of the last eight days
(`operators.slot_readings`, in a store that need not be memory). A reading that is late, revised or repeated meets the
readings that it belongs to: the history is a function of the set of readings, whatever their order.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from operators.energy import NEVER, SLOT_MS, Carry, SeriesConfig, derive, resolve
from operators.features import has_context
from operators.flows import EXPORT, NONE, flow_of
from operators.history import SLOTS, History, net_of_registers
from operators.increments import Floats, Ints
from operators.meters import UNKNOWN, MeterConfig
from operators.packing import Pieces
from operators.patch import Found, Touched, derive_again, known_quality
from operators.readings import Kind, Readings
from operators.slot_readings import SlotReadings, condensed

KEPT = SLOTS + 96
"""Quarter hours of which readings are kept: the history's, and a day before to derive its oldest from."""
KNOWN_SHARE = 0.5
"""A step of which less is known is missing; one of which more is known counts with its mean power."""
CLOSED_SHARE = 0.9
"""A step of which so much is known is closed: a forecast from its end on may be issued."""
READ_SHARE = 0.8
"""A meter with a reading in so many of its known quarter hours has steps of a quarter hour."""
STEPS_S = (900, 3600)
DAY_SLOTS = 96
VERSION = 2
SEVERAL = -1
DECODED = 16
"""Quarter hours whose readings stay decoded: late ones come in bursts."""


class Slots(Protocol):
    """Packed readings by number of the quarter hour (epoch ms // 900,000): a dict, or a state of Flink."""

    def get(self, number: int) -> bytes | None: ...
    def put(self, number: int, packed: bytes) -> None: ...
    def remove(self, number: int) -> None: ...
    def numbers(self) -> Iterable[int]: ...


class MemorySlots(dict[int, bytes]):
    """`Slots` in memory."""

    put = dict.__setitem__
    remove = dict.__delitem__
    numbers = dict.keys


@dataclass(frozen=True)
class Due:
    """Meters for which a forecast is to be issued at one time, with one step."""

    issued_at_ms: int
    step_s: int
    meter_id: list[str]
    tenant_id: list[str]
    zone: list[str]
    """[m] each meter's IANA time zone."""
    history: Floats
    """[m, 168 h] kWh of each step, oldest first, NaN where missing; the last ends at `issued_at_ms`."""
    row: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    """[m] each meter's position in the shard."""
    site: list[str] = field(default_factory=list)
    """[m] each meter's site."""

    def take(self, chosen: Ints) -> Due:
        """Some of the meters, by positions."""
        names, tenants, zones, sites = (
            [column[i] for i in chosen.tolist()] for column in (self.meter_id, self.tenant_id, self.zone, self.site)
        )
        return Due(
            self.issued_at_ms, self.step_s, names, tenants, zones, self.history[chosen], self.row[chosen], sites
        )  # fmt: skip


class Shard:
    """Histories of the meters of one key."""

    def __init__(self, slots: Slots | None = None) -> None:
        """`slots`: where the readings are kept."""
        self.series: list[tuple[str, str, str, int]] = []
        """Meter id, register, tenant id, kind; in the order of their first reading, which is kept for ever."""
        self.meters: list[str] = []
        self._meter_of: dict[str, int] = {}
        self._series_of: dict[tuple[str, str, int], int] = {}
        self._pair_of: dict[tuple[str, str], int] = {}
        self._owner = np.zeros(0, np.int64)
        self._pair = np.zeros(0, np.int64)
        """By series: its meter, and its register of its meter, of which kinds share the readings' times."""
        self._flow = np.zeros(0, np.int64)
        self._sign = np.zeros(0)
        self._only_series = np.zeros(0, np.int64)
        """By meter: its series, or SEVERAL."""
        self._tenant: list[str] = []
        self._zone: list[str] = []
        self._config = SeriesConfig.of_kinds(np.zeros(0, np.int8))
        self._meter_configs: Mapping[str, MeterConfig] = {}
        self.history = History()
        self.carry = Carry.empty(0)
        self.longest_ms = np.zeros(0, np.int64)
        """By series: its longest interval."""
        self.heads = np.zeros(0, np.int64)
        """By pair: the time of its last reading, invalid ones included."""
        self.first_ms = np.zeros(0, np.int64)
        """By meter: when its energy begins."""
        self.issued_ms = np.zeros(0, np.int64)
        """By meter: the newest forecast."""
        self.found: Found | None = None
        """Who is told what is out of the ordinary with counters; None: nobody has a use for it."""
        self._slots: Slots = MemorySlots() if slots is None else slots
        self._kept = set(self._slots.numbers())
        self._decoded: OrderedDict[int, SlotReadings] = OrderedDict()

    # --- readings in ------------------------------------------------------------------------------------------------

    def apply(self, pieces: Pieces) -> set[int]:
        """Takes readings in, in any order and repeated or not.

        Returns:
            Numbers of the quarter hours of the history that changed.
        """
        series = self._introduce(pieces.series)[pieces.owner]
        rows = self._standing(
            SlotReadings(series, pieces.ts_ms, pieces.value, pieces.interval_ms, pieces.revision, pieces.quality)
        )
        np.maximum.at(self.longest_ms, rows.series, rows.interval_ms)
        pair = self._pair[rows.series]
        late = (rows.ts_ms <= self.heads[pair]) | (rows.ts_ms - rows.interval_ms < self.heads[pair])
        late |= self.carry.fallen[rows.series]
        np.maximum.at(self.heads, pair, rows.ts_ms)
        changed = self._extend(rows.take(~late))
        if late.any():
            changed |= self._patch(rows.take(late))
        self._forget()
        return changed

    def _introduce(self, names: list[tuple[str, str, str, int]]) -> Ints:
        """Numbers of the series; new ones are added."""
        new = list(dict.fromkeys(name for name in names if (name[0], name[1], name[3]) not in self._series_of))
        for meter, register, tenant, kind in new:
            if (meter, register, kind) in self._series_of:  # under another tenant's name
                continue
            self._series_of[meter, register, kind] = len(self.series)
            self._pair_of.setdefault((meter, register), len(self._pair_of))
            self.series.append((meter, register, tenant, kind))
            if meter not in self._meter_of:
                self._meter_of[meter] = len(self.meters)
                self.meters.append(meter)
                self._tenant.append(tenant)
                self._zone.append(self._meter_configs.get(meter, UNKNOWN).tz)
        if new:
            self._describe()
        return np.array([self._series_of[meter, register, kind] for meter, register, _, kind in names], np.int64)

    def _describe(self) -> None:
        """Columns of what follows from the series' names and the meters' configuration."""
        self._owner = np.array([self._meter_of[name[0]] for name in self.series], np.int64)
        self._pair = np.array([self._pair_of[name[0], name[1]] for name in self.series], np.int64)
        self._flow = np.array([flow_of(name[1], Kind(name[3])) for name in self.series], np.int64)
        self._sign = np.select([self._flow // 10 == EXPORT // 10, self._flow == NONE], [-1.0, 0.0], 1.0)
        counts = np.bincount(self._owner, minlength=len(self.meters))
        self._only_series = np.zeros(len(self.meters), np.int64)
        self._only_series[self._owner] = np.arange(len(self.series))
        self._only_series[counts > 1] = SEVERAL
        self.history.grow(len(self.series))
        more = len(self.series) - len(self.longest_ms)
        fresh = Carry.empty(more)
        self.carry = Carry(
            *(np.concatenate([getattr(self.carry, f.name), getattr(fresh, f.name)]) for f in fields(Carry))
        )
        self.longest_ms = np.concatenate([self.longest_ms, np.zeros(more, np.int64)])
        self.heads = np.concatenate([self.heads, np.full(len(self._pair_of) - len(self.heads), NEVER)])
        more = len(self.meters) - len(self.first_ms)
        self.first_ms = np.concatenate([self.first_ms, np.full(more, np.iinfo(np.int64).max)])
        self.issued_ms = np.concatenate([self.issued_ms, np.full(more, NEVER)])
        self._config = self._configured()

    def _standing(self, rows: SlotReadings) -> SlotReadings:
        """Of several readings of a pair at one time the one that counts; sorted by (pair, time)."""
        return rows.take(self._winners(rows))

    def _winners(self, rows: SlotReadings) -> Ints:
        blank = np.full(len(rows), "", object)
        kind = self._config.kind[rows.series]
        readings = Readings(
            blank, blank, rows.ts_ms, kind, rows.value, rows.interval_ms, rows.revision, rows.quality, blank
        )
        return resolve(self._pair[rows.series], readings).keep

    def _extend(self, rows: SlotReadings) -> set[int]:
        """Readings after where their series stands: exact, by the derivation that the database uses."""
        if not len(rows):
            return set()
        number = (rows.ts_ms - 1) // SLOT_MS
        for slot in np.unique(number).tolist():
            mine = rows.take(number == slot)
            self._keep(slot, mine.joined(self._load(slot)) if slot in self._kept else mine)
        done = derive(
            rows.series, rows.ts_ms, rows.value, rows.interval_ms, known_quality(rows.quality),
            config=self._config, carry=self.carry,
        )  # fmt: skip
        self.carry = done.carry
        if self.found is not None:
            for at in np.flatnonzero(self._config.kind[done.events.series] == Kind.REGISTER).tolist():
                event = done.events.take(np.array([at]))
                self.found(int(event.series[0]), int(event.ts_ms[0]), int(event.ts_ms[0]), event)
        s = done.slots
        number = s.slot_ms // SLOT_MS
        kept = self.history.set(s.series, number, s.kwh, s.covered_ms, s.readings)
        self._begin(s.series, number)
        return set(np.unique(number[kept]).tolist())

    def _patch(self, rows: SlotReadings) -> set[int]:
        """Readings at or before where their series stands: what they change is derived again."""
        number = (rows.ts_ms - 1) // SLOT_MS
        series, low, high = [], [], []
        for slot in np.unique(number[number > self._oldest_kept()]).tolist():
            stored = self._load(slot)
            # A repeat loses against what is stored: of equal ones the last stands.
            both = rows.take(number == slot).joined(stored)
            winners = self._winners(both)
            fresh = len(both) - len(stored)
            new = winners[winners < fresh]
            if not len(new):
                continue
            lost = np.setdiff1d(np.arange(fresh, len(both)), winners)
            lost = lost[np.isin(self._pair[both.series[lost]], self._pair[both.series[new]])]
            for at in np.concatenate([new, lost]).tolist():
                series.append(int(both.series[at]))
                low.append(int(both.ts_ms[at] - both.interval_ms[at]))
                high.append(int(both.ts_ms[at]))
            self._keep(slot, both.take(winners))
        if not series:
            return set()
        touched = Touched.of(np.array(series, np.int64), np.array(low, np.int64), np.array(high, np.int64))
        return self._derive_again(touched)

    def _derive_again(self, touched: Touched) -> set[int]:
        return derive_again(
            touched,
            self.longest_ms,
            self._config,
            self._kept,
            self._load,
            self.history,
            self.carry,
            self._begin,
            self.found,
        )

    def _begin(self, series: Ints, number: Ints) -> None:
        np.minimum.at(self.first_ms, self._owner[series], number * SLOT_MS)

    # --- readings kept ----------------------------------------------------------------------------------------------

    def _load(self, slot: int) -> SlotReadings:
        rows = self._decoded.get(slot)
        if rows is None:
            packed = self._slots.get(slot) if slot in self._kept else None
            rows = SlotReadings.none() if packed is None else SlotReadings.unpack(packed, slot)
            self._remember(slot, rows)
        return rows

    def _keep(self, slot: int, rows: SlotReadings) -> None:
        order = np.lexsort((rows.ts_ms, rows.series))
        rows = condensed(rows.take(order), self._config.kind, self._config.max_kw)
        self._slots.put(slot, rows.pack(slot))
        self._kept.add(slot)
        self._remember(slot, rows)

    def _remember(self, slot: int, rows: SlotReadings) -> None:
        self._decoded[slot] = rows
        self._decoded.move_to_end(slot)
        if len(self._decoded) > DECODED:
            self._decoded.popitem(last=False)

    def _oldest_kept(self) -> int:
        newest = max(self._kept, default=NEVER)
        return newest - KEPT if newest != NEVER else NEVER

    def _forget(self) -> None:
        oldest = self._oldest_kept()
        for slot in [slot for slot in self._kept if slot <= oldest]:
            self._slots.remove(slot)
            self._kept.discard(slot)
            self._decoded.pop(slot, None)

    # --- the meters' configuration ----------------------------------------------------------------------------------

    def configure(self, configs: Mapping[str, MeterConfig]) -> set[int]:
        """What is known of meters, by id. Where a known meter's differs from before, its energy is derived again.

        Returns:
            Numbers of the quarter hours that changed.
        """
        self._meter_configs = configs
        before, self._config = self._config, self._configured()
        self._zone = [configs.get(meter, UNKNOWN).tz for meter in self.meters]
        differs = np.flatnonzero(
            ~np.isclose(before.register_max, self._config.register_max, equal_nan=True, rtol=0, atol=0)
            | ~np.isclose(before.max_kw, self._config.max_kw, equal_nan=True, rtol=0, atol=0)
        )
        if not len(differs) or not self._kept:
            return set()
        low, high = min(self._kept) * SLOT_MS, (max(self._kept) + 1) * SLOT_MS
        return self._derive_again(Touched(differs, np.full(len(differs), low), np.full(len(differs), high)))

    def _configured(self) -> SeriesConfig:
        configs = [self._meter_configs.get(name[0], UNKNOWN) for name in self.series]
        return SeriesConfig(
            np.array([name[3] for name in self.series], np.int8),
            np.array([config.register_max for config in configs], np.float64),
            np.array([config.max_kw for config in configs], np.float64),
        )

    # --- forecasts due ----------------------------------------------------------------------------------------------

    def due(self, window_end_ms: int) -> Iterator[Due]:
        """Forecasts to issue now that time has passed `window_end_ms`: for each meter its newest closed step, if new.

        A meter has context when its energy began 168 hours ago or more, and at least half of the steps since are known.
        """
        newest = np.full(len(self.meters), NEVER)
        np.maximum.at(newest, self._owner, self.carry.last_ms)
        step_ms = self._step_ms()
        issue = np.minimum(newest, window_end_ms) // step_ms * step_ms
        ready = (newest != NEVER) & (issue > self.issued_ms) & (issue - SLOTS * SLOT_MS >= self.first_ms)
        for step in STEPS_S:
            of_step = np.flatnonzero(ready & (step_ms == step * 1000))
            for issued_at in np.unique(issue[of_step]).tolist():
                meters = of_step[issue[of_step] == issued_at]
                history, closed = self._steps(meters, issued_at, step)
                good = closed & has_context(~np.isnan(history))
                chosen = meters[good]
                if len(chosen):
                    self.issued_ms[chosen] = issued_at
                    of = (self.meters, self._tenant, self._zone)
                    names, tenants, zones = ([column[i] for i in chosen.tolist()] for column in of)
                    sites = [self._meter_configs.get(name, UNKNOWN).site_id for name in names]
                    yield Due(issued_at, step, names, tenants, zones, history[good], chosen, sites)

    def _step_ms(self) -> Ints:
        """By meter: the length of its steps, from how many of its known quarter hours have a reading."""
        known, read = self.history.known()
        per_meter = len(self.meters)
        known = np.bincount(self._owner, known, per_meter)
        read = np.bincount(self._owner, read, per_meter)
        return np.where(read >= READ_SHARE * known, 900_000, 3_600_000)

    def actual(self, meters: Ints, start_ms: int, step_s: int) -> Floats:
        """What came in the 24 hours from `start_ms`, as far as it is known by now.

        Args:
            meters: [m] positions in the shard.
            start_ms: epoch ms, a multiple of the step.
            step_s: 900 or 3600.

        Returns:
            [m, 86,400 / step_s] net kWh of each step, NaN where less than `CLOSED_SHARE` of it is known.
        """
        energy, share = self._energy(meters, start_ms + DAY_SLOTS * SLOT_MS, step_s, DAY_SLOTS)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(share >= CLOSED_SHARE, energy / share, np.nan)

    def _steps(self, meters: Ints, issued_at_ms: int, step_s: int) -> tuple[Floats, NDArray[np.bool_]]:
        """Net kWh of each step of the last 168 hours, NaN where missing; and whether the last step is closed."""
        energy, share = self._energy(meters, issued_at_ms, step_s, SLOTS)
        with np.errstate(divide="ignore", invalid="ignore"):
            history = np.where(share >= KNOWN_SHARE, energy / share, np.nan)
        return history, share[:, -1] >= CLOSED_SHARE

    def _energy(self, meters: Ints, end_ms: int, step_s: int, slots: int) -> tuple[Floats, Floats]:
        """What is known of the energy of each step of the quarter hours up to `end_ms`, and the share that is known."""
        last = end_ms // SLOT_MS - 1
        numbers = np.arange(last - slots + 1, last + 1)
        kwh, covered = self._net(meters, numbers % SLOTS)
        absent = self.history.absent(numbers)
        kwh[:, absent], covered[:, absent] = 0.0, 0
        # Energy of which nobody knows when it was used is in no step.
        kwh[covered == 0] = 0.0
        per = step_s * 1000 // SLOT_MS
        shape = (len(meters), slots // per, per)
        energy, known = kwh.reshape(shape).sum(2), covered.reshape(shape).sum(2)
        return energy, known / (step_s * 1000)

    def _net(self, meters: Ints, columns: Ints) -> tuple[Floats, Ints]:
        """Net kWh and known time of each meter and column: [m, c] both."""
        row = self._only_series[meters]
        at = np.ix_(row, columns)
        kwh = self.history.kwh[at] * self._sign[row][:, None]
        covered = self.history.covered_ms[at].astype(np.int64)
        for place in np.flatnonzero(row == SEVERAL).tolist():
            series = np.flatnonzero(self._owner == meters[place])
            own = np.ix_(series, columns)
            kwh[place], covered[place] = net_of_registers(
                self._flow[series], self.history.kwh[own], self.history.covered_ms[own]
            )
        return kwh, covered

    # --- what a detector asks (operators.detection.shard_watch) -----------------------------------------------------

    def newest_ms(self) -> Ints:
        """[meters] time of each meter's newest reading, epoch ms UTC; NEVER: there was none."""
        newest = np.full(len(self.meters), NEVER)
        np.maximum.at(newest, self._owner, self.carry.last_ms)
        return newest

    def step_ms(self) -> Ints:
        """[meters] the length of each meter's steps, as it looks now."""
        return self._step_ms()

    def steps(self, meters: Ints, end_ms: int, step_s: int) -> Floats:
        """[m, 168 h] net kWh of each step until `end_ms`, NaN where missing, of the meters at these positions."""
        return self._steps(meters, end_ms, step_s)[0]

    def step(self, meters: Ints, end_ms: int, step_s: int) -> tuple[Floats, NDArray[np.bool_]]:
        """The last of these alone, [m]; and whether a reading ended in it."""
        numbers = np.arange(end_ms - step_s * 1000, end_ms, SLOT_MS) // SLOT_MS
        kwh, covered = self._net(meters, numbers % SLOTS)
        there = (covered > 0) & ~self.history.absent(numbers)
        share = (covered * there).sum(1) / (step_s * 1000)
        with np.errstate(divide="ignore", invalid="ignore"):
            energy = np.where(share >= KNOWN_SHARE, (kwh * there).sum(1) / share, np.nan)
        heard = (self.history.read[:, numbers % SLOTS] * ~self.history.absent(numbers)).any(axis=1)
        read = np.zeros(len(self.meters), np.bool_)
        read[self._owner[heard]] = True
        return energy, read[meters]

    def about(self, meter: int) -> tuple[str, str, MeterConfig]:
        """Tenant, time zone and configuration of the meter at a position."""
        return self._tenant[meter], self._zone[meter], self._meter_configs.get(self.meters[meter], UNKNOWN)

    # --- state out and in -------------------------------------------------------------------------------------------

    def names(self) -> bytes:
        """The series, as JSON: changes only when one is new."""
        return orjson.dumps(self.series)

    def header(self) -> bytes:
        """Everything but the names, the quarter hours and the readings."""
        columns = {
            **{field.name: getattr(self.carry, field.name) for field in fields(Carry)},
            **{name: getattr(self, name) for name in _COLUMNS},
            "register_max": self._config.register_max,
            "max_kw": self._config.max_kw,
        }
        layout = [[name, column.dtype.str, len(column)] for name, column in columns.items()]
        head = orjson.dumps({"version": VERSION, "head": int(self.history.head), "columns": layout})
        return b"".join((len(head).to_bytes(4, "little"), head, *(column.tobytes() for column in columns.values())))

    def column(self, number: int) -> bytes:
        """One quarter hour of the history."""
        return self.history.column(number)

    def oldest(self) -> int:
        """Number of the oldest quarter hour of the history."""
        return self.history.oldest()

    @classmethod
    def restore(cls, names: bytes, header: bytes, columns: Mapping[int, bytes], slots: Slots | None = None) -> Self:
        """A shard as it was when `names`, `header` and `columns` were taken.

        Raises:
            ValueError: the state is of a version that this code does not know.
        """
        size = int.from_bytes(header[:4], "little")
        head = orjson.loads(header[4 : 4 + size])
        if head["version"] != VERSION:
            raise ValueError(f"state of version {head['version']}, this code knows {VERSION}: deploy the code it is of")
        found: dict[str, Any] = {}
        at = 4 + size
        for name, kind, n in head["columns"]:
            found[name] = np.frombuffer(header, kind, n, at).copy()
            at += found[name].nbytes
        shard = cls(slots)
        shard._introduce([(str(m), str(r), str(t), int(k)) for m, r, t, k in orjson.loads(names)])
        shard.carry = Carry(*(found[field.name] for field in fields(Carry)))
        for name in _COLUMNS:
            setattr(shard, name, found[name])
        shard._config = SeriesConfig(shard._config.kind, found["register_max"], found["max_kw"])
        shard.history.head = head["head"]
        for number, column in columns.items():
            shard.history.load(number, column)
        return shard


_COLUMNS = ("longest_ms", "heads", "first_ms", "issued_ms")
