"""Measurement and verification: what an action saved, against what would have been, with its uncertainty.

The baseline is a linear model of daily energy: a level for each day of the week, the season as harmonics of the
year, and, where it is known, temperature below and above a balance point (heating and cooling degrees). It is fitted
before the action.

Sources: ASHRAE Guideline 14-2014 (CV(RMSE), NMBE and their limits for calibrated daily and hourly models; fractional
savings uncertainty, n' for autocorrelated residuals); the balance point follows the change-point models of the
same guideline. IPMVP option C is the frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CV_LIMIT, NMBE_LIMIT = 0.30, 0.10
"""Guideline 14's limits for models finer than a month."""
LEAST_DAYS = 56
HARMONICS = 2
SEASON_DAYS = 300
"""With fewer days of baseline a season cannot be told from a trend, and is left out."""
BALANCE_C = tuple(np.arange(8.0, 21.0).tolist())
RIDGE = 1e-6
T_90 = 1.645
"""90% two-sided, many days."""


class VerificationError(ValueError):
    """Too little to fit or to compare; says how much is needed."""


@dataclass(frozen=True)
class Savings:
    """What an action saved. Energies in kWh; negative is more use."""

    days: int
    saved_kwh: float
    low_kwh: float
    """90% interval of the saving."""
    high_kwh: float
    baseline_kwh: float
    """What would have been used."""
    share: float
    cv_rmse: float
    """Of the baseline's own days."""
    nmbe: float
    n_effective: float
    """Baseline days that count, after autocorrelation."""
    acceptable: bool
    """The baseline meets Guideline 14, and the interval is at most half of the saving at 68% confidence."""
    balance_c: float | None
    expected_kwh: Floats
    """[m] by day of the time after the action."""


def savings(
    before_day: NDArray[np.int64],
    before_kwh: Floats,
    after_day: NDArray[np.int64],
    after_kwh: Floats,
    before_c: Floats | None = None,
    after_c: Floats | None = None,
) -> Savings:
    """What was saved after an action.

    Args:
        before_day, after_day: [n], [m] days since 1970 (local).
        before_kwh, after_kwh: [n], [m] energy of each; NaN where not measured.
        before_c, after_c: mean outdoor temperature of each, degrees Celsius; both or none.

    Raises:
        VerificationError: fewer than `LEAST_DAYS` days before, or none after.
    """
    known, later = np.isfinite(before_kwh), np.isfinite(after_kwh)
    if before_c is not None and after_c is not None:
        known &= np.isfinite(before_c)
        later &= np.isfinite(after_c)
    if known.sum() < LEAST_DAYS or not later.any():
        raise VerificationError(
            f"{int(known.sum())} measured days before and {int(later.sum())} after: "
            f"{LEAST_DAYS} before and one after are needed"
        )
    day, kwh = before_day[known], before_kwh[known]
    seasonal = int(day.max() - day.min()) >= SEASON_DAYS
    best: tuple[float, float | None, Floats] | None = None
    for balance in (None,) if before_c is None else BALANCE_C:
        x = _design(day, seasonal, balance, None if before_c is None else before_c[known])
        weights = np.linalg.solve(x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]), x.T @ kwh)
        error = float(((kwh - x @ weights) ** 2).sum())
        if best is None or error < best[0]:
            best = error, balance, weights
    assert best is not None
    error, balance, weights = best
    fitted = _design(day, seasonal, balance, None if before_c is None else before_c[known]) @ weights
    expected = _design(after_day[later], seasonal, balance, None if after_c is None else after_c[later]) @ weights
    n, p, mean = len(kwh), len(weights), float(kwh.mean())
    cv = float(np.sqrt(error / max(n - p, 1)) / mean)
    nmbe = float((kwh - fitted).sum() / (max(n - p, 1) * mean))
    residual = kwh - fitted
    rho = float(np.clip(np.corrcoef(residual[1:], residual[:-1])[0, 1], 0.0, 0.95)) if residual.std() > 0 else 0.0
    effective = n * (1 - rho) / (1 + rho)
    saved, baseline, m = float((expected - after_kwh[later]).sum()), float(expected.sum()), int(later.sum())
    # Guideline 14 has 1.26 CV sqrt(n/n' (1 + 2/n') / m) of the baseline, a closed form for one that extrapolates
    # little. Here it is the regression's own: m days' errors, and those of the weights, both autocorrelated, in
    # proportion to the load; the guideline's 1.26 stays, for errors that are larger in one season (without it, 90%
    # intervals cover 78%).
    x = _design(day, seasonal, balance, None if before_c is None else before_c[known])
    ahead = _design(after_day[later], seasonal, balance, None if after_c is None else after_c[later]).sum(axis=0)
    weights_part = float(ahead @ np.linalg.solve(x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]), ahead))
    spread = 1.26 * cv * abs(baseline) / m * np.sqrt(n / effective * (m + weights_part))
    half = T_90 * float(spread)
    return Savings(
        days=m,
        saved_kwh=saved,
        low_kwh=saved - half,
        high_kwh=saved + half,
        baseline_kwh=baseline,
        share=saved / baseline if baseline else 0.0,
        cv_rmse=cv,
        nmbe=nmbe,
        n_effective=float(effective),
        acceptable=cv <= CV_LIMIT and abs(nmbe) <= NMBE_LIMIT and float(spread) <= 0.5 * abs(saved),
        balance_c=balance,
        expected_kwh=expected,
    )


def _design(day: NDArray[np.int64], seasonal: bool, balance: float | None, celsius: Floats | None) -> Floats:
    """[n, p]: weekdays, harmonics, degrees below and above the balance point."""
    weekday = (day + 3) % 7  # 1 January 1970 was a Thursday
    columns = [(weekday == number).astype(np.float64) for number in range(7)]
    if seasonal:
        angle = 2 * np.pi * day / 365.2425
        for k in range(1, HARMONICS + 1):
            columns += [np.sin(k * angle), np.cos(k * angle)]
    if balance is not None and celsius is not None:
        columns += [np.maximum(balance - celsius, 0.0), np.maximum(celsius - balance, 0.0)]
    return np.stack(columns, axis=1)
