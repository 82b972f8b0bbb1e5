"""Evidence of one alert into episodes: pending, firing, held, resolved. A function of the set of pieces and the time.

Pending needs uninterrupted evidence for `for`, as in Prometheus; a firing alert stays up over gaps of `hold`, and of
`flap.hold` once it has begun too often, as Nagios' flap detection does it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from operators.alerting.evidence import Evidence
from operators.alerting.rules import Rule
from operators.alerting.times import DAY_MS

STALE_MS = 7 * DAY_MS
"""Evidence without an end counts as over when nothing was heard of it for so long."""


@dataclass(frozen=True)
class Piece:
    """A stretch in which one rule holds evidence for true."""

    start_ms: int
    end_ms: int | None
    """None: it goes on."""
    strong: bool
    rule: Rule
    evidence: Evidence

    def until(self, clock_ms: int) -> int:
        """Where it ends, as far as is known at `clock_ms`."""
        if self.end_ms is not None:
            return min(self.end_ms, clock_ms)
        return max(self.start_ms, min(clock_ms, self.evidence.seen_ms + STALE_MS))

    def goes_on(self, clock_ms: int) -> bool:
        """Whether it has not ended at `clock_ms`."""
        if self.end_ms is not None:
            return self.end_ms > clock_ms
        return clock_ms < self.evidence.seen_ms + STALE_MS


@dataclass
class Episode:
    """One alert from its beginning to its end."""

    since_ms: int
    """Where the evidence began."""
    fired_ms: int
    """Where it had held for `for`: the alert's `startsAt`."""
    end_ms: int
    """Where the evidence ended, so far."""
    goes_on: bool
    release_ms: int
    """When it is over, if nothing more comes."""
    rule: Rule
    best: Evidence
    """What is shown: the least likely to be nothing, then the latest."""
    count: int = 1
    """Pieces of evidence."""
    flapping: bool = False

    def firing(self, clock_ms: int) -> bool:
        """Whether it is up at `clock_ms`."""
        return self.goes_on or clock_ms < self.release_ms


@dataclass(frozen=True)
class Timeline:
    """Episodes of one alert by time, and when it changes next without any news (None: never)."""

    episodes: list[Episode]
    next_ms: int | None


def episodes(pieces: Iterable[Piece], clock_ms: int) -> Timeline:
    """The alert's history at `clock_ms`.

    Args:
        pieces: in any order.
        clock_ms: event time; what begins later does not count yet.
    """
    done: list[Episode] = []
    starts: list[int] = []  # of stretches of evidence, ascending: what flapping counts
    at: Episode | None = None
    for piece in sorted(pieces, key=lambda p: (p.start_ms, p.evidence.evidence_id, p.rule.alert)):
        if piece.start_ms > clock_ms:
            continue
        if at is not None and _joins(at, piece):
            _extend(at, piece, clock_ms, starts)
            continue
        if at is not None:
            _finish(at, done, starts)
        at = _begin(piece, clock_ms, starts) if piece.strong else None
    later = []
    if at is not None and not _finish(at, done, starts) and at.goes_on:
        later.append(at.fired_ms)
    later += [e.best.seen_ms + STALE_MS if e.goes_on else e.release_ms for e in done]
    return Timeline(done, min((ms for ms in later if ms > clock_ms), default=None))


def _begin(piece: Piece, clock_ms: int, starts: list[int]) -> Episode:
    starts.append(piece.start_ms)
    until = piece.until(clock_ms)
    fired = piece.start_ms + piece.rule.for_ms
    goes_on = piece.goes_on(clock_ms)
    episode = Episode(piece.start_ms, fired, until, goes_on, until, piece.rule, piece.evidence)
    _release(episode, starts)
    return episode


def _fired(episode: Episode) -> bool:
    return episode.end_ms >= episode.fired_ms


def _joins(at: Episode, piece: Piece) -> bool:
    return at.goes_on or piece.start_ms <= (at.release_ms if _fired(at) else at.end_ms)


def _extend(at: Episode, piece: Piece, clock_ms: int, starts: list[int]) -> None:
    if piece.strong and piece.start_ms > at.end_ms:
        starts.append(piece.start_ms)
    at.end_ms = max(at.end_ms, piece.until(clock_ms))
    at.goes_on = at.goes_on or piece.goes_on(clock_ms)
    at.rule = piece.rule
    at.count += 1
    if _weight(piece.evidence) > _weight(at.best):
        at.best = piece.evidence
    _release(at, starts)


def _release(at: Episode, starts: list[int]) -> None:
    flap = at.rule.flap
    flaps = flap is not None and len(starts) - bisect_right(starts, at.end_ms - flap.within_ms) >= flap.changes
    at.flapping = at.flapping or flaps
    hold = max(at.rule.hold_ms, flap.hold_ms) if flap is not None and flaps else at.rule.hold_ms
    at.release_ms = at.end_ms + hold


def _finish(at: Episode, done: list[Episode], starts: list[int]) -> bool:
    """Keeps an episode that fired; whether it did. The start of one that did not is no change."""
    if _fired(at):
        done.append(at)
        return True
    starts.remove(at.since_ms)
    return False


def _weight(evidence: Evidence) -> tuple[float, int, str]:
    return (-2.0 if evidence.score is None else -evidence.score, evidence.seen_ms, evidence.evidence_id)
