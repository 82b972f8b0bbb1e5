"""What an action saved at a meter: days before against days after, from the database (`operators.verification`)."""

from __future__ import annotations

from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.errors import UserError
from operators.verification import CV_LIMIT, NMBE_LIMIT, Savings, VerificationError, savings

COVERED = 0.99
"""A day counts when so much of it was measured."""


def report(
    database_url: str,
    meter_id: str,
    action: date,
    until: date | None = None,
    since: date | None = None,
    weather: Path | None = None,
) -> Savings:
    """Savings since an action.

    Args:
        database_url: libpq URL.
        meter_id: the meter.
        action: first local day that counts as after it.
        until: first day that counts no more.
        since: first day of the baseline.
        weather: CSV with columns `date` and `celsius`, daily means.

    Raises:
        UserError: too few days, no such meter, or a weather file that cannot be read.
        DatabaseError: the database does not answer.
    """
    days = _days(database_url, meter_id)
    if since is not None:
        days = days[days.index >= pd.Timestamp(since)]
    if until is not None:
        days = days[days.index < pd.Timestamp(until)]
    celsius = None if weather is None else _weather(weather).reindex(days.index)
    after = np.asarray(days.index >= pd.Timestamp(action))
    number = ((days.index - pd.Timestamp("1970-01-01")) // pd.Timedelta(days=1)).to_numpy(dtype=np.int64)
    kwh = days.to_numpy(dtype=np.float64)
    outside: tuple[NDArray[np.float64] | None, NDArray[np.float64] | None] = (None, None)
    if celsius is not None:
        values = celsius.to_numpy(dtype=np.float64)
        outside = values[~after], values[after]
    try:
        return savings(number[~after], kwh[~after], number[after], kwh[after], *outside)
    except VerificationError as error:
        raise UserError(f"meter {meter_id}: {error}") from error


def as_dict(found: Savings) -> dict[str, Any]:
    """For JSON."""
    return {
        name: round(value, 6) if isinstance(value, float) else value
        for name, value in asdict(found).items()
        if name != "expected_kwh"
    }


def told(found: Savings) -> list[str]:
    """For a person."""
    good = "meets" if found.acceptable else "does NOT meet"
    return [
        f"saved {found.saved_kwh:,.0f} kWh in {found.days} days ({found.share:.1%})",
        f"90% interval: {found.low_kwh:,.0f} to {found.high_kwh:,.0f} kWh",
        f"baseline: CV(RMSE) {found.cv_rmse:.1%} ({CV_LIMIT:.0%} at most), NMBE {found.nmbe:.2%} ({NMBE_LIMIT:.0%})",
        f"{found.n_effective:.0f} independent days; it {good} ASHRAE Guideline 14",
    ]


def _days(database_url: str, meter_id: str) -> pd.Series[float]:
    """kWh by local day, NaN where not measured in full."""
    from infra.database import connected

    with connected(database_url) as link, link.cursor() as cursor:
        cursor.execute(
            "SELECT (e.bucket AT TIME ZONE m.tz)::date, sum(e.kwh), sum(e.coverage * 0.25)"
            " FROM energy_15m AS e JOIN meter AS m USING (meter_id) WHERE meter_id = %s GROUP BY 1 ORDER BY 1",
            (meter_id,),
        )
        rows = cursor.fetchall()
    if not rows:
        raise UserError(f"no energy of meter {meter_id}: table meter lists those that there are")
    index = pd.DatetimeIndex([day for day, _, _ in rows])
    # A day of 23 hours is whole with 22.8 of them.
    whole = [kwh if hours >= 23 * COVERED else np.nan for _, kwh, hours in rows]
    series = pd.Series(np.array(whole, dtype=np.float64), index=index)
    return series.reindex(pd.date_range(index[0], index[-1], freq="D"))


def _weather(path: Path) -> pd.Series[float]:
    try:
        frame = pd.read_csv(path)
        index = pd.DatetimeIndex(pd.to_datetime(frame["date"]))
        return pd.Series(frame["celsius"].to_numpy(dtype=np.float64), index=index).groupby(level=0).mean()
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: write a CSV with the columns date and celsius ({error})", 2) from error
