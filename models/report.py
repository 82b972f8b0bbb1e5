"""A backtest as text, as JSON, and as one HTML file with figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import svg
from models.backtest import CALIBRATED, MODEL, REFERENCE, Group, Judged, Row
from models.metrics import ASHRAE_CV_RMSE, ASHRAE_NMBE, LEVELS
from operators.features import HORIZON_HOURS

COLUMNS = {
    "forecaster": "forecast",
    "nrmse": "NRMSE",
    "ratio": "ratio",
    "worst_decile": "worst 10%",
    "nmae": "NMAE",
    "nmbe": "NMBE",
    "mase": "MASE",
    "wql": "wQL",
    "wql_ratio": "wQL ratio",
    "coverage80": "80% cov.",
    "width80": "80% width",
    "better": "better",
    "ashrae": "G14",
}
LEGEND = (
    "Medians over meters. NRMSE, NMAE, NMBE and 80% width: shares of the mean absolute load. ratio: NRMSE over that "
    "of mean(day, week). worst 10%: NRMSE that nine of ten meters stay below. MASE: against the week before. wQL: "
    "weighted quantile loss of all steps together; wQL ratio: over that of the persistence ensemble. 80% cov.: share "
    "of steps in the 80% band, mean over meters. better: meters on which NRMSE beats every baseline. G14: meters "
    "within ASHRAE Guideline 14's limits for hourly data "
    f"(CV(RMSE) {ASHRAE_CV_RMSE:.0%}, NMBE {ASHRAE_NMBE:.0%})."
)
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1f2937}
table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .6rem;text-align:right;border-bottom:1px solid #e5e7eb}
th:first-child,td:first-child{text-align:left}
tr.model{font-weight:600;background:#eef6fa}figure{display:inline-block;margin:1rem 1rem 1rem 0;vertical-align:top}
figcaption{max-width:32rem;color:#4b5563}svg text{font:11px system-ui,sans-serif;fill:#374151}svg .axis{fill:#111827}
.note{color:#4b5563;max-width:60rem}
"""


_OF_POINTS = ("nrmse", "nmae", "nmbe", "mase")


