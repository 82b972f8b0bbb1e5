"""Draws a simulation: import under each policy on the hardest days, the batteries' content, and the price."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jobs.errors import UserError
from jobs.simulation.folder import Case
from jobs.simulation.run import Trace

COLOURS = {"none": "#7b8794", "rule": "#b45309", "foresight": "#15803d", "energyai": "#1b62a5"}
DAYS_AROUND = 3
DAY = 96


def save(case: Case, traces: Mapping[str, Trace], path: Path) -> None:
    """Writes the picture; its kind is the name's ending.

    Raises:
        UserError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("--plot needs matplotlib, which is not installed: `make setup-test` brings it") from error
    first = next(iter(traces.values()))
    net = case.load_kw - case.pv_kw
    hardest = int(np.argmax(net))
    begin = max(0, hardest - hardest % DAY - DAYS_AROUND * DAY)
    part = slice(begin, min(len(net), begin + (2 * DAYS_AROUND + 1) * DAY))
    times = case.start_ms[part].astype("datetime64[ms]")
    figure = Figure(figsize=(9, 6), layout="constrained", facecolor="white")
    power, content, price = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1.2, 1))
    for name, trace in traces.items():
        power.step(times, trace.import_kw[part], where="post", color=COLOURS[name], linewidth=1.2, label=name)
        if first.content_kwh.any() and name != "none":
            content.plot(times, trace.content_kwh[part], color=COLOURS[name], linewidth=1.2)
    if case.site.limit_kw is not None:
        power.axhline(case.site.limit_kw, color="#b91c1c", linewidth=0.8, linestyle="--", label="limit")
    price.step(times, case.cost_price[part], where="post", color="#1f2933", linewidth=1.0)
    power.set_ylabel("import, kW")
    content.set_ylabel("stored, kWh")
    price.set_ylabel(f"{case.site.tariff.currency}/kWh")
    price.set_xlabel("UTC; price with carbon's")
    power.set_title(f"{case.site.site_id}: the week of the highest load", loc="left")
    for axes in (power, content, price):
        axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    metadata = {"Date": None} if path.suffix == ".svg" else None
    try:
        with mpl.rc_context({"svg.hashsalt": "energyai"}):
            figure.savefig(path, dpi=150, metadata=metadata)
    except OSError as error:
        raise UserError(f"--plot {path}: {error.strerror or error}: name a file that can be written") from error
