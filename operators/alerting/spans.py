"""Spans of time: where enough meters are affected at once, and where an alert is not told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Span = tuple[int, int | None]
"""Start and end, epoch ms; None: it goes on."""


def merged(spans: Iterable[Span]) -> list[Span]:
    """The union, by start.

    >>> merged([(5, 9), (0, 3), (3, 6), (20, None), (30, 40)])
    [(0, 9), (20, None)]
    """
    out: list[Span] = []
    for start, end in sorted(spans, key=lambda s: s[0]):
        if out and (out[-1][1] is None or start <= out[-1][1]):
            last = out[-1][1]
            out[-1] = (out[-1][0], None if last is None or end is None else max(last, end))
        else:
            out.append((start, end))
    return out


def where_at_least(members: Sequence[Sequence[Span]], least: int) -> list[Span]:
    """Where at least `least` of the members have a span.

    Args:
        members: the spans of each, merged.
        least: how many, at least 1.

    >>> where_at_least([[(0, 10)], [(5, None)], [(7, 20)]], 2)
    [(5, 20)]
    """
    changes = [(start, 1) for spans in members for start, _ in spans]
    changes += [(end, -1) for spans in members for _, end in spans if end is not None]
    out: list[Span] = []
    count, begun = 0, 0
    # At one moment beginnings come first: who ends where another begins makes no gap.
    for at, change in sorted(changes, key=lambda c: (c[0], -c[1])):
        before, count = count, count + change
        if before < least <= count:
            begun = at
        elif count < least <= before:
            out.append((begun, at))
    if count >= least:
        out.append((begun, None))
    return merged(out)


def first_outside(spans: Sequence[Span], from_ms: int) -> int | None:
    """The first moment from `from_ms` on that is in none of the merged spans; None: there is none yet.

    >>> first_outside([(0, 5), (7, None)], 3), first_outside([(0, 5), (7, None)], 8)
    (5, None)
    """
    at = from_ms
    for start, end in spans:
        if start <= at and (end is None or at < end):
            if end is None:
                return None
            at = end
    return at
