"""The last look: what breaks a bound is not sent."""

from __future__ import annotations

import pytest
from control_support import battery, site
from hypothesis import given, settings
from hypothesis import strategies as st

from operators.control.checker import check_device
from operators.control.plan import spec_of
from operators.control.state import AssetState, SiteState
from operators.control.steering import steady
from operators.control_site.gate import gate

HERE = site(battery(ramp_w_per_s=100.0), limit_kw=50.0)
STATE = SiteState({"battery": AssetState(power_kw=0.0, content_kwh=10.0)})


@pytest.mark.parametrize("power", [11.0, -11.0, float("nan"), float("inf")])
def test_a_command_beyond_the_bounds_becomes_rest(power: float) -> None:
    found = gate(HERE, STATE, {"battery": power}, 900.0, None, None)
    assert found.power_kw == {"battery": 0.0}
    assert found.refused["battery"]


def test_nothing_charges_above_the_limit() -> None:
    assert gate(HERE, STATE, {"battery": 1.0}, 900.0, 50.5, 50.5).power_kw == {"battery": 0.0}
    assert gate(HERE, STATE, {"battery": -1.0}, 900.0, 50.5, 50.5).power_kw == {"battery": -1.0}
    limited = SiteState(STATE.assets, grid_limit_kw=40.0)
    assert gate(HERE, limited, {"battery": 1.0}, 900.0, 30.0, 40.5).power_kw == {"battery": 0.0}


def test_what_is_not_known_is_told_nothing() -> None:
    unknown = SiteState({"battery": AssetState(power_kw=0.0, content_kwh=None)})
    assert gate(HERE, unknown, {"battery": 1.0}, 900.0, None, None).power_kw == {}


def test_where_even_rest_breaks_a_bound_nothing_is_sent() -> None:
    running = SiteState({"battery": AssetState(power_kw=10.0, content_kwh=10.0)})
    found = gate(HERE, running, {"battery": -10.0}, 1.0, None, None)
    assert found.power_kw == {}
    assert {v.kind for v in found.refused["battery"]} == {"ramp"}


@settings(max_examples=200, deadline=None)
@given(
    wanted=st.floats(-1e3, 1e3),
    power=st.floats(-10, 10),
    content=st.floats(0, 20),
    hold=st.floats(1, 1000),
    ramp=st.sampled_from([0.0, 50.0, 5000.0]),
)
def test_what_is_made_steady_is_never_refused(
    wanted: float, power: float, content: float, hold: float, ramp: float
) -> None:
    asset = site(battery(ramp_w_per_s=ramp or None)).assets[0]
    # A battery that is nearly full or empty and runs fast cannot be stopped in time by anybody.
    own = AssetState(power_kw=0.0 if ramp == 50.0 else power, content_kwh=content)
    made = steady(asset, own, wanted, hold)
    found = check_device(spec_of(asset), [made], [hold], own.power_kw or 0.0, content)
    assert not [v for v in found if v.kind != "content"]
    if not ramp:
        assert not found
