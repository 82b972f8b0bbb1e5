"""A grid operator's limit on a site's power, by the rules of the EEBUS use cases LPC and LPP (controllable system).

Source: EEBUS UC TS "Limitation of Power Consumption" and "Limitation of Power Production", V1.0.0, sections 2.2 and
2.3; rule numbers such as [LPC-911] are that specification's, and LPP has the same under its own prefix. The 60 s
between heartbeat and limit, and refusing other writes before the first limit, follow the implementation guide of 2026
(2.11 and 2.14). They were read through what implementers quote of them, not from the members' document.

    init ──────────────► limited ◄────► unlimited/controlled      heartbeat, then a limit within 60 s
    limited, unlimited/controlled ──► failsafe                    no heartbeat for 120 s        [LPC-911, 912]
    failsafe ──► limited, unlimited/controlled                    heartbeat, then a limit       [LPC-918 to 920]
    failsafe ──► unlimited/autonomous                             minimum duration over         [LPC-922]
    failsafe ──► unlimited/autonomous                             120 s after a heartbeat without a limit [LPC-921]
    init ──► unlimited/autonomous                                 120 s without both            [LPC-906]

All its times are spans on the monotonic clock: no jump of the wall clock matters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

INIT = "init"
LIMITED = "limited"
UNLIMITED_CONTROLLED = "unlimited/controlled"
FAILSAFE = "failsafe"
UNLIMITED_AUTONOMOUS = "unlimited/autonomous"

HEARTBEAT_TIMEOUT_S = 120.0
SETTLE_S = 120.0
"""How long `init`, and a failsafe state that hears heartbeats, wait for a limit."""
WRITE_WINDOW_S = 60.0
"""A limit counts when a heartbeat came at most that long before it."""
MIN_FAILSAFE_S, MAX_FAILSAFE_S = 2 * 3600.0, 24 * 3600.0
"""Range of the Failsafe Duration Minimum [LPC-022]."""


@dataclass(frozen=True)
class Limit:
    """An active power limit in W: 0 or more for consumption, 0 or less for production.

    `active` False lifts the limit; `duration_s` None: it holds until it is changed, 0: it is over at once.
    """

    active: bool
    value_w: float = 0.0
    duration_s: float | None = None


class PowerLimitation:
    """One direction's limit: `production` False is LPC, True is LPP.

    Args:
        failsafe_w: Failsafe Consumption (or Production) Active Power Limit, W, 0 or more in either direction.
        now_s: monotonic clock at the (re)start. A lost connection is no restart.
        failsafe_duration_s: Failsafe Duration Minimum, 2 to 24 hours.
        autonomous_w: the limit that this site sets itself in `unlimited/autonomous`; None for none.

    Raises:
        ValueError: a value outside its range.
    """

    def __init__(
        self,
        failsafe_w: float,
        now_s: float,
        *,
        failsafe_duration_s: float = MIN_FAILSAFE_S,
        autonomous_w: float | None = None,
        production: bool = False,
    ) -> None:
        if not (math.isfinite(failsafe_w) and failsafe_w >= 0):
            raise ValueError(f"failsafe_w {failsafe_w}: want a finite power of 0 W or more")
        if not MIN_FAILSAFE_S <= failsafe_duration_s <= MAX_FAILSAFE_S:
            raise ValueError(f"failsafe_duration_s {failsafe_duration_s:g}: want 2 to 24 hours (7200 to 86400)")
        self.failsafe_w = failsafe_w
        self.failsafe_duration_s = failsafe_duration_s
        self.autonomous_w = autonomous_w
        self.production = production
        self.state = INIT
        self._entered_s = now_s
        self._heartbeat_s: float | None = None
        self._first_heartbeat_s: float | None = None
        self._limit_w: float | None = None
        self._limit_end_s = math.inf

    def heartbeat(self, now_s: float) -> None:
        """One came."""
        self.advance(now_s)
        self._heartbeat_s = now_s
        if self.state == FAILSAFE and self._first_heartbeat_s is None:
            self._first_heartbeat_s = now_s

    def write_limit(self, limit: Limit, now_s: float, *, can_follow: bool = True) -> str | None:
        """A limit from the energy guard: None when it is accepted, else why it is refused.

        Args:
            limit: what was written.
            now_s: monotonic clock.
            can_follow: False when self-protection, safety or law forbids to follow it. Such a refusal still shows that
                an energy guard is there: `init`, `failsafe` and `unlimited/autonomous` end in `unlimited/controlled`
                [LPC-918]; elsewhere it changes nothing [LPC-907].
        """
        self.advance(now_s)
        if self._heartbeat_s is None or now_s - self._heartbeat_s > WRITE_WINDOW_S:
            return "no heartbeat within the last 60 s"
        value = -limit.value_w if self.production else limit.value_w
        if not math.isfinite(limit.value_w) or (limit.active and value < 0):
            return f"value {limit.value_w:g} W: want a finite {'production <= 0' if self.production else 'power >= 0'}"
        duration = limit.duration_s
        if duration is not None and not (math.isfinite(duration) and duration >= 0):
            return f"duration {duration:g} s: want 0 or more, or none for no end"
        if not can_follow:
            if self.state in (INIT, FAILSAFE, UNLIMITED_AUTONOMOUS):
                self._enter(UNLIMITED_CONTROLLED, now_s)
            return "cannot be followed"
        if limit.active and duration != 0:
            self._limit_w = value
            self._limit_end_s = math.inf if duration is None else now_s + duration
            self._enter(LIMITED, now_s)
        else:
            self._limit_w = None
            self._enter(UNLIMITED_CONTROLLED, now_s)
        return None

    def write_failsafe(
        self, now_s: float, *, value_w: float | None = None, duration_s: float | None = None
    ) -> str | None:
        """New failsafe values (W of 0 or more, s); None when they are accepted, else why not, and nothing changed."""
        self.advance(now_s)
        if self.state not in (LIMITED, UNLIMITED_CONTROLLED):
            return "a heartbeat and a limit come first"
        if value_w is not None and not (math.isfinite(value_w) and value_w >= 0):
            return f"failsafe limit {value_w:g} W: want a finite power of 0 W or more"
        if duration_s is not None and not MIN_FAILSAFE_S <= duration_s <= MAX_FAILSAFE_S:
            return f"failsafe duration {duration_s:g} s: want 2 to 24 hours (7200 to 86400)"
        self.failsafe_w = self.failsafe_w if value_w is None else value_w
        self.failsafe_duration_s = self.failsafe_duration_s if duration_s is None else duration_s
        return None

    def advance(self, now_s: float) -> None:
        """What the time alone changes."""
        if self.state in (LIMITED, UNLIMITED_CONTROLLED):
            if self._heartbeat_s is not None and now_s - self._heartbeat_s >= HEARTBEAT_TIMEOUT_S:
                self._enter(FAILSAFE, now_s)
            elif self.state == LIMITED and now_s >= self._limit_end_s:
                self._enter(UNLIMITED_CONTROLLED, now_s)
        elif self.state == FAILSAFE:
            first = self._first_heartbeat_s
            unanswered = first is not None and now_s - first >= SETTLE_S
            if unanswered or now_s - self._entered_s >= self.failsafe_duration_s:
                self._enter(UNLIMITED_AUTONOMOUS, now_s)
        elif self.state == INIT and now_s - self._entered_s >= SETTLE_S:
            self._enter(UNLIMITED_AUTONOMOUS, now_s)

    def cap_w(self, now_s: float) -> float | None:
        """The limit that holds, in W of 0 or more in its direction; None for none."""
        self.advance(now_s)
        if self.state in (INIT, FAILSAFE):
            return self.failsafe_w
        if self.state == LIMITED:
            return self._limit_w
        return self.autonomous_w if self.state == UNLIMITED_AUTONOMOUS else None

    def _enter(self, state: str, now_s: float) -> None:
        if state == self.state:
            return
        self.state = state
        self._entered_s = now_s
        self._first_heartbeat_s = None
