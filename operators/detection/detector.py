"""One step of many meters: what was expected, how odd what came is, and which events begin, go on and end.

Only the past is used: the forecast that was issued before the step, and what the meter did until then. Nothing here
reads a clock or a random number, and no meter's result depends on another's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from operators.detection import habits, ranks
from operators.detection.events import Events, Kind, Status
from operators.detection.habits import MISSING, STUCK, ZERO
from operators.detection.state import NEVER, NO_EVENT, Floats, Ints, State

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Settings:
    """How seldom, and how early."""

    alarms_a_day: float = 0.008
    """Alarms of one meter by the chance of its values: the p-value that alarms is this over the steps of a day."""
    runs_a_day: float = 0.003
    """The same for runs of equal and of missing values, by the meter's habit."""
    memory_days: float = 30.0
    """What was learnt fades to a third in so long."""
    context_h: float = 48.0
    """No alarm before so much was seen, but of a power that cannot be."""
    shift_h: float = 3.0
    """A spike or drop that lasts longer is a shift of level."""
    accept_h: float = 168.0
    """A level that stayed so long is the new normal."""
    calm_share: float = 0.25
    """An event is over when the meter was calm for this share of its length …"""
    calm_h: float = 6.0
    """… or for so long."""

    def alarm_p(self, step_s: int) -> float:
        """The p-value of one step that alarms."""
        return self.alarms_a_day * step_s / 86400

    def run_p(self, step_s: int) -> float:
        """The chance of a run at one step that alarms."""
        return self.runs_a_day * step_s / 86400


DEFAULT = Settings()
KNOWN_SHARE = 0.5
"""A step of which less is measured is missing."""
_CLIP = 4.0
_SD = 1.25
"""Standard deviation over mean absolute deviation of a normal distribution."""
_LEAST_WIDTH = 0.01
_LEAST_OF_SPREAD = 0.3
_LONGEST_CARRY = 0.95
_DOUBT = 24.0
"""Steps of errors of the usual size that speak against any relation between consecutive ones."""
_SETTLED = 24
"""Steps after which the usual size of an error is known well enough to bound others by it."""
_SLACK = 1.0
"""Standard deviations that a step may be off without adding to the drift."""
_ODD_WEIGHT = 0.2
_SAME = 1e-6
_LEAST_DRIFT = 6.0


@dataclass(frozen=True)
class Step:
    """One closed step of m meters."""

    end_ms: Ints
    """[m] epoch ms UTC."""
    step_s: int
    kwh: Floats
    """[m] NaN: missing."""
    coverage: Floats
    """[m] share of the step that is measured."""
    band: Floats
    """[m, 3] kWh: the 0.1, 0.5 and 0.9 quantile forecast for the step, calibrated; NaN: no forecast."""
    max_kw: Floats
    """[m] what its connection can carry, NaN: not known."""
    fresh: Bools
    """[m] a reading ended in the step; energy spread over a gap is as even as a stuck meter's."""


@dataclass(frozen=True)
class Observed:
    """What one step did."""

    state: State
    events: Events
    instead: Floats
    """[m] kWh that a forecast should be made from in place of what came; NaN: what came is fine."""


@dataclass(frozen=True)
class _Scores:
    expected: Floats
    low: Floats
    high: Floats
    score: Floats
    side: Ints
    p: Floats
    cut: Floats
    excess: Floats
    """[m, CHANNELS]"""
    alarm_at: Floats
    """[m] the score that alarms."""


def observe(state: State, step: Step, settings: Settings = DEFAULT) -> Observed:
    """Takes one step in.

    Args:
        state: of the same m meters.
        step: later than each meter's newest one; of a meter whose step has another length than before nothing is known.
        settings: how seldom, and how early.
    """
    new_length = (state.step_s != step.step_s) & (state.step_s != 0)
    if new_length.any():
        state = state.where(~new_length, State.empty(len(state)))
    came = np.isfinite(step.kwh) & (step.coverage >= KNOWN_SHARE)
    kwh = np.where(came, step.kwh, 0.0)
    scores = _score(state, step, came, kwh, settings.alarm_p(step.step_s))
    state = replace(state, habits=_follow_habits(state, step, came, kwh, settings))
    found = _find(state, step, scores, came, kwh, settings)
    state = _drift(state, step, scores, kwh, found.held)
    found = _find_shift(state, step, scores, found, settings)
    after, events, flagged = _events(state, step, scores, kwh, found, settings)
    after = _learn(after, step, scores, kwh, found, flagged, settings)
    young = (after.kind == NO_EVENT) | (step.end_ms - after.start_ms <= settings.accept_h * 3.6e6)
    return Observed(after, events, np.where(flagged & young, scores.expected, np.nan))


