"""Demand-response events of a site as constraints over time, and as arrays by step."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.control_lifecycle.dr_book import DrBook
from operators.control_lifecycle.dr_events import KINDS, LIMITS, Message

Floats = NDArray[np.float64]
WHOLE_SITE = ""


@dataclass(frozen=True)
class Segment:
    """One value that holds from `start_ms` until `end_ms` (ms UTC). `asset_id` is empty for the whole site."""

    kind: str
    asset_id: str
    start_ms: int
    end_ms: int
    value: float
    event_id: str


@dataclass(frozen=True)
class SiteConstraints:
    """By step from `start_ms` on, `step_s` each; NaN: no event says anything.

    Limits (kW, 0 or more) are the tightest within the step; prices (currency per kWh), `kg_co2_per_kwh` and
    `dispatch_w` (W, import positive; by asset, or under `""` for the site) are those that hold for most of it.
    """

    start_ms: int
    step_s: int
    import_limit_kw: Floats
    export_limit_kw: Floats
    price: Floats
    export_price: Floats
    kg_co2_per_kwh: Floats
    dispatch_w: dict[str, Floats]
    event_ids: tuple[str, ...]


def segments(
    book: DrBook, site_id: str, from_ms: int, to_ms: int, *, assets: Sequence[str] = (), groups: Sequence[str] = ()
) -> list[Segment]:
    """What holds for a site between two times, without overlaps within a kind and asset, ordered by both and time.

    Where events overlap, the one with the higher priority (the lower number) holds; of equal ones the tightest limit,
    and for other kinds the later version. An event concerns the site when it names no target, the site, one of its
    `groups`, or one of its `assets`; a dispatch that names assets is theirs, any other the site's.

    Args:
        book: what is known.
        site_id: site.
        from_ms, to_ms: ms UTC, the second not included.
        assets: the site's assets.
        groups: other names by which events reach it.
    """
    found: list[Segment] = []
    candidates = _candidates(book, site_id, assets, groups)
    for kind, asset in sorted({(c[0], c[1]) for c in candidates}):
        mine = [c for c in candidates if c[0] == kind and c[1] == asset]
        words = {event["id"]: book.words(event, site_id) for _, _, _, _, _, event in mine}
        cuts = {from_ms, to_ms, *(at for said in words.values() for at, _ in said)}
        for _, _, start, end, _, _ in mine:
            cuts.update((start, end))
        for start, end in pairwise(sorted(t for t in cuts if from_ms <= t <= to_ms)):
            active = [
                (value, event)
                for _, _, begin, until, value, event in mine
                if begin <= start < until and not _out(words[event["id"]], start)
            ]
            if active:
                value, event = min(active, key=lambda a: _rank(kind, *a))
                _append(found, Segment(kind, asset, start, end, value, event["id"]))
    return found


def constraints(
    book: DrBook,
    site_id: str,
    start_ms: int,
    step_s: int,
    steps: int,
    *,
    assets: Sequence[str] = (),
    groups: Sequence[str] = (),
) -> SiteConstraints:
    """`segments` as arrays of `steps` values."""
    step_ms = step_s * 1000
    held = segments(book, site_id, start_ms, start_ms + steps * step_ms, assets=assets, groups=groups)
    arrays: dict[tuple[str, str], Floats] = {(kind, WHOLE_SITE): _empty(steps) for kind in KINDS.values()}
    longest: dict[tuple[str, str], Floats] = {}
    for s in held:
        key = (s.kind, s.asset_id)
        values = arrays.setdefault(key, _empty(steps))
        most = longest.setdefault(key, np.zeros(steps))
        first, last = (s.start_ms - start_ms) // step_ms, (s.end_ms - 1 - start_ms) // step_ms
        for i in range(first, last + 1):
            begin = start_ms + i * step_ms
            overlap = min(s.end_ms, begin + step_ms) - max(s.start_ms, begin)
            if s.kind in LIMITS:
                values[i] = np.fmin(values[i], s.value)
            elif overlap > most[i]:
                values[i], most[i] = s.value, overlap
    site = {kind: arrays[kind, WHOLE_SITE] for kind in KINDS.values() if kind != "dispatch_w"}
    dispatch = {asset: v for (kind, asset), v in arrays.items() if kind == "dispatch_w" and not np.isnan(v).all()}
    return SiteConstraints(
        start_ms, step_s, dispatch_w=dispatch, event_ids=tuple(sorted({s.event_id for s in held})), **site
    )


def _empty(steps: int) -> Floats:
    return np.full(steps, np.nan)


def _candidates(
    book: DrBook, site_id: str, assets: Sequence[str], groups: Sequence[str]
) -> list[tuple[str, str, int, int, float, Message]]:
    """Kind, asset, start, end, value and event of every interval that concerns the site."""
    found = []
    for event in book.events():
        targets = set(event["targets"])
        named = sorted(targets.intersection(assets))
        if targets and not named and not targets.intersection((site_id, *groups)):
            continue
        shift = _shift(event, site_id)
        for interval in event["intervals"]:
            start, end = interval["start_ms"] + shift, interval["end_ms"] + shift
            for kind, value in interval["values"].items():
                receivers = named if kind == "dispatch_w" and named else [WHOLE_SITE]
                found += [(kind, asset, start, end, float(value), event) for asset in receivers]
    return found


def _out(words: list[tuple[int, bool]], at_ms: int) -> bool:
    """The site's last word on an event by then."""
    said = [out for at, out in words if at <= at_ms]
    return bool(said) and said[-1]


def _shift(event: Message, site_id: str) -> int:
    """The site's own part of `randomizeStart`, ms: spread over the sites, and the same in every run."""
    if not event["randomize_ms"]:
        return 0
    digest = hashlib.sha256(f"{event['id']}/{site_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % int(event["randomize_ms"])


def _rank(kind: str, value: float, event: Message) -> tuple[Any, ...]:
    number, modified, content = event["version"]
    # Of equals the tightest limit; else the later version: numbers are negated, the content only has to be definite.
    return event["priority"], value if kind in LIMITS else 0.0, -modified, -number, content


def _append(found: list[Segment], new: Segment) -> None:
    """Joined to the one before it when that says the same."""
    last = found[-1] if found else None
    same = last is not None and (last.kind, last.asset_id, last.value, last.event_id, last.end_ms) == (
        new.kind,
        new.asset_id,
        new.value,
        new.event_id,
        new.start_ms,
    )
    if last is not None and same:
        found[-1] = Segment(new.kind, new.asset_id, last.start_ms, new.end_ms, new.value, new.event_id)
    else:
        found.append(new)
