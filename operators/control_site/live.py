"""What a site's meters say now: import of this moment and of the quarter hour so far, from readings of any kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from operators.control_site.feeds import LARGEST_KW, Reading
from operators.flows import NET, NONE, flow_of
from operators.readings import Kind

SLOT_MS = 900_000
LEAST_STALE_MS = 300_000
"""A meter is stale after three of its own steps, yet not before so long …"""
MOST_STALE_MS = 3 * 3_600_000
"""… and in any case after so long."""
LONGEST_STEP_MS = 2 * 3_600_000
"""Two registers' readings that are further apart tell no power of this moment."""
KEPT_SLOTS = 12

Series = dict[str, Any]


@dataclass(frozen=True)
class Power:
    """The last stretch of time that some meters measured."""

    kw: float
    """Mean import; negative is export."""
    begin_ms: int
    end_ms: int


class LiveMeters:
    """The newest of each meter and register. `state` is JSON."""

    def __init__(self, state: Mapping[str, Any] | None = None) -> None:
        self.state: dict[str, dict[str, Series]] = {m: dict(s) for m, s in (state or {}).items()}

    def take(self, reading: Reading) -> bool:
        """One reading; False when it tells nothing new of this moment (it is late, or a register's first)."""
        flow = flow_of(reading.register, reading.kind)
        if flow == NONE:
            return False
        registers = self.state.setdefault(reading.meter_id, {})
        last = registers.get(f"{reading.register}/{reading.kind:d}")
        if last is not None and reading.ts_ms <= last["ts"]:
            return False
        made: Series = {"flow": flow, "ts": reading.ts_ms, "value": reading.value, "step": 0, "kw": None, "slots": {}}
        if last is not None:
            made |= {"step": last["step"], "slots": last["slots"]}
        registers[f"{reading.register}/{reading.kind:d}"] = made
        begin, kw = _stretch(reading, last)
        if kw is None or not abs(kw) <= LARGEST_KW:
            return False
        made["kw"], made["begin"] = kw, begin
        if begin < reading.ts_ms:
            made["step"] = reading.ts_ms - begin
            _spread(made["slots"], begin, reading.ts_ms, kw)
        return True

    def keep(self, meters: Iterable[str]) -> None:
        """Forgets all other meters."""
        wanted = set(meters)
        self.state = {meter: series for meter, series in self.state.items() if meter in wanted}

    def power(self, meters: Iterable[str], now_ms: int) -> Power | None:
        """Import through some meters together; None when one of them is not known, or stale."""
        total, begin, end, any_ = 0.0, 0, now_ms, False
        for meter in meters:
            series = self._counting(meter)
            known = [s for s in series if s["kw"] is not None]
            if not known or len(known) < len(series):
                return None
            newest = max(s["ts"] for s in known)
            if now_ms - newest > self.stale_ms(meter):
                return None
            total += sum(_sign(s) * s["kw"] for s in known)
            begin, end, any_ = max(begin, *(s["begin"] for s in known)), min(end, newest), True
        return Power(total, min(begin, end), end) if any_ else None

    def stale_ms(self, meter: str) -> int:
        """The age beyond which a meter says nothing of now."""
        step = max((s["step"] for s in self._counting(meter)), default=0)
        return min(max(3 * step, LEAST_STALE_MS), MOST_STALE_MS)

    def slot(self, meters: Iterable[str], slot_ms: int) -> tuple[float, int]:
        """Energy in a quarter hour through some meters (kWh), and how much of it all have measured (ms)."""
        kwh, covered = 0.0, SLOT_MS
        for meter in meters:
            series = self._counting(meter)
            parts = [(_sign(s), s["slots"].get(str(slot_ms), (0.0, 0))) for s in series]
            kwh += sum(sign * part[0] for sign, part in parts)
            covered = min([covered, *(part[1] for _, part in parts)]) if parts else 0
        return kwh, covered

    def passed(self, meters: Iterable[str]) -> int:
        """The time that all of some meters have reached, epoch ms; 0 when one has not begun."""
        newest = [max((s["ts"] for s in self._counting(meter)), default=0) for meter in meters]
        return min(newest, default=0)

    def _counting(self, meter: str) -> list[Series]:
        """The series of a meter that are summed: by direction those that tell most directly (`flow_of`)."""
        series = self.state.get(meter, {}).values()
        best: dict[int, int] = {}
        for s in series:
            best[s["flow"] // 10] = min(s["flow"], best.get(s["flow"] // 10, 99))
        if len(best) > 1:
            best.pop(NET // 10, None)
        # Counters and intervals of one tariff stand side by side.
        return [s for s in series if best.get(s["flow"] // 10) == s["flow"]]


def _sign(series: Series) -> float:
    return -1.0 if series["flow"] // 10 == 2 else 1.0


def _stretch(reading: Reading, last: Series | None) -> tuple[int, float | None]:
    """When the time that a reading tells of began, and its mean power; None: it tells none."""
    if reading.kind is Kind.INTERVAL:
        return reading.ts_ms - reading.interval_ms, reading.value * 3_600_000 / max(reading.interval_ms, 1)
    apart = reading.ts_ms - last["ts"] if last is not None else LONGEST_STEP_MS + 1
    if reading.kind is Kind.INSTANT:
        return reading.ts_ms - (apart if apart <= LONGEST_STEP_MS else 0), reading.value
    if last is None or apart > LONGEST_STEP_MS or reading.value < last["value"]:
        return reading.ts_ms, None
    return last["ts"], (reading.value - last["value"]) * 3_600_000 / apart


def _spread(slots: dict[str, list[float]], begin: int, end: int, kw: float) -> None:
    at = begin
    while at < end:
        slot = at - at % SLOT_MS
        until = min(end, slot + SLOT_MS)
        part = slots.setdefault(str(slot), [0.0, 0])
        part[0] += kw * (until - at) / 3_600_000
        part[1] += until - at
        at = until
    for old in sorted(slots, key=int)[:-KEPT_SLOTS]:
        del slots[old]
