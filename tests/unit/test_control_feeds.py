"""What comes in about a site: what is usable, what its meters say together, which of them count."""

from __future__ import annotations

import numpy as np
import pytest
from control_loop import GRID, LOAD, SITE, START_MS, forecast_message
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.control.site_json import SiteError
from operators.control_lifecycle.dr_book import DrBook
from operators.control_places import places
from operators.control_site import feeds
from operators.control_site.feeds import FeedError, MeterForecast, Reading
from operators.control_site.live import SLOT_MS, LiveMeters
from operators.control_site.past import Past
from operators.control_site.situation import place_of, signals, summed
from operators.readings import Kind, Quality

MINUTE = 60_000


def read(meter: str, minute: float, value: float, register: str = "1-0:1.8.0", kind: Kind = Kind.REGISTER) -> Reading:
    """A reading some minutes after the start."""
    return Reading(meter, register, kind, START_MS + round(minute * MINUTE), value, 900_000, Quality.MEASURED)


@pytest.mark.parametrize(
    "change",
    [
        {"step_s": 77}, {"issued_at": "yesterday"}, {"kwh": {}}, {"target_start": None},
        {"kwh": {name: [float("nan")] for name in feeds.QUANTILE_NAMES}},
        {"kwh": {name: [1e9] for name in feeds.QUANTILE_NAMES}},
    ],
)  # fmt: skip
def test_a_forecast_that_is_none_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(FeedError):
        feeds.forecast({**forecast_message(START_MS), **change})


@pytest.mark.parametrize(
    "change",
    [
        {"asset_id": ""}, {"ts": "2026-01-05T00:00:00"}, {"power_w": float("inf")}, {"power_w": "5"}, {"power_w": True},
        {"content_wh": 1e13}, {"connected": 1}, {"ready_by": "soon"},
    ],
)  # fmt: skip
def test_a_report_that_is_none_is_refused(change: dict[str, object]) -> None:
    good = {"asset_id": "battery", "ts": START_MS, "power_w": -500.0}
    assert feeds.report(good).power_kw == -0.5
    with pytest.raises(FeedError):
        feeds.report({**good, **change})


def test_counters_become_power_and_the_quarter_hours_energy() -> None:
    live = LiveMeters()
    assert not live.take(read("a", 0, 100.0))
    assert live.take(read("a", 20, 102.0))
    power = live.power(["a"], START_MS + 21 * MINUTE)
    assert power is not None
    assert power.kw == pytest.approx(6.0)
    assert live.slot(["a"], START_MS) == (pytest.approx(1.5), SLOT_MS)
    assert live.slot(["a"], START_MS + SLOT_MS) == (pytest.approx(0.5), 5 * MINUTE)


def test_what_is_fed_in_counts_against_and_power_beside_energy_is_left_out() -> None:
    live = LiveMeters()
    for minute in (0, 1):
        live.take(read("a", minute, 100.0))
        live.take(read("a", minute, 50.0 + minute / 10, "1-0:2.8.0"))
        live.take(read("a", minute, 99.0, "1-0:1.7.0", Kind.INSTANT))
    power = live.power(["a"], START_MS + MINUTE)
    assert power is not None
    assert power.kw == pytest.approx(-6.0)


@pytest.mark.parametrize("spoilt", [None, "b"])
def test_a_silent_meter_makes_the_site_unknown(spoilt: str | None) -> None:
    live = LiveMeters()
    for minute in range(12):
        for meter in ("a", "b"):
            if meter != spoilt or minute < 4:
                live.take(read(meter, minute, 100.0 + minute))
    assert (live.power(["a", "b"], START_MS + 11 * MINUTE) is None) == (spoilt is not None)


def test_a_counter_that_falls_and_a_late_reading_say_nothing() -> None:
    live = LiveMeters()
    live.take(read("a", 0, 100.0))
    assert live.take(read("a", 1, 101.0))
    assert not live.take(read("a", 0.5, 100.4))
    assert not live.take(read("a", 2, 3.0))
    assert live.power(["a"], START_MS + 2 * MINUTE) is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.1, 30), min_size=2, max_size=20), st.floats(0, 100))
