"""The warning that a running quarter hour will break a site's limit: early, seldom, and taken back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from operators.control.solver import Solver
from operators.control_lifecycle.dr_book import DrBook
from operators.control_lifecycle.times import parse_ts_ms
from operators.control_site.controller import SiteController
from operators.control_site.feeds import MeterForecast, Reading
from operators.control_site.memory import Memory
from operators.control_site.outputs import ALERTS, Output
from operators.control_site.situation import place_of
from operators.readings import Kind, Quality

START_MS = 1_704_067_200_000
SLOT_MS = 900_000
STEP_MS = 10_000
LIMIT_KW = 50.0


def controller(memory: Memory | None = None) -> SiteController:
    made = SiteController(memory or Memory(), Solver(warm=False))
    made.configure(place_of({"site_id": "hq", "tz": "UTC", "limit_kw": LIMIT_KW, "meters": ["grid"]}, {}), DrBook())
    return made


def forecast(kw: float) -> MeterForecast:
    quantiles = kw * (1 + 0.02 * (np.arange(9) - 4))
    return MeterForecast("grid", START_MS, START_MS, 900, np.repeat(quantiles[:, None], 96, axis=1), "abc")


def play(site: SiteController, load_kw: Callable[[int], float], begin_ms: int, end_ms: int) -> list[Output]:
    """A counter that is read every ten seconds."""
    found: list[Output] = []
    kwh = 0.0
    for now in range(begin_ms, end_ms + 1, STEP_MS):
        reading = Reading("grid", "1-0:1.8.0", Kind.REGISTER, now, 1000 + kwh, 0, Quality.MEASURED)
        site.reading(reading)
        found += [one for one in site.decide(now) if one.topic == ALERTS]
        kwh += load_kw(now) * STEP_MS / 3_600_000
    return found


def test_a_load_that_stays_too_high_is_warned_of_in_time_and_ends_with_its_quarter_hour() -> None:
    site = controller()
    site.forecast(forecast(40.0))
    begin = START_MS + SLOT_MS
    found = play(
        site, lambda now: 75.0 if begin + 120_000 <= now < begin + SLOT_MS else 40.0, START_MS, begin + 2 * SLOT_MS
    )
    fired, resolved = (one.value for one in found)
    assert (fired["labels"]["alertname"], fired["labels"]["site"]) == ("LimitLikelyExceeded", "hq")
    assert "asset" not in fired["labels"]
    warned = parse_ts_ms(fired["startsAt"])
    assert begin + 120_000 < warned <= begin + SLOT_MS - 300_000, "five minutes are left"
    assert float(fired["annotations"]["threshold"]) == LIMIT_KW
    assert resolved["status"] == "resolved"
    assert begin + SLOT_MS <= parse_ts_ms(resolved["endsAt"]) <= begin + SLOT_MS + 2 * STEP_MS


def test_a_burst_that_cannot_lift_the_mean_raises_nothing() -> None:
    site = controller()
    burst = START_MS + SLOT_MS + 300_000
    assert play(site, lambda now: 400.0 if now == burst else 40.0, START_MS, START_MS + 3 * SLOT_MS) == []


@pytest.mark.parametrize("at_s", [30, 400, 700])
def test_a_restart_in_between_changes_nothing(at_s: int) -> None:
    def load(now: int) -> float:
        return 80.0 if now % (2 * SLOT_MS) > SLOT_MS else 40.0

    middle, end = START_MS + 3 * SLOT_MS + at_s * 1000, START_MS + 6 * SLOT_MS
    whole, first = controller(), controller()
    expected = play(whole, load, START_MS, end)
    kwh = 0.0
    found = []
    for now in range(START_MS, end + 1, STEP_MS):
        if now // STEP_MS == middle // STEP_MS:
            first = controller(Memory.restored(first.memory.core(), None, None))
        first.reading(Reading("grid", "1-0:1.8.0", Kind.REGISTER, now, 1000 + kwh, 0, Quality.MEASURED))
        found += [one for one in first.decide(now) if one.topic == ALERTS]
        kwh += load(now) * STEP_MS / 3_600_000
    assert len(expected) >= 4
    assert [one.value for one in found] == [one.value for one in expected]


def test_without_a_limit_nobody_is_warned() -> None:
    made = SiteController(Memory(), Solver(warm=False))
    made.configure(place_of({"site_id": "hq", "tz": "UTC", "meters": ["grid"]}, {}), DrBook())
    assert play(made, lambda now: 500.0, START_MS, START_MS + 2 * SLOT_MS) == []
