"""Variants of training windows, so that a model learns meters and not one estate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.dataset import Windows
from operators.features import CONTEXT_HOURS, HORIZON_HOURS

Floats32 = NDArray[np.float32]
_LENGTH = CONTEXT_HOURS + HORIZON_HOURS


def augmented(windows: Windows, rng: np.random.Generator) -> Windows:
    """Windows of the same shape, each scaled to a mean level of one and some of them changed.

    Two meters added (another mix of uses); part of the base load taken away (idle at night); solar and wind generation
    subtracted (net export); noise on single hours (as quarter hours have); gaps, and gaps written as zero; a
    calendar shifted by hours (unknown time zone) or by days (another weekend).
    """
    values = np.concatenate((windows.history, windows.target), axis=1)
    level = np.nanmean(np.abs(values), axis=1, keepdims=True)
    values = values / np.where(level > 0, level, 1)
    everyone = values.copy()
    _change(values, 0.08, lambda part: _mixed(part, everyone, rng), rng)
    _change(values, 0.10, lambda part: _less_base(part, rng), rng)
    _change(values, 0.08, lambda part: _with_solar(part, rng), rng)
    _change(values, 0.06, lambda part: _with_wind(part, rng), rng)
    _change(values, 0.15, lambda part: _noisy(part, rng), rng)
    history, target = values[:, :CONTEXT_HOURS], values[:, CONTEXT_HOURS:]
    _change(history, 0.08, lambda part: _with_span(part, np.nan, 72, rng), rng)
    _change(history, 0.04, lambda part: _with_span(part, 0.0, 24, rng), rng)
    _change(history, 0.05, lambda part: _with_holes(part, rng), rng)
    offset = windows.utc_offset_s + _calendar_shift(len(values), rng)
    return replace(windows, history=history, target=target, utc_offset_s=offset)


def _change(values: Floats32, share: float, how: Callable[[Floats32], Floats32], rng: np.random.Generator) -> None:
    """Changes a random share of the rows in place."""
    rows = np.flatnonzero(rng.random(len(values)) < share)
    if len(rows):
        values[rows] = how(values[rows])


def _mixed(part: Floats32, everyone: Floats32, rng: np.random.Generator) -> Floats32:
    share = rng.random((len(part), 1), dtype=np.float32) * 0.5
    partner = everyone[rng.integers(0, len(everyone), len(part))]
    return np.asarray((1 - share) * part + share * partner)


def _less_base(part: Floats32, rng: np.random.Generator) -> Floats32:
    lowest = np.min(part, axis=1, keepdims=True, initial=np.inf, where=np.isfinite(part))
    return np.asarray(part - rng.random((len(part), 1), dtype=np.float32) * lowest)


def _with_solar(part: Floats32, rng: np.random.Generator) -> Floats32:
    rows = len(part)
    hour = (np.arange(_LENGTH) + rng.integers(0, 24, (rows, 1))) % 24
    half_day = rng.uniform(4, 8, (rows, 1))
    from_noon = np.abs(hour - 12) / half_day
    shape = np.where(from_noon < 1, np.cos(from_noon * (np.pi / 2)), 0)
    clear = np.repeat(rng.uniform(0.2, 1.0, (rows, _LENGTH // 24)), 24, axis=1)
    sun = rng.uniform(0.3, 3.0, (rows, 1)) * shape * clear * rng.uniform(0.8, 1.0, part.shape)
    return np.asarray(part - sun, dtype=np.float32)


def _with_wind(part: Floats32, rng: np.random.Generator) -> Floats32:
    """A plant whose output wanders over some hours to days, and is neither below nothing nor above its rating."""
    memory = np.exp(-1 / rng.uniform(6, 40, len(part)))
    push = rng.standard_normal(part.shape) * np.sqrt(1 - memory**2)[:, None]
    push[:, 0] /= np.sqrt(1 - memory**2)
    state = np.zeros(len(part))
    output = np.empty(part.shape)
    for hour in range(_LENGTH):
        state = memory * state + push[:, hour]
        output[:, hour] = state
    share = np.clip(0.35 + 0.4 * output, 0, 1)
    return np.asarray(part - rng.uniform(0.3, 3.0, (len(part), 1)) * share, dtype=np.float32)


def _noisy(part: Floats32, rng: np.random.Generator) -> Floats32:
    size = rng.random((len(part), 1), dtype=np.float32) * 0.25
    noise = size * rng.standard_normal(part.shape, dtype=np.float32) * np.abs(part)
    return np.asarray(part + noise)


def _with_span(part: Floats32, value: float, longest: int, rng: np.random.Generator) -> Floats32:
    hours = np.arange(part.shape[1])
    start = rng.integers(0, part.shape[1], (len(part), 1))
    inside = (hours >= start) & (hours < start + rng.integers(1, longest + 1, (len(part), 1)))
    inside[:, -1] = False
    return np.where(inside, np.float32(value), part)


def _with_holes(part: Floats32, rng: np.random.Generator) -> Floats32:
    hole = rng.random(part.shape) < rng.random((len(part), 1)) * 0.3
    hole[:, -1] = False
    return np.where(hole, np.float32(np.nan), part)


def _calendar_shift(rows: int, rng: np.random.Generator) -> NDArray[np.int64]:
    hours = np.where(rng.random(rows) < 0.15, rng.integers(-12, 15, rows), 0)
    days = np.where(rng.random(rows) < 0.04, rng.integers(0, 7, rows), 0)
    return np.asarray((hours + 24 * days) * 3600, dtype=np.int64)
