"""Keeps one asset to its setpoints: leases, bounds, ramp, the caps on the site's import, and the fall-back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from jobs.device.lane import ACTIVE, DONE, FAILSAFE, INIT, Ack, Lane, Lease
from jobs.device.options import AssetSpec, KeeperOptions
from jobs.device.setpoint import IMPORT_CAPACITY_LIMIT, POWER, Now, Setpoint, SetpointError, parse


@dataclass(frozen=True)
class Command:
    """What the device does now. Powers in W, import positive.

    `power_w` is finite, within the asset's bounds and its ramp from the command before; `target_w` is where it goes.
    `state` is that of the power lease: `init`, `active`, `done` or `failsafe`. `limited_by` says what moved the target
    or the power: `cap`, `bounds`, `ramp`.
    """

    asset_id: str
    power_w: float
    target_w: float
    state: str
    setpoint_id: str | None
    cap_w: float | None = None
    limited_by: tuple[str, ...] = ()
    acks: list[Ack] = field(default_factory=list)


class LeaseKeeper:
    """The state machine of one asset. It reads no clock: every call is told the time, on both clocks."""

    def __init__(self, spec: AssetSpec, options: KeeperOptions | None = None) -> None:
        self.spec = spec
        self.options = options or KeeperOptions()
        self.power = Lane(self.options)
        self.cap = Lane(self.options)
        self.ignored = 0
        """Messages that named no asset of ours, or that nobody could be answered about."""
        self._last_w: float | None = None
        self._last_s = 0.0

    def offer(self, message: bytes | str | Mapping[str, Any], now: Now, *, sent_ms: int | None = None) -> list[Ack]:
        """Takes a message of `control.setpoints`, in any order, any number of times; what to put on `control.acks`.

        `mode: shadow`, other assets' and unreadable messages have no effect and no answer.

        Args:
            message: JSON, or the object.
            now: both clocks.
            sent_ms: when the transport says that it was sent (ms UTC), for messages without `issued_at`.
        """
        acks = self.power.advance(now) + self.cap.advance(now)
        try:
            setpoint = parse(message)
        except SetpointError as error:
            if error.setpoint_id is None:
                self.ignored += 1
                return acks
            return acks + self.power.refuse(error.setpoint_id, self.spec.asset_id, now, str(error))
        if setpoint.asset_id != self.spec.asset_id:
            self.ignored += 1
            return acks
        if setpoint.mode == "shadow":
            return acks
        lane = self.power if setpoint.type == POWER else self.cap
        problem = self._out_of_bounds(setpoint)
        if problem is not None:
            return acks + lane.refuse(setpoint.setpoint_id, self.spec.asset_id, now, problem)
        return acks + lane.offer(setpoint, now, sent_ms)

    def step(
        self,
        now: Now,
        *,
        measured_w: float | None = None,
        site_import_w: float | None = None,
        grid_import_max_w: float | None = None,
        grid_export_max_w: float | None = None,
    ) -> Command:
        """The power to apply now. Call it often (each second or so): a lease ends at the first call after its end.

        Args:
            now: both clocks.
            measured_w: the asset's own power, when it is known.
            site_import_w: the site's net import, this asset included, when it is known. A cap leaves the asset what the
                others leave of it; without both measurements the asset alone may not exceed the cap.
            grid_import_max_w: a cap from elsewhere on the site's import, as the grid operator's (`PowerLimitation`).
            grid_export_max_w: the same for export, 0 or more.
        """
        acks = self.power.advance(now) + self.cap.advance(now)
        measured = _finite(measured_w)
        site = _finite(site_import_w)
        others = site - measured if site is not None and measured is not None else 0.0
        wanted = self.power.value_w if self.power.value_w is not None else self.options.default_failsafe_w
        limited = []
        target = wanted
        export_cap = _finite(grid_export_max_w)
        if export_cap is not None:
            target = max(target, -export_cap - others)
        caps = [c for c in (self.cap.value_w, _finite(grid_import_max_w)) if c is not None]
        cap = min(caps, default=None)
        if cap is not None:
            target = min(target, cap - others)
        if target != wanted:
            limited.append("cap")
        inside = self.spec.clip(target)
        if inside != target:
            limited.append("bounds")
        power = self._ramped(inside, now, measured)
        if power != inside:
            limited.append("ramp")
        for ack in acks:
            ack["measured_w"] = measured
        running = self.power.current if self.power.state == ACTIVE else None
        name = running.setpoint.setpoint_id if running is not None else None
        return Command(self.spec.asset_id, power, inside, self.power.state, name, cap, tuple(limited), acks)

    def fault(self, now: Now, reason: str) -> list[Ack]:
        """The device cannot follow: its leases end here, in failsafe."""
        return self.power.fail(now, reason) + self.cap.fail(now, reason)

    def snapshot(self, now: Now) -> dict[str, Any]:
        """What must outlive a restart, as JSON: store it when `state` changes."""
        return {"power": _dump(self.power, now), "cap": _dump(self.cap, now)}

    @classmethod
    def restored(
        cls, spec: AssetSpec, snapshot: Mapping[str, Any], now: Now, options: KeeperOptions | None = None
    ) -> LeaseKeeper:
        """After a restart: failsafe holds for what is left of its minimum duration, a lease that ran is in failsafe.

        The time that passed while the device was off counts by the wall clock, never for less than nothing.
        """
        keeper = cls(spec, options)
        _load(keeper.power, snapshot["power"], now)
        _load(keeper.cap, snapshot["cap"], now)
        return keeper

    def _out_of_bounds(self, setpoint: Setpoint) -> str | None:
        for name, value in (("value_w", setpoint.value_w), ("failsafe.value_w", setpoint.failsafe_w)):
            if setpoint.type == POWER and not self.spec.allows(value):
                return f"out_of_bounds: {name} {value:g} is not within {self.spec.min_w:g}..{self.spec.max_w:g}"
            if setpoint.type != POWER and value < 0:
                return f"out_of_bounds: {name} {value:g} is below 0"
        return None

    def _ramped(self, target: float, now: Now, measured: float | None) -> float:
        """At most `ramp_w_per_s` away from the last command for each second since; a clock that stands still, none."""
        if self._last_w is None:
            self._last_w = self.spec.clip(measured if measured is not None else self.options.default_failsafe_w)
            self._last_s = now.mono_s
        elapsed = max(0.0, now.mono_s - self._last_s)
        room = self.spec.ramp_w_per_s * elapsed if elapsed > 0 else 0.0
        if math.isinf(self.spec.ramp_w_per_s):
            room = math.inf
        self._last_w = min(max(target, self._last_w - room), self._last_w + room)
        self._last_s = max(self._last_s, now.mono_s)
        return self._last_w


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else value


def _dump(lane: Lane, now: Now) -> dict[str, Any]:
    hold_ms = round(max(0.0, lane.hold_until_s - now.mono_s) * 1000) if lane.state == FAILSAFE else 0
    return {
        "state": lane.state,
        "at_ms": now.wall_ms,
        "hold_ms": hold_ms,
        "last": None if lane.last is None else asdict(lane.last),
    }


def _load(lane: Lane, saved: Mapping[str, Any], now: Now) -> None:
    if saved["last"] is None:
        return
    lane.last = Setpoint(**saved["last"])
    if saved["state"] == INIT or (saved["state"] == DONE and lane.last.type == IMPORT_CAPACITY_LIMIT):
        return
    lane.current = Lease.of(lane.last, now)
    lane.value_w = lane.last.failsafe_w
    lane.state = FAILSAFE
    passed_ms = max(0, now.wall_ms - int(saved["at_ms"]))
    # A lease that still ran is not resumed, and may be replaced at once: the controller was not lost, the device was.
    hold_ms = max(0, int(saved["hold_ms"]) - passed_ms)
    lane.hold_until_s = now.mono_s + hold_ms / 1000
