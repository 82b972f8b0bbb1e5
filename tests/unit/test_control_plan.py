"""Plans: what they do in plain cases, that they always exist, and that the checker finds nothing in any of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from operators.control.checker import check_device
from operators.control.outlook import Forecast, Prices
from operators.control.plan import check_plan, plan_site, spec_of
from operators.control.setpoints import setpoints
from operators.control.site_json import read_site
from operators.control.solver import Solver, SolverError
from operators.control.state import AssetState, SiteState
from tests.unit.control_support import (
    HOURS,
    START_MS,
    battery,
    forecast,
    prices,
    random_sites,
    random_states,
    site,
)

FULL = SiteState({"battery": AssetState(power_kw=0.0, content_kwh=20.0)})
EMPTY = SiteState({"battery": AssetState(power_kw=0.0, content_kwh=0.0)})
CHEAP_THEN_DEAR = [0.1] * 6 + [0.5] * 6


def hourly(plan: object, name: str) -> list[float]:
    """Mean power of each of the first 24 hours."""
    return [round(float(x), 3) for x in plan.power_kw[name][:96].reshape(24, 4).mean(axis=1)]  # type: ignore[attr-defined]


def test_it_buys_when_cheap_and_uses_when_dear() -> None:
    plan = plan_site(site(battery()), EMPTY, forecast(5.0), prices(CHEAP_THEN_DEAR), START_MS)
    assert plan.reason == "optimal"
    power = hourly(plan, "battery")
    assert sum(power[:6]) == pytest.approx(20 / math.sqrt(0.9), abs=0.01)
    assert sum(power[6:12]) == pytest.approx(-20 * math.sqrt(0.9), abs=0.01)
    assert plan.cost < plan.baseline_cost


def test_it_shaves_the_peak_that_a_demand_charge_makes_dear() -> None:
    load = [10.0] * 10 + [20.0, 20.0] + [10.0] * 12
    plan = plan_site(
        site(battery(), demand_charge_per_kw_month=500.0), FULL, forecast(load), Prices(START_MS, 3600), START_MS
    )
    assert max(plan.import_kw) < 12.5
    # What is paid already costs nothing more.
    paid = replace(FULL, month_peak_kw=20.0)
    calm = plan_site(
        site(battery(), demand_charge_per_kw_month=500.0), paid, forecast(load), Prices(START_MS, 3600), START_MS
    )
    assert max(calm.import_kw) == pytest.approx(20.0)


@pytest.mark.parametrize(("said", "margin"), [({}, 0.05), ({"limit_quantile": 0.9}, 0.1)])
def test_a_limit_holds_at_the_sites_quantile(said: dict[str, float], margin: float) -> None:
    load = [10.0] * 10 + [20.0, 20.0] + [10.0] * 12
    here = read_site({"limit_kw": 18.0, "tariff": {"energy": 0.3}, "settings": said, "assets": [battery()]})
    plan = plan_site(here, FULL, forecast(load, spread=0.1), Prices(START_MS, 3600), START_MS)
    assert plan.reason == "optimal"
    assert max(plan.import_kw[40:48]) == pytest.approx(18.0 - margin * 20.0)


def test_a_limit_that_cannot_be_kept_is_kept_as_far_as_can_be_and_said() -> None:
    plan = plan_site(site(battery(), limit_kw=5.0), EMPTY, forecast(8.0), Prices(START_MS, 3600), START_MS)
    assert plan.reason == "relaxed:limit"
    assert max(plan.import_kw) <= 8.0 + 1e-6


def test_needs_give_way_before_the_limit() -> None:
    ev = {"asset_id": "ev", "type": "ev", "max_w": 20_000}
    state = SiteState({"ev": AssetState(0.0, connected=True, ready_by_ms=START_MS + 2 * 3_600_000, needs_kwh=40.0)})
    plan = plan_site(site(ev, limit_kw=15.0), state, forecast(5.0), Prices(START_MS, 3600), START_MS)
    assert plan.reason == "relaxed:needs"
    assert max(plan.import_kw) <= 15.0 + 1e-6
    assert plan.power_kw["ev"][:8].sum() / 4 == pytest.approx(20.0, abs=1e-3)


def test_an_ev_is_ready_in_time_and_charged_when_cheapest() -> None:
    ev = {"asset_id": "ev", "type": "ev", "max_w": 10_000}
    state = SiteState({"ev": AssetState(0.0, connected=True, ready_by_ms=START_MS + 10 * 3_600_000, needs_kwh=25.0)})
    price = [0.4] * 4 + [0.1] * 3 + [0.4] * 17
    plan = plan_site(site(ev), state, forecast(5.0), prices(price), START_MS)
    power = hourly(plan, "ev")
    assert sum(power[4:7]) == pytest.approx(25.0, abs=1e-3)
    assert sum(power) == pytest.approx(25.0, abs=1e-3)


def test_a_switched_load_runs_long_enough() -> None:
    pump = {"asset_id": "pump", "type": "flexible_load", "max_w": 4_000, "energy_wh": 8_000, "min_run_s": 3600}
    price = [0.4, 0.1, 0.4, 0.4, 0.1, 0.4] * 4
    plan = plan_site(site(pump), SiteState({"pump": AssetState(0.0)}), forecast(5.0), prices(price), START_MS)
    assert plan.reason == "optimal"
    assert set(np.round(plan.power_kw["pump"], 6)) <= {0.0, 4.0}
    assert check_device(spec_of(site(pump).assets[0]), plan.power_kw["pump"].tolist(), plan.step_s.tolist()) == []


def test_sun_is_held_back_when_feeding_in_costs() -> None:
    plan = plan_site(site(export_price=-0.1), SiteState(), forecast(2.0, pv_kw=5.0), Prices(START_MS, 3600), START_MS)
    assert plan.curtailed_kw.tolist() == pytest.approx([3.0] * len(plan.step_s))
    assert min(plan.import_kw) >= -1e-6


def test_never_charging_and_discharging_at_once_even_when_prices_are_negative() -> None:
    plan = plan_site(site(battery()), FULL, forecast(5.0), prices([-0.5] * 6), START_MS)
    assert check_plan(site(battery()), FULL, plan) == []


def test_a_meter_that_shows_more_than_was_forecast_changes_the_plan_now() -> None:
    live = replace(FULL, load_kw=24.0)
    plan = plan_site(site(battery(), limit_kw=22.0), live, forecast(10.0), Prices(START_MS, 3600), START_MS)
    assert plan.import_kw[0] <= 22.0 + 1e-6


def test_a_battery_of_unknown_content_rests() -> None:
    for state in (
        SiteState(),
        SiteState({"battery": AssetState(content_kwh=math.nan)}),
        SiteState({"battery": AssetState(content_kwh=99.0)}),
    ):
        plan = plan_site(site(battery()), state, forecast(5.0), prices(CHEAP_THEN_DEAR), START_MS)
        assert np.abs(plan.power_kw["battery"]).max() == 0.0


@pytest.mark.parametrize(
    "broken",
    [
        Forecast(START_MS, 3600, np.full((9, HOURS), np.nan), None, START_MS),
        Forecast(START_MS, 3600, np.full((9, HOURS), np.inf), None, START_MS),
        Forecast(START_MS, 3600, np.full((9, HOURS), 1e9), None, START_MS),
        Forecast(START_MS, 3600, np.zeros((3, HOURS)), None, START_MS),
        forecast(5.0).__class__(
            START_MS - 8 * 3_600_000, 3600, np.full((9, HOURS), 5.0), None, START_MS - 8 * 3_600_000
        ),
        Forecast(START_MS + 9 * 3_600_000, 3600, np.full((9, HOURS), 5.0), None, START_MS + 9 * 3_600_000),
    ],
)
def test_no_usable_forecast_gives_a_safe_plan(broken: Forecast) -> None:
    plan = plan_site(site(battery()), FULL, broken, prices(CHEAP_THEN_DEAR), START_MS)
    assert plan.reason == "no_forecast"
    assert np.abs(plan.power_kw["battery"]).max() == 0.0


def test_some_broken_steps_are_filled_and_said() -> None:
    whole = forecast(5.0)
    load = whole.load_kw.copy()
    load[:, 3] = np.nan
    load[2, 7] = 1e12
    plan = plan_site(site(battery()), EMPTY, replace(whole, load_kw=load), prices(CHEAP_THEN_DEAR), START_MS)
    assert plan.reason == "optimal"
    assert any("load: 2 steps" in note for note in plan.notes)
    assert plan.import_kw[12:16] - plan.power_kw["battery"][12:16] == pytest.approx([5.0] * 4)


def test_absurd_prices_do_not_count() -> None:
    good = plan_site(site(battery()), EMPTY, forecast(5.0), prices([0.3]), START_MS)
    for bad in ([math.nan], [math.inf], [1e7], [-1e7]):
        plan = plan_site(site(battery()), EMPTY, forecast(5.0), prices(bad), START_MS)
        assert plan.power_kw["battery"].tolist() == good.power_kw["battery"].tolist()


def test_no_answer_of_the_solver_gives_a_safe_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Solver, program: object, limit_s: float = 1.0) -> None:
        raise SolverError("no plan: the solver says Unknown")

    monkeypatch.setattr(Solver, "solve", fail)
    plan = plan_site(site(battery()), FULL, forecast(5.0), prices(CHEAP_THEN_DEAR), START_MS)
    assert plan.reason == "no_solution"
    assert "no plan: the solver says Unknown" in plan.notes
    assert np.abs(plan.power_kw["battery"]).max() == 0.0


def test_a_plan_that_the_checker_refuses_is_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("operators.control.plan.exact", lambda asset, state, power, step_s: np.full_like(power, 99.0))
    plan = plan_site(site(battery()), FULL, forecast(5.0), prices(CHEAP_THEN_DEAR), START_MS)
    assert plan.reason == "refused_by_checker"
    assert {v.kind for v in plan.violations} == {"power", "content"}


def test_setpoints_are_the_contracts() -> None:
    here = site(battery(priority=2), limit_kw=50.0)
    plan = plan_site(here, EMPTY, forecast(5.0), prices(CHEAP_THEN_DEAR), START_MS)
    (setpoint,) = setpoints(here, plan, START_MS)
    assert json.loads(json.dumps(setpoint, allow_nan=False)) == setpoint
    assert setpoint["value_w"] == round(1000 * plan.power_kw["battery"][0], 3)
    assert setpoint["failsafe"] == {"value_w": 0.0, "min_duration_s": 900.0}
    assert (setpoint["type"], setpoint["mode"], setpoint["priority"]) == ("POWER", "shadow", 10)
    assert (setpoint["ttl_s"], setpoint["duration_s"], setpoint["supersedes"]) == (120.0, 900.0, None)
    assert setpoint["inputs"]["model_sha256"] == "abc"
    assert setpoint["expected"]["cost"] < 0
    assert setpoints(here, plan, START_MS)[0]["setpoint_id"] == setpoint["setpoint_id"]
    assert setpoints(here, plan, START_MS + 1000)[0]["setpoint_id"] != setpoint["setpoint_id"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_the_checker_finds_nothing_in_any_plan(data: st.DataObject) -> None:
    here = read_site(data.draw(random_sites()))
    state = data.draw(random_states(here))
    values = st.lists(st.floats(-20, 300) | st.just(math.nan), min_size=1, max_size=HOURS)
    expected = forecast(data.draw(values), data.draw(st.none() | values), data.draw(st.floats(0, 0.5)))
    known = prices(data.draw(st.none() | st.lists(st.floats(-1, 2) | st.just(math.nan), min_size=1, max_size=30)))
    now = START_MS + data.draw(st.integers(0, 3_599)) * 1000
    plan = plan_site(here, state, expected, known, now)
    assert check_plan(here, state, plan) == []
    assert plan.reason.partition(":")[0] in ("optimal", "relaxed", "no_forecast"), (plan.reason, plan.notes)
    json.dumps(setpoints(here, plan, now), allow_nan=False)
    if plan.reason != "no_forecast":
        # Energy balance: import is load, less sun, plus what is held back, plus the devices.
        assert np.isfinite(plan.import_kw).all()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=24, max_size=24), st.floats(1, 200))
def test_the_balance_closes(load: list[float], limit: float) -> None:
    here = site(battery(), limit_kw=limit, demand_charge_per_kw_month=8.0)
    plan = plan_site(here, EMPTY, forecast(load, pv_kw=7.0), prices(CHEAP_THEN_DEAR), START_MS)
    hours = np.resize(load, HOURS)
    expected = np.r_[np.repeat(hours[:24], 4), hours[24:HOURS]]
    found = plan.import_kw - plan.power_kw["battery"] - plan.curtailed_kw + 7.0
    assert found == pytest.approx(expected, abs=1e-6)
