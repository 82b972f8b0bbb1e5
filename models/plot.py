"""Draws what was forecast for a meter, with its 80% band, against what happened.

python -m models.plot --database-url URL --meter ID --out FILE.svg
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from zoneinfo import ZoneInfo

import numpy as np
import psycopg2
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

INK, GREY, BAND, MEDIAN, ACTUAL = "#1f2933", "#7b8794", "#c3dbf2", "#1b62a5", "#c2410c"

# The first forecast of each local day whose 24 hours are over: at midnight, for a meter that is never silent.
_ROWS = """
    WITH zone AS (
        SELECT tz FROM meter WHERE meter_id = %(meter)s
    ), measured AS (
        SELECT bucket, kwh, 3600 AS step_s FROM energy_hourly WHERE meter_id = %(meter)s AND coverage >= 0.999
        UNION ALL
        SELECT bucket, kwh, 900 FROM energy_15m WHERE meter_id = %(meter)s AND coverage >= 0.999
    ), chosen AS (
        SELECT DISTINCT ON (date_trunc('day', issued_at AT TIME ZONE tz)) issued_at, tz
        FROM forecast_issue, zone
        WHERE meter_id = %(meter)s
            AND issued_at <= (SELECT max(bucket) FROM measured WHERE step_s = 3600) - INTERVAL '23 hours'
        ORDER BY date_trunc('day', issued_at AT TIME ZONE tz) DESC, issued_at
        LIMIT %(days)s
    )
    SELECT
        (extract(epoch FROM f.issued_at) * 1000)::bigint, (extract(epoch FROM f.target_ts) * 1000)::bigint,
        f.q10, f.q50, f.q90, m.kwh, f.step_s, c.tz, f.model_id
    FROM forecast AS f
    JOIN chosen AS c USING (issued_at)
    LEFT JOIN measured AS m ON m.step_s = f.step_s AND m.bucket = f.target_ts
    WHERE f.meter_id = %(meter)s
    ORDER BY f.target_ts, f.issued_at"""


class PlotError(Exception):
    """There is nothing to draw; the message says what to do."""


@dataclass(frozen=True)
class Chart:
    """What is drawn: n steps of one meter, in the order of time."""

    meter_id: str
    tz: str
    """IANA zone of the time axis."""
    step_s: int
    model_id: str
    issued_ms: Ints
    """[n] epoch ms UTC: when the step's forecast was issued."""
    target_ms: Ints
    """[n] epoch ms UTC: start of the step."""
    q10: Floats
    """[n] kW, mean of the step; the others too."""
    q50: Floats
    q90: Floats
    actual: Floats
    """[n] NaN where the step is not measured in full."""

    @classmethod
    def of(
        cls,
        meter_id: str,
        tz: str,
        step_s: int,
        model_id: str,
        issued_ms: Ints,
        target_ms: Ints,
        kwh: Floats,
    ) -> Self:
        """A chart of forecasts that follow each other; where two overlap, the newer counts.

        Args:
            meter_id, tz, step_s, model_id: as the fields.
            issued_ms: [r] epoch ms UTC, of each row's forecast.
            target_ms: [r] epoch ms UTC, start of each row's step; any order.
            kwh: [4, r] kWh of the step: 0.1, 0.5 and 0.9 quantile, and what happened, NaN = unknown.

        >>> ends = np.array([0, 0, 3_600_000])
        >>> kwh = np.array([[1, 2, 3], [2, 3, 4], [3, 4, 5], [2, 2, 2]], float)
        >>> chart = Chart.of("b2", "UTC", 3600, "m", ends, np.array([0, 3_600_000, 3_600_000]), kwh)
        >>> chart.target_ms.tolist(), chart.q50.tolist()
        ([0, 3600000], [2.0, 4.0])
        """
        order = np.lexsort((issued_ms, target_ms))
        target = target_ms[order]
        newest = order[np.append(target[1:] != target[:-1], True)] if len(order) else order
        q10, q50, q90, actual = kwh[:, newest] * (3600 / step_s)
        return cls(meter_id, tz, step_s, model_id, issued_ms[newest], target_ms[newest], q10, q50, q90, actual)

    def inside(self) -> float:
        """Share of the measured steps that lie in the band; NaN when none is measured."""
        known = ~np.isnan(self.actual)
        hit = (self.actual >= self.q10) & (self.actual <= self.q90)
        return float(hit[known].mean()) if known.any() else float("nan")

    def nrmse(self) -> float:
        """Root mean squared error of the median over the mean of what happened; NaN when none is measured."""
        known = ~np.isnan(self.actual)
        if not known.any():
            return float("nan")
        error = self.q50[known] - self.actual[known]
        return float(np.sqrt(np.mean(error**2)) / np.mean(self.actual[known]))


def read(url: str, meter_id: str, days: int) -> Chart:
    """The last `days` local days of a meter, each as it was forecast at its beginning.

    Args:
        url: libpq URL; reading rights are enough.
        meter_id: which meter.
        days: how many days.

    Raises:
        PlotError: the database does not answer, or the meter has no forecasts whose day is over.
    """
    try:
        connection = psycopg2.connect(url, connect_timeout=10)
    except psycopg2.OperationalError as error:
        reason = " ".join(str(error).split())
        raise PlotError(f"no database there ({reason}): `energyai status` shows the address") from error
    try:
        with connection.cursor() as cursor:
            cursor.execute(_ROWS, {"meter": meter_id, "days": days})
            rows = cursor.fetchall()
    finally:
        connection.close()
    if not rows:
        raise PlotError(
            f"meter {meter_id} has no forecast of a day that is over: `SELECT DISTINCT meter_id FROM forecast_issue` "
            "lists those that have any"
        )
    issued, target, *kwh = zip(*(row[:6] for row in rows), strict=True)
    step_s, tz, model_id = rows[-1][6:]
    # A meter whose step changed: the newest step is drawn.
    same = np.array([row[6] == step_s for row in rows])
    numbers = np.array(kwh, dtype=np.float64)[:, same]
    return Chart.of(meter_id, tz, step_s, model_id, np.array(issued)[same], np.array(target)[same], numbers)


