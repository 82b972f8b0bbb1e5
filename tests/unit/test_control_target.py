"""What peaks are reckoned with for the rest of a month."""

from __future__ import annotations

import numpy as np
import pytest

from operators.control.solver import Solver
from operators.control.target import best_peak, expected_peaks, whole_past
from tests.unit.control_support import battery, site


def past(load: list[float], days: int) -> object:
    kw = np.tile(np.array(load), days)
    zero = np.zeros(len(kw))
    start = np.arange(len(kw), dtype=float) * 3_600_000
    return whole_past(start, 3600, kw, zero, np.full(len(kw), 0.3), zero)


def test_the_best_peak_of_the_past_is_what_the_battery_could_have_held() -> None:
    here = site(battery(efficiency=1.0), demand_charge_per_kw_month=10.0)
    # 10 kW but for four hours of 20 kW: 20 kWh (5 kW for four hours) bring it to 15.
    assert best_peak(here, past([10.0] * 20 + [20.0] * 4, 7), Solver()) == pytest.approx(15.0, abs=1e-6)  # type: ignore[arg-type]


def test_fewer_days_left_reach_less_high() -> None:
    days = np.linspace(50, 100, 28)
    many, few = expected_peaks(80.0, days, 27), expected_peaks(80.0, days, 1)
    assert list(many) == sorted(many)
    assert np.mean(many) > np.mean(few)
    assert max(many) < 80.0 * 1.1 + 1e-9


@pytest.mark.parametrize(
    ("best", "days", "left"),
    [(80.0, [50.0], 0.0), (0.0, [50.0], 5.0), (80.0, [], 5.0), (80.0, [float("nan")], 5.0), (80.0, [-3.0], 5.0)],
)
def test_nothing_is_expected_when_nothing_can_be_said(best: float, days: list[float], left: float) -> None:
    assert expected_peaks(best, np.array(days), left) == ()