def test_no_energy_is_lost_between_quarter_hours(steps: list[float], kw: float) -> None:
    live, minute, total = LiveMeters(), 0.0, 0.0
    live.take(read("a", 0, 0.0))
    for step in steps[:8]:
        minute += step
        total += kw * step / 60
        live.take(read("a", minute, total))
    slots = live.state["a"]["1-0:1.8.0/0"]["slots"]
    if len(slots) < 12:
        assert sum(part[0] for part in slots.values()) == pytest.approx(total, abs=1e-6)


def test_grid_meters_are_those_without_a_parent() -> None:
    raw = {**SITE, "settings": {}, "meters": ["main", "sub", "gas"]}
    meters = {"sub": {"parent_meter_id": "main"}, "gas": {"commodity": "gas"}}
    assert place_of(raw, meters).grid_meters == ("main",)
    assert place_of(SITE, {}).load_meters == (LOAD,)
    with pytest.raises(SiteError, match="no electricity meter"):
        place_of({**raw, "meters": []}, {})


def test_a_site_that_contradicts_itself_is_not_controlled_and_harms_no_other() -> None:
    bad = {**SITE, "assets": [{"asset_id": "x", "type": "battery"}]}
    watched = {**SITE, "assets": []}
    empty = {**watched, "limit_kw": None}
    assert set(places({"hq": SITE, "bad": bad, "watched": watched, "empty": empty}, {})) == {"hq", "watched"}


def test_forecasts_of_several_meters_are_added_on_one_grid() -> None:
    kw = np.ones((9, 24)) * np.arange(1, 10)[:, None]
    hourly = MeterForecast("h", START_MS, START_MS, 3600, kw, "m")
    quarter = MeterForecast("q", START_MS, START_MS + SLOT_MS, 900, np.repeat(kw, 4, axis=1), "m")
    found = summed({"h": hourly, "q": quarter}, ["h", "q"], Past(), without_devices=False)
    assert found is not None
    assert (found.start_ms, found.step_s) == (START_MS + SLOT_MS, 900)
    assert found.load_kw[:, 0].tolist() == [2.0 * (i + 1) for i in range(9)]
    assert summed({"h": hourly}, ["h", "q"], Past(), without_devices=False) is None


def test_demand_response_becomes_prices_and_limits() -> None:
    book, place = DrBook(), place_of(SITE, {})
    payloads = [{"type": "PRICE", "values": [0.7]}, {"type": "IMPORT_CAPACITY_LIMIT", "values": [33]}]
    period = {"start": START_MS + SLOT_MS, "duration": "PT1H"}
    book.add(
        {"id": "e", "targets": ["hq"], "intervalPeriod": period, "intervals": [{"id": 0, "payloads": payloads}]}
    )  # fmt: skip
    prices, found = signals(book, place, START_MS)
    assert found is not None
    assert prices.import_limit_at(START_MS) is None
    assert prices.import_limit_at(START_MS + SLOT_MS) == 33.0
    assert prices.energy is not None
    assert np.nanmax(prices.energy) == 0.7


def test_the_past_keeps_four_weeks_and_the_months_peak() -> None:
    past = Past()
    for k in range(96 * 30):
        past.add(START_MS + k * SLOT_MS, 10.0 + k % 96, 1.0, "UTC")
    assert past.peak_kw == 106.0 if past.month else False
    assert np.isfinite(past.load_kw).all()
    again = Past.load(past.dump())
    assert again.dump() == past.dump()
    usual = past.usual_devices_kw(np.array([START_MS]), 900)
    assert usual.tolist() == [1.0]
    past.add(START_MS - SLOT_MS, 999.0, 0.0, "UTC")
    assert again.highest_kw() == past.highest_kw()


def test_grid_and_load_are_told_apart() -> None:
    place = place_of(SITE, {})
    assert (place.grid_meters, place.forecast_meters) == ((GRID,), (LOAD,))
