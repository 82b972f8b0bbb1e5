"""What the benchmark says: a table for people, one JSON line for programs, tables and charts for the documentation."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from tests.bench.sample import Summary

OTHERS, OWN = "#2a78d6", "#d9534f"
BEGIN, END = "<!-- made by `make bench`: begin -->", "<!-- end -->"


@dataclass(frozen=True)
class Workload:
    """All that is known of one workload's runs."""

    title: str
    unit: str
    summaries: Sequence[Summary]
    titles: Mapping[str, str]
    """By engine."""

    @property
    def fastest_first(self) -> list[Summary]:
        return sorted(self.summaries, key=lambda summary: -(summary.rate or 0))


def table(workload: Workload) -> Table:
    """A workload's table, the fastest engine first."""
    shown = Table(title=workload.title, title_justify="left")
    shown.add_column("engine")
    for name in (f"{workload.unit}/s", "lowest–highest", "CPU s/M readings", "peak MB", "start s", "runs"):
        shown.add_column(name, justify="right")
    shown.add_column("complete")
    for each in workload.fastest_first:
        shown.add_row(
            workload.titles[each.engine],
            _number(each.rate),
            f"{_number(each.lowest)}–{_number(each.highest)}" if each.runs else "",
            _number(each.cpu_per_million, 1),
            _number(each.peak_mb),
            _number(each.startup_s, 1),
            f"{each.runs}" + (f", {each.failed} failed" if each.failed else ""),
            "yes" if each.complete else "NO",
        )
    return shown


def _number(value: float | None, places: int = 0) -> str:
    return "" if value is None else f"{value:,.{places}f}"


def result(workloads: Mapping[str, Workload]) -> dict[str, Any]:
    """The JSON object: rates by workload and engine (null: failed), and whether no result of any was missing."""
    rates = {
        name: {each.engine: None if each.rate is None else round(each.rate, 1) for each in workload.summaries}
        for name, workload in workloads.items()
    }
    everything = [each.complete for workload in workloads.values() for each in workload.summaries]
    return {**rates, "complete": bool(everything) and all(everything)}


def write_docs(docs: Path, workloads: Mapping[str, Workload], command: str) -> None:
    """Puts the tables between the marks of benchmarks.md, and the charts and all figures beside it."""
    parts = [f"Made by `{command}` on {machine()}."]
    for name, workload in workloads.items():
        (docs / "figures" / f"bench-{name}.svg").write_text(chart(workload), encoding="utf-8")
        parts.append(f"### {workload.title}\n\n![{workload.title}](figures/bench-{name}.svg)\n\n{markdown(workload)}")
    page = docs / "benchmarks.md"
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n" + "\n\n".join(parts) + f"\n{END}{after}", encoding="utf-8")
    figures = {name: [vars(each) for each in workload.summaries] for name, workload in workloads.items()}
    everything = {"command": command, "machine": machine(), **figures}
    (docs / "figures" / "bench.json").write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")


def machine() -> str:
    """Cores, processor and memory."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = psutil.virtual_memory().total / 1e9
    return f"{psutil.cpu_count()} cores ({names[0] if names else platform.machine()}), {memory:.0f} GB"


def markdown(workload: Workload) -> str:
    """The table of a workload for the documentation."""
    lines = [f"| engine | {workload.unit}/s (lowest–highest) | CPU s a million readings | peak MB | complete |"]
    lines.append("|---|---|---|---|---|")
    for each in workload.fastest_first:
        rate = f"{_number(each.rate)} ({_number(each.lowest)}–{_number(each.highest)})" if each.runs else "failed"
        cells = (workload.titles[each.engine], rate, _number(each.cpu_per_million, 1), _number(each.peak_mb))
        lines.append("| " + " | ".join([*cells, "yes" if each.complete else "no"]) + " |")
    return "\n".join(lines)


def chart(workload: Workload) -> str:
    """Bars of the rates, as SVG."""
    shown = [each for each in workload.fastest_first if each.rate]
    left, width, height, gap = 270, 440, 22, 10
    top = max((each.rate or 1.0 for each in shown), default=1.0)
    rows = []
    for place, each in enumerate(shown):
        y = 44 + place * (height + gap)
        length = max(1.0, width * (each.rate or 0.0) / top)
        colour = OWN if each.engine == "energyai" else OTHERS
        rows.append(
            f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{workload.titles[each.engine]}</text>'
            f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{height}" fill="{colour}"/>'
            f'<text x="{left + length + 6:.1f}" y="{y + 15}">{_number(each.rate)}</text>'
        )
    size = f'width="{left + width + 90}" height="{60 + len(shown) * (height + gap)}"'
    head = f'<text x="8" y="22" font-size="15">{workload.title}: {workload.unit} a second</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12" fill="#222">\n'
        '<rect width="100%" height="100%" fill="white"/>\n' + "\n".join([head, *rows]) + "\n</svg>\n"
    )


def say(console: Console, text: str) -> None:
    """A line of progress."""
    console.print(text, highlight=False, soft_wrap=True)