def _find(state: State, step: Step, scores: _Scores, came: Bools, kwh: Floats, settings: Settings) -> _Found:
    """What the step shows; whether it is part of a drift is found later."""
    held = came & np.isfinite(scores.expected)
    chance = habits.chance(state.habits)
    hard = came & (np.abs(kwh) > step.max_kw * (step.step_s / 3600) * (1 + _SAME))
    zero = state.habits.run[:, ZERO] > 0
    p = np.where(held, scores.p, 1.0)
    p = np.where(held & zero & (np.abs(scores.expected) > np.abs(kwh)), _joint(p, chance[:, ZERO]), p)
    ready = state.scored * step.step_s >= settings.context_h * 3600
    used = state.known * step.step_s >= settings.context_h * 3600
    rare = chance <= settings.run_p(step.step_s)
    return _Found(
        came=came,
        held=held,
        value=(ready & held & (p <= settings.alarm_p(step.step_s))) | hard,
        side=np.where(hard, (kwh > 0).astype(np.int64), scores.side),
        ready=ready,
        drift=np.zeros(len(kwh), np.bool_),
        p_drift=p,
        stuck=came & step.fresh & used & rare[:, STUCK] & (state.habits.run[:, STUCK] > 0),
        missing=~came & used & rare[:, MISSING],
        odd=(held & (scores.score > scores.cut[np.arange(len(kwh)), scores.side])) | hard,
        p=np.where(hard, 0.0, p),
        chance=chance,
        zero=zero,
    )


def _find_shift(state: State, step: Step, scores: _Scores, found: _Found, settings: Settings) -> _Found:
    """A shift of level: a drift that the meter's own past does not know."""
    drift = state.cusum.max(axis=1)
    p = ranks.p_value(drift, ranks.TAIL[ranks.DRIFT], scores.cut[:, ranks.DRIFT], scores.excess[:, ranks.DRIFT])
    odd = found.ready & found.held & (p <= settings.alarm_p(step.step_s)) & (drift > _LEAST_DRIFT)
    return replace(found, drift=odd, p_drift=p)


def _score(state: State, step: Step, came: Bools, kwh: Floats, p_alarm: float) -> _Scores:
    low, middle, high = step.band.T
    share = _share_left(state)
    expected = middle + share * state.left
    # The longer ago the newest error is, the less is known of the next one: variances of an autoregression.
    wider = np.sqrt((1 - share ** (2 * (state.stale + 1))) / (1 - share**2))
    error = np.where(came, kwh - expected, 0.0)
    above = error > 0
    # A meter that never moves must not have a band without width.
    least = np.maximum(_LEAST_WIDTH * state.level, _LEAST_OF_SPREAD * state.spread)
    widths = np.maximum(np.stack((middle - low, high - middle), axis=1), np.maximum(least, 1e-9)[:, None])
    widths *= wider[:, None]
    side = above.astype(np.int64)
    rows = np.arange(len(kwh))
    score = np.abs(error) / widths[rows, side]
    score = np.where(np.isfinite(score), score, 0.0)
    cut, excess = ranks.tails(state.counts)
    limits = ranks.limit(p_alarm, 2 * ranks.TAIL[:2], cut[:, :2], excess[:, :2])
    return _Scores(
        expected=expected,
        low=expected - widths[:, 0] * limits[:, 0],
        high=expected + widths[:, 1] * limits[:, 1],
        score=score,
        side=side,
        p=ranks.p_value(score, 2 * ranks.TAIL[0], cut[rows, side], excess[rows, side]),
        cut=cut,
        excess=excess,
        alarm_at=limits[rows, side],
    )


def _joint(p: Floats, q: Floats) -> Floats:
    """Fisher's method for two p-values: the chance of a product as small as theirs."""
    product = np.maximum(p * q, 1e-300)
    return np.asarray(np.minimum(product * (1 - np.log(product)), 1.0))


def _follow_habits(state: State, step: Step, came: Bools, kwh: Floats, settings: Settings) -> habits.Habits:
    tiny = _SAME * state.level
    zero = came & (np.abs(kwh) <= tiny)
    same = came & ~zero & (np.abs(kwh - state.last_kwh) <= tiny)
    known = state.known > 0
    holds = np.stack((zero, same, ~came), axis=1)
    told = np.stack((came & step.fresh, came & step.fresh & (zero | np.isfinite(state.last_kwh)), known), axis=1)
    keep = np.full(len(kwh), 1 - step.step_s / (settings.memory_days * 86400))
    return habits.follow(state.habits, holds, told, keep, settings.run_p(step.step_s))


