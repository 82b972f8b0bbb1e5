"""Small charts as SVG text, for reports that are one file and need no library where they are read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 60, 14, 14, 58
COLOURS = ("#0b6e99", "#c2571a", "#6b7280", "#5b8c3e", "#8a4fa3")

Points = Sequence[tuple[float, float]]


def lines(curves: Mapping[str, Points], x_label: str, y_label: str, *, diagonal: bool = False) -> str:
    """Curves in one frame, each with its name in the legend; the vertical axis begins at 0."""
    xs = [x for points in curves.values() for x, _ in points]
    ys = [y for points in curves.values() for _, y in points]
    frame = _Frame((min(xs), max(xs)), (0.0, max([*ys, 1e-9])), x_label, y_label)
    marks = []
    if diagonal:
        low, high = frame.x_range
        marks.append(frame.path([(low, low), (high, high)], "#9ca3af", dashed=True))
    for (_, points), colour in zip(curves.items(), _cycle(len(curves)), strict=True):
        marks.append(frame.path(points, colour))
    return frame.drawn(marks, list(curves))


def dots(groups: Mapping[str, Sequence[float]], x_label: str, y_label: str, *, line_at: float | None = None) -> str:
    """Values of each group in ascending order, a dot each; and a dashed line."""
    most = max([len(values) for values in groups.values()] + [1])
    highest = max([value for values in groups.values() for value in values] + [line_at or 0.0, 1e-9])
    frame = _Frame((0.5, most + 0.5), (0.0, highest), x_label, y_label)
    marks = []
    if line_at is not None:
        marks.append(frame.path([(0.5, line_at), (most + 0.5, line_at)], "#9ca3af", dashed=True))
    for values, colour in zip(groups.values(), _cycle(len(groups)), strict=True):
        for i, value in enumerate(sorted(values)):
            x, y = frame.place(1 + i * (most - 1) / max(len(values) - 1, 1), value)
            marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}"/>')
    return frame.drawn(marks, list(groups))


def bars(values: Mapping[str, float], label: str) -> str:
    """A horizontal bar a name, with its value."""
    row, left = 26, 170
    height = row * len(values) + 34
    highest = max([*values.values(), 1e-9])
    parts = []
    for i, (name, value) in enumerate(values.items()):
        y = 6 + i * row
        length = (WIDTH - left - 60) * value / highest
        colour = COLOURS[0] if name.startswith("model") else "#9ca3af"
        parts.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{length:.1f}" height="20" fill="{colour}"/>')
        parts.append(f'<text x="{left + length + 6:.1f}" y="{y + 15}">{value:.3f}</text>')
    parts.append(f'<text x="{left}" y="{height - 8}" class="axis">{escape(label)}</text>')
    return _svg(parts, height)


class _Frame:
    """Axes of a chart."""

    def __init__(self, x_range: tuple[float, float], y_range: tuple[float, float], x_label: str, y_label: str) -> None:
        self.x_range, self.y_range = _wide(x_range), _wide(y_range)
        self.labels = (x_label, y_label)

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point lies on the paper."""
        (x0, x1), (y0, y1) = self.x_range, self.y_range
        across = LEFT + (x - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
        up = HEIGHT - BOTTOM - (y - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)
        return across, up

    def path(self, points: Points, colour: str, *, dashed: bool = False) -> str:
        """A curve."""
        text = " ".join("{:.1f},{:.1f}".format(*self.place(x, y)) for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        return f'<polyline points="{text}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'

    def drawn(self, marks: list[str], names: list[str]) -> str:
        """The chart with axes, ticks and legend."""
        parts = []
        for y in _ticks(*self.y_range):
            _, up = self.place(self.x_range[0], y)
            parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up:.1f}" y2="{up:.1f}" stroke="#e5e7eb"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{up + 4:.1f}" text-anchor="end">{y:g}</text>')
        for x in _ticks(*self.x_range):
            across, _ = self.place(x, self.y_range[0])
            parts.append(f'<text x="{across:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x:g}</text>')
        middle = (TOP + HEIGHT - BOTTOM) / 2
        parts += marks
        parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 24}" text-anchor="middle" class="axis">')
        parts.append(f"{escape(self.labels[0])}</text>")
        parts.append(f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle" class="axis">')
        parts.append(f"{escape(self.labels[1])}</text>")
        for i, (name, colour) in enumerate(zip(names, _cycle(len(names)), strict=True)):
            x = LEFT + i * (WIDTH - LEFT) / max(len(names), 1)
            parts.append(f'<rect x="{x:.0f}" y="{HEIGHT - 14}" width="10" height="10" fill="{colour}"/>')
            parts.append(f'<text x="{x + 14:.0f}" y="{HEIGHT - 5}">{escape(name)}</text>')
        return _svg(parts, HEIGHT)


def _wide(pair: tuple[float, float]) -> tuple[float, float]:
    low, high = pair
    return (low, high) if high > low else (low, low + 1.0)


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers within a range."""
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * min((size for size in (1, 2, 5, 10) if size * unit >= rough), default=10)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _cycle(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _svg(parts: list[str], height: int) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">{"".join(parts)}</svg>'
