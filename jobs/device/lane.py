"""The leases of one asset and one type of setpoint: a state machine that is told the time.

    init ──setpoint──► active ──step over──► done
      failsafe ◄── lease over ──┴──────────────┘
      failsafe ── fresh setpoint, after the minimum duration ──► active

A lease ends as soon as either clock of the device says so, and a scheduled one starts when both do: a wall clock that
jumps, forward or back, can shorten a lease and never lengthen it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from jobs.device.options import KeeperOptions
from jobs.device.setpoint import IMPORT_CAPACITY_LIMIT, Now, Setpoint, iso

INIT, ACTIVE, DONE, FAILSAFE = "init", "active", "done", "failsafe"
ACCEPTED, REJECTED, STARTED, SUCCEEDED, ABORTED = "ACCEPTED", "REJECTED", "STARTED", "SUCCEEDED", "ABORTED"
Ack = dict[str, Any]


@dataclass(frozen=True)
class Lease:
    """A setpoint and its moments on the monotonic clock (s), fixed when it was accepted."""

    setpoint: Setpoint
    start_s: float
    end_s: float
    step_end_s: float | None

    @classmethod
    def of(cls, setpoint: Setpoint, now: Now) -> Lease:
        """From the moment of its acceptance."""

        def on_mono(wall_ms: int) -> float:
            return now.mono_s + (wall_ms - now.wall_ms) / 1000

        step_end = setpoint.step_end_ms
        return cls(
            setpoint,
            on_mono(setpoint.execution_ms),
            on_mono(setpoint.lease_end_ms),
            None if step_end is None else on_mono(step_end),
        )

    def begun(self, now: Now) -> bool:
        """Both clocks say that it is time."""
        return now.mono_s >= self.start_s and now.wall_ms >= self.setpoint.execution_ms

    def over(self, now: Now) -> bool:
        """Either clock says that the lease ended."""
        return now.mono_s >= self.end_s or now.wall_ms >= self.setpoint.lease_end_ms

    def step_over(self, now: Now) -> bool:
        """Either clock says that the plan's step ended."""
        end_ms = self.setpoint.step_end_ms
        if end_ms is None or self.step_end_s is None:
            return False
        return now.mono_s >= self.step_end_s or now.wall_ms >= end_ms


