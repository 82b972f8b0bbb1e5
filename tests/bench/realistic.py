"""Workload R: counters read every 10 seconds; each quarter hour, 24 hours by nine quantiles of each meter. Pure.

A forecast needs a week. It comes as a reading a quarter hour, before what is measured: at 10 seconds it would be 1.2
billion readings. Every engine begins with it in its state.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from operators.features import QUANTILES
from operators.forecaster import Forecaster

Ints = NDArray[np.int64]

START_MS = 1_704_067_200_000
STEP_MS = 900_000
TICK_MS = 10_000
TICKS = STEP_MS // TICK_MS
WEEK = 672
"""Quarter hours of a forecast's history."""
PARTITIONS = 2
CLOSING = "closing-"
CLOSING_MS = 600_000
"""By so much the last readings of the topic are later than the last quarter hour: its forecasts are due."""
SEED = 15
TENTHS_A_KWH = 10_000
"""Counters count tenths of a watt-hour, whole ones in each tick: a quarter hour's energy is exact."""


@dataclass(frozen=True)
class Size:
    """Meters, and quarter hours of 10-second readings."""

    meters: int
    quarters: int

    @property
    def readings(self) -> int:
        """Readings of the measured part, without those that close it."""
        return self.meters * self.quarters * TICKS

    @property
    def forecasts(self) -> int:
        return self.meters * self.quarters

    @property
    def loaded(self) -> int:
        """Readings of the week before."""
        return self.meters * WEEK


def meter_name(number: int) -> str:
    """The id of a meter."""
    return f"r{number:06d}"


def meter_number(name: str) -> int:
    """What `meter_name` was given."""
    return int(name[1:])


def partition_of(number: int) -> int:
    """A meter's readings are in one partition."""
    return number % PARTITIONS


def tenths_a_tick(size: Size) -> Ints:
    """[meters, 671 + quarters] what a counter counts in 10 seconds of each quarter hour, tenths of a watt-hour."""
    rng = np.random.default_rng(SEED)
    slots = WEEK - 1 + size.quarters
    level = rng.uniform(5, 60, (size.meters, 1))
    hours = np.arange(slots) / 4.0
    day = 1.0 + 0.6 * np.sin(2 * np.pi * (hours / 24.0 + rng.uniform(0, 1, (size.meters, 1))))
    noise = rng.gamma(20.0, 1 / 20.0, (size.meters, slots))
    return np.asarray(np.round(level * day * noise), np.int64)


def history(size: Size, issue: int) -> NDArray[np.float64]:
    """[meters, 672] kWh of the quarter hours before the end of the `issue`-th measured one (0 is the first)."""
    slots = tenths_a_tick(size)
    # The counter was read first at the end of the quarter hour before the first of these.
    return slots[:, issue : issue + WEEK] * TICKS / TENTHS_A_KWH


def issued_at_ms(issue: int) -> int:
    """When it was issued: the end of that quarter hour."""
    return START_MS + (WEEK + issue) * STEP_MS


def reference(size: Size, issue: int) -> NDArray[np.float32]:
    """[meters, 9, 96] what the shipped model says then."""
    found = Forecaster.load().predict(history(size, issue), issued_at_ms(issue), STEP_MS // 1000, zones="UTC")
    assert found.shape == (size.meters, len(QUANTILES), 96)
    return found


def week(size: Size) -> Iterator[tuple[int, bytes, bytes]]:
    """(partition, key, value) of the readings before: each counter at the end of 672 quarter hours."""
    slots = tenths_a_tick(size)
    counter = np.concatenate([np.zeros((size.meters, 1), np.int64), np.cumsum(slots[:, : WEEK - 1] * TICKS, axis=1)], 1)
    for border in range(WEEK):
        yield from _at(START_MS + border * STEP_MS, counter[:, border])


def measured(size: Size) -> Iterator[tuple[int, bytes, bytes]]:
    """(partition, key, value) of the 10-second readings by time, and of those that close the last window."""
    slots = tenths_a_tick(size)
    counter = (slots[:, : WEEK - 1] * TICKS).sum(axis=1)
    for quarter in range(size.quarters):
        for tick in range(1, TICKS + 1):
            counter = counter + slots[:, WEEK - 1 + quarter]
            yield from _at(START_MS + (WEEK - 1 + quarter) * STEP_MS + tick * TICK_MS, counter)
    end = START_MS + (WEEK - 1 + size.quarters) * STEP_MS + CLOSING_MS
    for partition in range(PARTITIONS):
        name = f"{CLOSING}{partition}"
        yield partition, name.encode(), message(name, text_of(end), 0)


def _at(ts_ms: int, counter: Ints) -> Iterator[tuple[int, bytes, bytes]]:
    at = text_of(ts_ms)
    for number, tenths in enumerate(counter.tolist()):
        name = meter_name(number)
        yield partition_of(number), name.encode(), message(name, at, tenths)


def text_of(ts_ms: int) -> str:
    """ISO-8601, UTC."""
    return f"{np.datetime64(ts_ms, 'ms').astype('datetime64[s]')}Z"


def message(name: str, at: str, tenths: int) -> bytes:
    """A message of `meter.readings`."""
    value = f'"kind":"register","value":{tenths / 10},"unit":"Wh"'
    return f'{{"meter_id":"{name}","register":"1-0:1.8.0",{value},"ts":"{at}"}}'.encode()
