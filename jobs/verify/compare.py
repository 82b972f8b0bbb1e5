"""Two databases' rows side by side, in the order of their keys: pure, and in memory that does not grow with them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = tuple[Any, ...]
EXAMPLES = 5
LEAST = 1e-3
"""Below this (kWh, kW) numbers are compared as if they were as great: 1 Wh."""


@dataclass(frozen=True)
class Table:
    """What is compared of a table or view; a row is its key's columns, then its values'."""

    name: str
    key: tuple[str, ...]
    values: tuple[str, ...]
    tolerance: Mapping[str, float] = field(default_factory=dict)
    """Columns of numbers that need not be equal to the last bit: the largest relative difference. An array, as
    PostgreSQL's text, is measured by its greatest number."""
    expressions: Mapping[str, str] = field(default_factory=dict)
    """SQL of columns that are read another way than by their name."""
    page: int = 10_000
    """Rows that are read at once."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names, in the order of a row."""
        return (*self.key, *self.values)


@dataclass
class Tally:
    """What a comparison found; `first` are the first rows that differ."""

    production: int = 0
    replay: int = 0
    missing: int = 0
    """Rows of production that the replay has not."""
    extra: int = 0
    """Rows of the replay that production has not."""
    different: int = 0
    left_out: int = 0
    """Rows that may differ, for a reason that is known."""
    largest: float = 0.0
    """The largest relative difference of a number in rows that are on both sides."""
    first: list[dict[str, Any]] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not (self.missing or self.extra or self.different)

    def note(self, table: Table, what: str, key: Row, columns: Mapping[str, Sequence[Any]] | None = None) -> None:
        """Counts a row that differs, and keeps it when it is among the first."""
        setattr(self, what, getattr(self, what) + 1)
        if len(self.first) < EXAMPLES:
            shown = {name: [_shown(side) for side in sides] for name, sides in (columns or {}).items()}
            self.first.append(
                {"what": what, "key": dict(zip(table.key, map(_shown, key), strict=True)), "columns": shown}
            )


def paired(left: Iterable[Row], right: Iterable[Row], key_length: int) -> Iterator[tuple[Row | None, Row | None]]:
    """Rows of equal key together, a row alone where the other side has none; both sides sorted by key, each key once.

    >>> list(paired([(1, "a"), (2, "b")], [(2, "c"), (3, "d")], 1))
    [((1, 'a'), None), ((2, 'b'), (2, 'c')), (None, (3, 'd'))]
    """
    lefts, rights = iter(left), iter(right)
    a, b = next(lefts, None), next(rights, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a[:key_length] < b[:key_length]):
            yield a, None
            a = next(lefts, None)
        elif a is None or b[:key_length] < a[:key_length]:
            yield None, b
            b = next(rights, None)
        else:
            yield a, b
            a, b = next(lefts, None), next(rights, None)


def differences(table: Table, left: Row, right: Row) -> tuple[dict[str, tuple[Any, Any]], float]:
    """The columns of two rows of one key that differ by more than is allowed, and the largest relative difference."""
    found: dict[str, tuple[Any, Any]] = {}
    largest = 0.0
    start = len(table.key)
    for name, a, b in zip(table.values, left[start:], right[start:], strict=True):
        if a == b:
            continue
        allowed = table.tolerance.get(name)
        by = math.inf if allowed is None else relative(a, b)
        if allowed is None or not by <= allowed:
            found[name] = (a, b)
        if allowed is not None:
            largest = max(largest, by)
    return found, largest


def relative(a: Any, b: Any) -> float:
    """How far two numbers are apart, as a share of the greater; of arrays, of their greatest number.

    >>> relative(100.0, 101.0) == 1 / 101
    True
    >>> relative("{1,2}", "{1,4}")
    0.5
    >>> relative(None, 1.0)
    inf
    """
    if a is None or b is None:
        return math.inf
    left, right = _numbers(a), _numbers(b)
    if len(left) != len(right):
        return math.inf
    greatest = max((abs(value) for value in (*left, *right)), default=0.0)
    by = max((abs(x - y) for x, y in zip(left, right, strict=True)), default=0.0)
    return by / max(greatest, LEAST) if math.isfinite(by) else math.inf


def _numbers(value: Any) -> list[float]:
    if isinstance(value, str):
        inside = value.strip("{}")
        return [float(text) for text in inside.split(",")] if inside else []
    return [float(value)]


def _shown(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return text if len(text) <= 120 else text[:117] + "…"