def cell(row: Row, column: str) -> str:
    """One figure as text."""
    value = getattr(row, column)
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def text(groups: Sequence[Group]) -> str:
    """The tables for a terminal."""
    blocks = []
    for group in groups:
        rows = [list(COLUMNS.values()), *([cell(row, column) for column in COLUMNS] for row in group.rows)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
        lines = [
            "  ".join(
                part.ljust(width) if i == 0 else part.rjust(width)
                for i, (part, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        blocks.append("\n".join([f"{group.name}: {group.meters} meters, {group.windows:,} forecasts", *lines]))
    return "\n\n".join(blocks)


def as_json(facts: Mapping[str, Any], groups: Sequence[Group], sets: Sequence[Judged]) -> dict[str, Any]:
    """Everything for a program; what a meter lacks is null."""
    whole = {**facts, "groups": [asdict(group) for group in groups], "meters": meter_rows(sets)}
    return {name: _plain(value) for name, value in whole.items()}


def meter_rows(sets: Sequence[Judged]) -> list[dict[str, Any]]:
    """Figures of each meter, of every forecast; quantiles' figures only of those that have quantiles."""
    rows = []
    for judged in sets:
        figures = {name: judged.figures(name) for name in judged.sums}
        for i, meter in enumerate(judged.names):
            if not judged.sums[MODEL].load[i] > 0:
                continue
            row: dict[str, Any] = {"meter": meter, "step_s": judged.step_s}
            for name, found in figures.items():
                own = (
                    vars(found) if name in judged.banded else {k: v for k, v in vars(found).items() if k in _OF_POINTS}
                )
                row[name] = {key: round(float(values[i]), 5) for key, values in own.items()}
            row["ratio"] = round(float(_ratio(judged)[i]), 4)
            row["ashrae"] = bool(figures[MODEL].ashrae_passes()[i])
            rows.append(row)
    return rows


def page(
    facts: Mapping[str, Any], groups: Sequence[Group], sets: Sequence[Judged], unseen: frozenset[str] | None = None
) -> str:
    """The report as one HTML file that needs nothing else; `unseen`: meters that training did not see, if known."""
    names = [name for name in (MODEL, CALIBRATED) if name in sets[0].sums]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Backtest</title>',
        f"<style>{STYLE}</style></head><body><h1>Backtest of {escape(str(facts['model_id']))}</h1>",
        f'<p class="note">{escape(_period(sets))} {escape(LEGEND)}</p>',
        *(_group(group) for group in groups),
        "<h2>Figures</h2>",
        _figure(
            svg.bars({row.forecaster: row.nrmse for row in groups[0].rows}, f"NRMSE, {groups[0].name}"),
            "NRMSE of each forecast; lower is better.",
        ),
        _figure(_by_lead(sets), "Root mean squared error by hours ahead, over the mean load, all meters together."),
        _figure(_ratios(sets), "Each meter's NRMSE over that of mean(day, week); below the line the model is better."),
        _figure(
            _reliability(sets, names), "Share of steps that came no higher than each quantile; on the line it is right."
        ),
        _figure(
            _coverage(sets, names), "Share of steps within the 80% band, a dot each meter; the line is what it says."
        ),
        "<h2>Meters</h2>",
        _meters(sets, unseen),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _group(group: Group) -> str:
    head = "".join(f"<th>{escape(title)}</th>" for title in COLUMNS.values())
    rows = "".join(
        f'<tr class="{"model" if row.forecaster == MODEL else ""}">'
        + "".join(f"<td>{escape(cell(row, column))}</td>" for column in COLUMNS)
        + "</tr>"
        for row in group.rows
    )
    title = f"{group.name}: {group.meters} meters, {group.windows:,} forecasts"
    return f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{rows}</table>"


def _figure(drawing: str, caption: str) -> str:
    return f"<figure>{drawing}<figcaption>{escape(caption)}</figcaption></figure>"


def _by_lead(sets: Sequence[Judged]) -> str:
    curves = {}
    for name in (MODEL, REFERENCE):
        # Each meter in units of its own load, or the largest would be the figure.
        squared, count = np.zeros(HORIZON_HOURS), np.zeros(HORIZON_HOURS)
        for judged in sets:
            sums = judged.sums[name]
            used = sums.load > 0
            load = (sums.load / np.maximum(sums.count, 1))[used, None]
            squared += (sums.lead_squared[used] / load**2).sum(axis=0)
            count += sums.lead_count[used].sum(axis=0)
        error = np.sqrt(squared / np.maximum(count, 1))
        curves[name] = [(hour + 1.0, float(value)) for hour, value in enumerate(error)]
    return svg.lines(curves, "hours ahead", "error / load")


def _ratios(sets: Sequence[Judged]) -> str:
    found: list[float] = []
    for judged in sets:
        ratio = _ratio(judged)
        found += ratio[np.isfinite(ratio)].tolist()
    return svg.dots({MODEL: found}, "meters, best first", "ratio", line_at=1.0)


def _ratio(judged: Judged) -> NDArray[np.float64]:
    """NRMSE of the model over that of mean(day, week), NaN where that makes no error."""
    reference = judged.figures(REFERENCE).nrmse
    return np.asarray(judged.figures(MODEL).nrmse / np.where(reference > 0, reference, np.nan))


def _reliability(sets: Sequence[Judged], names: Sequence[str]) -> str:
    curves = {}
    for name in names:
        below = sum(judged.sums[name].below.sum(axis=0) for judged in sets)
        count = sum(judged.sums[name].count.sum() for judged in sets)
        share = np.asarray(below) / max(float(count), 1.0)
        curves[name] = list(zip(LEVELS.tolist(), share.tolist(), strict=True))
    return svg.lines(curves, "quantile", "share below", diagonal=True)


def _coverage(sets: Sequence[Judged], names: Sequence[str]) -> str:
    groups = {}
    for name in names:
        found = np.concatenate([judged.figures(name).coverage80 for judged in sets])
        groups[name] = found[np.isfinite(found)].tolist()
    return svg.dots(groups, "meters, lowest first", "coverage", line_at=0.8)


def _meters(sets: Sequence[Judged], unseen: frozenset[str] | None) -> str:
    titles = ["meter", "step", "training", "NRMSE", "ratio", "NMAE", "NMBE", "MASE", "wQL", "80% cov.", "80% width"]
    head = "".join(f"<th>{title}</th>" for title in (*titles, "calibrated: cov.", "width", "G14"))
    rows = []
    for row in meter_rows(sets):
        own, corrected = row[MODEL], row.get(CALIBRATED, {})
        figures = [own["nrmse"], row["ratio"], *(own[name] for name in ("nmae", "nmbe", "mase", "wql"))]
        figures += [part.get(name, math.nan) for part in (own, corrected) for name in ("coverage80", "width80")]
        cells = "".join(f"<td>{'-' if math.isnan(value) else f'{value:.3f}'}</td>" for value in figures)
        known = "-" if unseen is None else "unseen" if row["meter"] in unseen else "seen"
        facts = f"<td>{escape(row['meter'])}</td><td>{row['step_s'] // 60} min</td><td>{known}</td>"
        rows.append(f"<tr>{facts}{cells}<td>{'yes' if row['ashrae'] else 'no'}</td></tr>")
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _period(sets: Sequence[Judged]) -> str:
    def day(ms: int) -> str:
        return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")

    first, last = min(judged.first_ms for judged in sets), max(judged.last_ms for judged in sets)
    return f"Forecasts issued from {day(first)} on, judged to {day(last)} (UTC), each from the 168 hours before it."


def _plain(value: Any) -> Any:
    """JSON knows no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value
