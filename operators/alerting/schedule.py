"""When an alert is told: once it fires, again, to more people, and when it is over. A function of event time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from operators.alerting.episodes import Episode
from operators.alerting.spans import Span, first_outside

FIRING, REPEAT, ESCALATED, RESOLVED = "firing", "repeat", "escalated", "resolved"


@dataclass(frozen=True)
class Told:
    """What has been told of one episode."""

    fired: int = 0
    """Times that it was told to fire: more than once only when late evidence reopened it."""
    resolved: int = 0
    repeats: int = 0
    """Number of the newest repeat."""
    escalated: bool = False


def due(episode: Episode, hidden: Sequence[Span], told: Told, clock_ms: int) -> tuple[list[tuple[str, int]], Told]:
    """What is to be told now, and what has been told then.

    Of several repeats that have come due, only the newest is told. What was never told to fire is not told to be over.

    Args:
        episode: that fired.
        hidden: merged spans in which it is inhibited.
        told: what has been told.
        clock_ms: event time.

    Returns:
        (kind, its number among those of its kind) in order, and the new `Told`.
    """
    out: list[tuple[str, int]] = []
    firing = episode.firing(clock_ms)
    fired, resolved, repeats, escalated = told.fired, told.resolved, told.repeats, told.escalated
    shown = first_outside(hidden, episode.fired_ms)
    over = episode.release_ms if not firing else None
    known = shown is not None and shown <= clock_ms and (over is None or shown <= max(episode.end_ms, episode.fired_ms))
    if fired == resolved and (known if not fired else firing and known):
        fired += 1
        out.append((FIRING, fired))
    if fired > resolved and shown is not None:
        last = clock_ms if firing else episode.end_ms
        rule = episode.rule
        if firing and _open(hidden, clock_ms):
            number = (last - shown) // rule.repeat_ms if rule.repeat_ms else 0
            if number > repeats:
                repeats = number
                out.append((REPEAT, number))
            if rule.escalate_after_ms and not escalated and last - shown >= rule.escalate_after_ms:
                escalated = True
                out.append((ESCALATED, 1))
    if not firing and fired > resolved:
        resolved = fired
        out.append((RESOLVED, resolved))
    return out, Told(fired, resolved, repeats, escalated)


def next_ms(episode: Episode, hidden: Sequence[Span], told: Told, clock_ms: int) -> int | None:
    """When something is to be told next, if nothing more comes; None: never."""
    if not episode.firing(clock_ms):
        return None
    shown = first_outside(hidden, episode.fired_ms)
    if shown is None:
        return None
    rule = episode.rule
    later = [shown]
    if rule.repeat_ms:
        later.append(shown + (max(told.repeats, (clock_ms - shown) // rule.repeat_ms) + 1) * rule.repeat_ms)
    if rule.escalate_after_ms and not told.escalated:
        later.append(shown + rule.escalate_after_ms)
    return min((ms for ms in later if ms > clock_ms), default=None)


def _open(hidden: Sequence[Span], at: int) -> bool:
    return first_outside(hidden, at) == at