def _drift(state: State, step: Step, scores: _Scores, kwh: Floats, held: Bools) -> State:
    """Page's two sums of how far the steps were off, and what came since each began to rise."""
    sign = np.where(scores.side > 0, 1.0, -1.0)
    off = sign * np.minimum(scores.score / np.maximum(_SD * state.size, 1e-9), _CLIP)
    both = np.stack((-off, off), axis=1)
    cusum = np.where(held[:, None], np.maximum(state.cusum + both - _SLACK, 0.0), state.cusum)
    rising = cusum > 0
    fresh = rising & (state.cusum <= 0)
    start = (step.end_ms - step.step_s * 1000)[:, None]
    since = np.where(fresh, start, np.where(rising, state.since_ms, NEVER))
    values = _values(scores, kwh, held)[:, None, :]
    drift = np.where(rising[:, :, None], np.where(fresh[:, :, None], 0.0, state.drift) + values, 0.0)
    return replace(state, cusum=cusum, since_ms=since, drift=drift)


def _values(scores: _Scores, kwh: Floats, held: Bools) -> Floats:
    """[m, SUMS] of one step; zeros where nothing was expected or nothing came."""
    columns = np.stack((kwh, scores.expected, scores.low, scores.high), axis=1)
    return np.asarray(np.where(held[:, None], columns, 0.0))


@dataclass(frozen=True)
class _Found:
    """What the step shows, by meter."""

    came: Bools
    held: Bools
    """Came, and was forecast."""
    value: Bools
    side: Ints
    ready: Bools
    """Enough was seen before."""
    drift: Bools
    p_drift: Floats
    stuck: Bools
    missing: Bools
    odd: Bools
    """Too odd for an open event to be over."""
    p: Floats
    chance: Floats
    zero: Bools


_OF_VALUE = (Kind.SPIKE, Kind.DROP, Kind.LEVEL_SHIFT)
_OF_RUN = (Kind.STUCK, Kind.MISSING)