def draw(chart: Chart) -> Figure:
    """The picture, for a page as wide as a text's column."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.2), layout="constrained", facecolor="white")
    axes = figure.subplots()
    step_ms = chart.step_s * 1000
    for part in np.split(np.arange(len(chart.target_ms)), np.flatnonzero(np.diff(chart.target_ms) != step_ms) + 1):
        # Values hold for a whole step: draw steps, each to its end.
        edges = _times(np.append(chart.target_ms[part], chart.target_ms[part[-1]] + step_ms), chart.tz)
        first = part[0] == 0
        low, middle, high, actual = (_closed(v[part]) for v in (chart.q10, chart.q50, chart.q90, chart.actual))
        band = "80% band (0.1 to 0.9 quantile)" if first else None
        axes.fill_between(edges, low, high, step="post", color=BAND, linewidth=0, label=band)
        labels = ("forecast, median", "what happened") if first else (None, None)
        axes.step(edges, middle, where="post", color=MEDIAN, linewidth=1.3, label=labels[0])
        axes.step(edges, actual, where="post", color=ACTUAL, linewidth=1.1, label=labels[1])
    for issued in _times(np.unique(chart.issued_ms), chart.tz):
        axes.axvline(issued, color=GREY, linewidth=0.7, linestyle=(0, (2, 3)), zorder=0.5)
    _dress(axes, chart)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=INK)
    return figure


def _dress(axes: Axes, chart: Chart) -> None:
    from matplotlib import dates as untyped

    dates: Any = untyped
    zone = ZoneInfo(chart.tz)
    lowest = min(0.0, float(np.nanmin(np.concatenate([chart.q10, chart.actual]))))
    axes.set_ylim(bottom=lowest * 1.05)
    # Short of the last midnight, or its label stands outside.
    axes.set_xlim(*_times(np.array([chart.target_ms[0], chart.target_ms[-1] + chart.step_s * 1000 - 1000]), chart.tz))
    days = (chart.target_ms[-1] - chart.target_ms[0]) / 86_400_000
    axes.xaxis.set_major_locator(dates.DayLocator(interval=max(1, round(days / 8)), tz=zone))
    axes.xaxis.set_major_formatter(dates.DateFormatter("%a %d %b", tz=zone))
    if days <= 10:
        axes.xaxis.set_minor_locator(dates.HourLocator(byhour=(6, 12, 18), tz=zone))
    for label in axes.get_xticklabels():
        label.set_horizontalalignment("left")
    axes.set_ylabel("kW, mean of the hour" if chart.step_s == 3600 else f"kW, mean of {chart.step_s // 60} minutes")
    year = _times(chart.target_ms[-1:], chart.tz)[0].year
    axes.set_xlabel(f"{year}, local time ({chart.tz}); dotted: a forecast of the next 24 hours is issued", fontsize=9)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(GREY)
    title = f"{chart.meter_id}: each day as it was forecast, and what happened"
    axes.set_title(title, loc="left", color=INK, fontsize=13, pad=24)
    figures = f"{chart.inside():.0%} in the band, NRMSE {chart.nrmse():.0%}; model {chart.model_id}"
    place = axes.annotate(figures, (0, 1), (0, 9), xycoords="axes fraction", textcoords="offset points")
    place.set(color=GREY, fontsize=9)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.tick_params(which="both", color=GREY, labelcolor=INK)
    axes.tick_params(axis="y", length=0)


def _closed(values: Floats) -> Floats:
    """With the last value once more, for the end of its step."""
    return np.append(values, values[-1])


def _times(ms: Ints, tz: str) -> Any:
    """Epoch ms UTC as an array of times in the zone, as matplotlib takes them."""
    epoch, zone = datetime(1970, 1, 1, tzinfo=UTC), ZoneInfo(tz)
    return np.array([(epoch + timedelta(milliseconds=int(t))).astimezone(zone) for t in ms], dtype=object)


def save(figure: Figure, path: Path) -> None:
    """Writes the picture; its kind is the name's ending. The same data give the same bytes."""
    import matplotlib as mpl

    metadata = {"Date": None} if path.suffix == ".svg" else None
    with mpl.rc_context({"svg.hashsalt": "energyai"}):
        figure.savefig(path, dpi=160, metadata=metadata)


def main(argv: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m models.plot", description=__doc__)
    parser.add_argument("--meter", required=True, metavar="ID", help="meter to draw")
    parser.add_argument("--days", type=int, default=7, metavar="N", help="its last N days (default 7)")
    parser.add_argument("--out", type=Path, default=Path("forecast.svg"), metavar="FILE", help=".svg or .png")
    parser.add_argument(
        "--database-url",
        default=os.environ.get("ENERGYAI_DATABASE_URL", ""),
        metavar="URL",
        help="libpq URL, as `energyai status` prints it (default: ENERGYAI_DATABASE_URL)",
    )
    args = parser.parse_args(argv)
    try:
        if not args.database_url:
            raise PlotError("no database: give --database-url, as `energyai status` prints it")
        if args.days < 1 or args.out.suffix not in (".svg", ".png"):
            raise PlotError("--days is 1 or more, and --out ends in .svg or .png")
        save(draw(read(args.database_url, args.meter, args.days)), args.out)
    except (PlotError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
