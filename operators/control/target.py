"""What a month's peak would best have been: the same optimiser on the past, with what is known now.

A day alone cannot tell at which import it pays to stop shaving: the demand charge is paid once a month, what shaving
costs is paid on every day. The optimum of the weeks behind says it, and the spread of the days says how far the rest of
the month may go beyond it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from operators.control.model import SiteModel
from operators.control.outlook import Outlook
from operators.control.site import Site
from operators.control.solver import Floats, Solver
from operators.control.state import AssetState, SiteState

DAYS = 28
LEVELS = 5
SPREAD = 0.1
"""The months' optimal peaks differ by so much, up and down, beyond what the days before them show."""
MONTH_HOURS = 730.0


def best_peak(site: Site, past: Outlook, solver: Solver) -> float:
    """The peak that was best over a past time, all known: kW.

    Args:
        site: the site; its batteries begin half full.
        past: n steps, without margins and of one month number (`whole_past` makes it so).
        solver: a solver.
    """
    share = max(float(past.hours.sum()) / MONTH_HOURS, 0.2)
    state = SiteState({asset.asset_id: AssetState(content_kwh=asset.initial_kwh) for asset in site.assets})
    model = SiteModel(site, state, past, site.tariff.demand * share, whole=False)
    return float(model.schedule(solver.solve(model.program)).import_kw.max())


def expected_peaks(best_kw: float, day_peaks_kw: NDArray[np.float64], days_left: float) -> tuple[float, ...]:
    """Equally likely peaks of the days that are left.

    Args:
        best_kw: as `best_peak` says of the weeks behind.
        day_peaks_kw: [d] highest load of each of those days.
        days_left: of the month; 0 or less: none are expected.

    Returns:
        `LEVELS` values, kW, ascending; empty when nothing can be said.
    """
    known = day_peaks_kw[np.isfinite(day_peaks_kw)]
    if days_left <= 0 or not len(known) or best_kw <= 0 or known.max() <= 0:
        return ()
    middle = (np.arange(LEVELS) + 0.5) / LEVELS
    # The highest of k days is below x when each of them is.
    shape = np.quantile(known, middle ** (1.0 / days_left)) / known.max()
    return tuple((best_kw * shape * (1.0 + SPREAD * (2.0 * middle - 1.0))).tolist())


def whole_past(
    start_ms: Floats, step_s: float, load_kw: Floats, pv_kw: Floats, price: Floats, export: Floats
) -> Outlook:
    """A past of equal steps as one month without uncertainty; arguments as the fields of `Outlook`."""
    n = len(load_kw)
    zero = np.zeros(n)
    return Outlook(
        start_ms=np.asarray(start_ms, dtype=np.int64),
        step_s=np.full(n, float(step_s)),
        load_kw=load_kw,
        pv_kw=pv_kw,
        peak_margin_kw=zero[None],
        peak_weight=np.ones(1),
        limit_margin_kw=zero,
        price=price,
        export=np.minimum(export, price),
        carbon=zero,
        month=np.zeros(n, dtype=np.int64),
    )