class Lane:
    """Accepts, schedules, replaces and ends the setpoints of one type.

    `value_w` is what holds now: the setpoint's, its failsafe, or None before the first.
    """

    def __init__(self, options: KeeperOptions) -> None:
        self.options = options
        self.state = INIT
        self.value_w: float | None = None
        self.current: Lease | None = None
        """The running lease; in `failsafe` the one that lapsed."""
        self.last: Setpoint | None = None
        """The newest that was started: nothing older is taken any more."""
        self.pending: list[Lease] = []
        self.hold_until_s = 0.0
        self._status: OrderedDict[str, Ack] = OrderedDict()
        self._superseded: OrderedDict[str, str] = OrderedDict()

    def offer(self, setpoint: Setpoint, now: Now, sent_ms: int | None) -> list[Ack]:
        """Takes a setpoint that is within the asset's bounds; call `advance` first.

        Args:
            setpoint: of this lane's type.
            now: both clocks.
            sent_ms: when the message was sent, if it is known otherwise than by `issued_at`.
        """
        seen = self._status.get(setpoint.setpoint_id)
        if seen is not None:
            return [seen | {"ts": iso(now.wall_ms)}]
        refusal = self._refusal(setpoint, now, sent_ms)
        if refusal is not None:
            code, retry_ms = refusal
            return [self._ack(setpoint, REJECTED, now, code, retry_ms)]
        acks = [self._ack(setpoint, ACCEPTED, now)]
        if setpoint.supersedes is not None:
            self._remember_superseded(setpoint.supersedes, setpoint.setpoint_id)
        lease = Lease.of(setpoint, now)
        for other in [p for p in self.pending if self._displaces(setpoint, p.setpoint, now)]:
            self.pending.remove(other)
            acks.append(self._ack(other.setpoint, ABORTED, now, f"superseded by {setpoint.setpoint_id}"))
        if lease.begun(now):
            return acks + self._start(lease, now)
        self.pending.append(lease)
        self.pending.sort(key=lambda p: p.setpoint.execution_ms)
        return acks

    def refuse(self, setpoint_id: str, asset_id: str, now: Now, code: str) -> list[Ack]:
        """Remembers and answers a setpoint that is not valid; a repeat of one that was taken changes nothing."""
        seen = self._status.get(setpoint_id)
        if seen is not None:
            return [seen | {"ts": iso(now.wall_ms)}]
        return [self._note(setpoint_id, asset_id, REJECTED, now, code)]

    def advance(self, now: Now) -> list[Ack]:
        """Starts what is due, ends what is over, falls into failsafe."""
        acks = []
        for lapsed in [p for p in self.pending if p.over(now) or p.step_over(now)]:
            self.pending.remove(lapsed)
            acks.append(self._ack(lapsed.setpoint, ABORTED, now, "expired before it could start"))
        for due in [p for p in self.pending if p.begun(now)]:
            if self._gap_before(due):
                break
            self.pending.remove(due)
            if self._outranked(due.setpoint, now):
                acks.append(self._ack(due.setpoint, ABORTED, now, "outranked"))
            else:
                acks += self._start(due, now)
        if self.current is None or self.state not in (ACTIVE, DONE):
            return acks
        if self.current.over(now) and not self._released(now):
            acks += self.fail(now, "lease_expired")
        elif self.state == ACTIVE and self.current.step_over(now):
            acks.append(self._ack(self.current.setpoint, SUCCEEDED, now, "step over"))
            self.state = DONE
            self.value_w = None if self._cap else self.current.setpoint.failsafe_w
        if self.state == DONE and self._cap:
            self.state, self.current = INIT, None
        return acks

    def fail(self, now: Now, reason: str) -> list[Ack]:
        """Into failsafe, for at least its minimum duration; what was scheduled is not fresh and is dropped."""
        acks = []
        if self.current is not None and self.state in (ACTIVE, DONE):
            if self.state == ACTIVE:
                acks.append(self._ack(self.current.setpoint, ABORTED, now, reason))
            self.value_w = self.current.setpoint.failsafe_w
            self.hold_until_s = now.mono_s + self.current.setpoint.failsafe_ms / 1000
            self.state = FAILSAFE
        acks += [self._ack(p.setpoint, ABORTED, now, f"failsafe: {reason}") for p in self.pending]
        self.pending.clear()
        return acks

    @property
    def _cap(self) -> bool:
        return self.current is not None and self.current.setpoint.type == IMPORT_CAPACITY_LIMIT

    def _released(self, now: Now) -> bool:
        """A cap whose step ended within its lease was lifted by plan, however late we look."""
        lease = self.current
        if lease is None or not self._cap or lease.setpoint.duration_ms is None or not lease.step_over(now):
            return False
        return lease.setpoint.duration_ms <= lease.setpoint.ttl_ms

    def _refusal(self, setpoint: Setpoint, now: Now, sent_ms: int | None) -> tuple[str, int | None] | None:
        options = self.options
        issued = setpoint.issued_ms if setpoint.issued_ms is not None else sent_ms
        lease = Lease.of(setpoint, now)
        code = None
        if setpoint.ttl_ms > options.max_ttl_s * 1000:
            code = f"bad_ttl: more than {options.max_ttl_s:g} s"
        elif lease.over(now) or lease.step_over(now):
            code = "expired"
        elif issued is not None and issued > now.wall_ms + options.max_skew_s * 1000:
            code = f"clock_skew: issued {(issued - now.wall_ms) / 1000:.0f} s ahead of this device's clock"
        elif setpoint.execution_ms > now.wall_ms + options.max_lead_s * 1000:
            code = f"too_far_ahead: more than {options.max_lead_s:g} s"
        elif self.state == FAILSAFE and now.mono_s < self.hold_until_s:
            left_ms = round((self.hold_until_s - now.mono_s) * 1000)
            return "failsafe_hold", now.wall_ms + left_ms
        elif setpoint.setpoint_id in self._superseded:
            code = f"superseded by {self._superseded[setpoint.setpoint_id]}"
        elif self.state == FAILSAFE and self.last is not None and setpoint.execution_ms <= self.last.execution_ms:
            code = f"not fresh: no later than {self.last.setpoint_id}, which lapsed"
        elif self.last is not None and not setpoint.newer_than(self.last):
            code = f"older than {self.last.setpoint_id}"
        elif self._outranked(setpoint, now):
            code = "outranked"
        elif any(_same_start(setpoint, p.setpoint) and not setpoint.newer_than(p.setpoint) for p in self.pending):
            code = "older than one that is scheduled for the same time"
        elif len(self.pending) >= options.max_pending and not lease.begun(now):
            code = f"too_many: {options.max_pending} are scheduled"
        return None if code is None else (code, None)

    def _outranked(self, setpoint: Setpoint, now: Now) -> bool:
        """The running lease has a higher priority (a lower number), and will still run when this one starts."""
        lease = self.current
        # Who sent the running one may take it back, and one whose step is over asks for nothing any more.
        if lease is None or self.state != ACTIVE or lease.over(now) or lease.step_over(now):
            return False
        if setpoint.supersedes == lease.setpoint.setpoint_id:
            return False
        step_end = lease.setpoint.step_end_ms
        end = lease.setpoint.lease_end_ms if step_end is None else min(lease.setpoint.lease_end_ms, step_end)
        return lease.setpoint.priority < setpoint.priority and max(setpoint.execution_ms, now.wall_ms) < end

    def _displaces(self, setpoint: Setpoint, waiting: Setpoint, now: Now) -> bool:
        if waiting.setpoint_id == setpoint.supersedes or _same_start(setpoint, waiting):
            return True
        return setpoint.execution_ms <= now.wall_ms and setpoint.newer_than(waiting)

    def _gap_before(self, lease: Lease) -> bool:
        """The running lease ended before this one starts: the asset must have been in failsafe between."""
        running = self.current
        return running is not None and self.state in (ACTIVE, DONE) and lease.start_s > running.end_s

    def _start(self, lease: Lease, now: Now) -> list[Ack]:
        acks = []
        if self.current is not None and self.state == ACTIVE:
            detail = f"replaced by {lease.setpoint.setpoint_id}"
            acks.append(self._ack(self.current.setpoint, SUCCEEDED, now, detail))
        self.current, self.last = lease, lease.setpoint
        self.state, self.value_w = ACTIVE, lease.setpoint.value_w
        return [*acks, self._ack(lease.setpoint, STARTED, now)]

    def _remember_superseded(self, old: str, by: str) -> None:
        self._superseded[old] = by
        while len(self._superseded) > self.options.remembered:
            self._superseded.popitem(last=False)

    def _ack(self, setpoint: Setpoint, status: str, now: Now, detail: str = "", retry_ms: int | None = None) -> Ack:
        return self._note(setpoint.setpoint_id, setpoint.asset_id, status, now, detail, retry_ms)

    def _note(
        self, setpoint_id: str, asset_id: str, status: str, now: Now, detail: str = "", retry_ms: int | None = None
    ) -> Ack:
        ack: Ack = {
            "setpoint_id": setpoint_id,
            "asset_id": asset_id,
            "status": status,
            "ts": iso(now.wall_ms),
            "measured_w": None,
            "detail": detail or None,
        }
        if retry_ms is not None:
            ack["retry_at"] = iso(retry_ms)
        self._status[setpoint_id] = ack
        self._status.move_to_end(setpoint_id)
        while len(self._status) > self.options.remembered:
            self._status.popitem(last=False)
        return ack


def _same_start(one: Setpoint, other: Setpoint) -> bool:
    return one.execution_ms == other.execution_ms