def _events(
    state: State, step: Step, scores: _Scores, kwh: Floats, found: _Found, settings: Settings
) -> tuple[State, Events, Bools]:
    """Ends, begins and goes on with events; and which steps belong to one: bool [m]."""
    ms = step.step_s * 1000
    open_ = state.kind != NO_EVENT
    of_value, is_missing, is_stuck = (
        np.isin(state.kind, _OF_VALUE),
        state.kind == Kind.MISSING,
        state.kind == Kind.STUCK,
    )
    odd = (of_value & found.odd) | (is_missing & ~found.came) | (is_stuck & (state.habits.run[:, STUCK] > 0))
    # A missing step neither prolongs an event of values nor calms it.
    calm = np.where(open_ & ~odd, state.calm + (found.came | ~of_value), 0.0)
    patience = np.minimum(1 + np.floor(settings.calm_share * state.steps), settings.calm_h * 3600 / step.step_s)
    over = open_ & (calm >= np.where(of_value, patience, 1.0))
    goes_on = open_ & ~over

    lasts = goes_on & of_value & odd & (state.kind != Kind.LEVEL_SHIFT) & ~found.zero
    lasts &= step.end_ms - state.start_ms > settings.shift_h * 3.6e6
    seen = np.select(
        [found.missing, found.stuck, lasts, found.value, found.drift],
        [Kind.MISSING, Kind.STUCK, Kind.LEVEL_SHIFT, np.where(found.side > 0, Kind.SPIKE, Kind.DROP), Kind.LEVEL_SHIFT],
        NO_EVENT,
    )
    stronger = lasts | (found.missing & ~is_missing) | (found.stuck & of_value)
    begins = (seen != NO_EVENT) & (~goes_on | stronger)
    ends = open_ & (over | begins)
    on = goes_on & ~begins

    rows = np.arange(len(kwh))
    side = np.argmax(state.cusum, axis=1)
    drifts = begins & (seen == Kind.LEVEL_SHIFT) & ~lasts
    length = np.where(seen == Kind.MISSING, state.habits.run[:, MISSING], state.habits.run[:, STUCK])
    first = np.select(
        [lasts, drifts, np.isin(seen, _OF_RUN)],
        [state.start_ms, state.since_ms[rows, side], step.end_ms - length.astype(np.int64) * ms],
        step.end_ms - ms,
    )
    p = np.select(
        [seen == Kind.STUCK, seen == Kind.MISSING, drifts, lasts],
        [found.chance[:, STUCK], found.chance[:, MISSING], found.p_drift, state.score],
        found.p,
    )
    values = _values(scores, kwh, found.held)
    whole = state.sums + state.unsettled + values
    initial = np.select([lasts[:, None], drifts[:, None]], [whole, state.drift[rows, side]], values)
    closed = Events.of(state, ends, Status.CLOSED, step.end_ms)
    more = on & odd
    steps = np.where(begins, (step.end_ms - first) // ms, state.steps + more)
    after = replace(
        state,
        kind=np.where(begins, seen, np.where(ends, NO_EVENT, state.kind)),
        start_ms=np.where(begins, first, state.start_ms),
        end_ms=np.where(begins | more, step.end_ms, state.end_ms),
        steps=steps,
        calm=np.where(on, calm, 0.0),
        score=np.where(begins, p, np.where(more, np.minimum(state.score, found.p), state.score)),
        sums=np.where(begins[:, None], initial, np.where(more[:, None], whole, state.sums)),
        unsettled=np.where((on & ~odd)[:, None], state.unsettled + values, 0.0),
        # What an event has said already must not add up to another.
        cusum=np.where((begins | open_)[:, None], 0.0, state.cusum),
    )
    doubled = more & (np.log2(np.maximum(steps, 1)) % 1 == 0)
    said = Events.of(after, doubled, Status.UPDATED, step.end_ms)
    return after, closed.joined(Events.of(after, begins, Status.OPEN, step.end_ms), said), begins | more


def _learn(
    state: State, step: Step, scores: _Scores, kwh: Floats, found: _Found, flagged: Bools, settings: Settings
) -> State:
    """What the step adds to what is known of its meter; an odd one adds little, and never more than its limit."""
    memory = settings.memory_days * 86400 / step.step_s
    held = found.held
    known, scored = state.known + found.came, state.scored + held
    rate = (found.came & ~flagged) / np.clip(known, 1.0, memory)
    level = state.level + rate * (np.abs(kwh) - state.level)
    weight = np.where(flagged, _ODD_WEIGHT, 1.0) * held
    rate = weight / np.clip(scored, 1.0, memory)
    error = np.where(held, np.abs(kwh - scores.expected), 0.0)
    most_error = np.where(scored > _SETTLED, _CLIP * state.spread, np.inf)
    score = np.minimum(scores.score, scores.alarm_at)
    counts = state.counts * np.where(held, 1 - 1 / memory, 1.0)[:, None, None]
    rows = np.flatnonzero(held)
    counts[rows, scores.side[rows], ranks.bin_of(score[rows])] += weight[rows]
    tail = ranks.TAIL[ranks.DRIFT], scores.cut[rows, ranks.DRIFT], scores.excess[rows, ranks.DRIFT]
    drift = np.minimum(state.cusum[rows].max(axis=1), ranks.limit(settings.alarm_p(step.step_s), *tail))
    counts[rows, ranks.DRIFT, ranks.bin_of(drift)] += weight[rows]
    fine = held & ~flagged
    left = np.where(fine, kwh - step.band[:, 1], _share_left(state) * state.left)
    bounded = np.clip(left, -most_error, most_error)
    keep = np.where(fine, 1 - 1 / memory, 1.0)
    return replace(
        state,
        step_s=np.full(len(kwh), step.step_s),
        newest_ms=step.end_ms,
        known=known,
        scored=scored,
        level=level,
        spread=state.spread + rate * (np.minimum(error, most_error) - state.spread),
        size=state.size + rate * (np.minimum(score, scores.cut[np.arange(len(kwh)), scores.side]) - state.size),
        last_kwh=np.where(found.came, kwh, state.last_kwh),
        left=left,
        stale=np.where(fine, 0.0, state.stale + 1),
        together=keep * state.together + np.where(fine, bounded * state.left, 0.0),
        alone=keep * state.alone + np.where(fine, state.left**2, 0.0),
        counts=counts,
    )


def _share_left(state: State) -> Floats:
    """How much of a forecast's error is left in the next step: [m], by least squares, drawn to nothing at first."""
    doubt = _DOUBT * state.spread**2 + 1e-300
    return np.asarray(np.clip(state.together / (state.alone + doubt), 0.0, _LONGEST_CARRY))
