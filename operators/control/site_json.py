"""Sites from the messages of topic `sites`.

What a message leaves out has a default that is safe or usual; what contradicts itself is refused, all of it at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any
from zoneinfo import ZoneInfo

from operators.control.clock import minute_of_day, weekdays
from operators.control.site import (
    BATTERY,
    DEFAULT_SHED_COST,
    EV,
    FAILSAFE_MIN_S,
    KINDS,
    LIMIT_QUANTILE,
    Asset,
    Need,
    Site,
)
from operators.control.tariff import Tariff, TariffError

DEFAULT_EFFICIENCY = 0.9
"""Of a battery's full cycle."""


class SiteError(ValueError):
    """A site that cannot be controlled as it is described; one line with every problem and what to do."""


def read_site(raw: Mapping[str, Any]) -> Site:
    """A site from one message of topic `sites`.

    Args:
        raw: the decoded JSON; an asset's further keys may stand beside the others or under `settings`.

    Raises:
        SiteError: with all the problems.
    """
    problems: list[str] = []
    notes: list[str] = []
    read = _Reader("site", raw, problems)
    tz = str(raw.get("tz") or "UTC")
    try:
        ZoneInfo(tz)
    except (KeyError, ValueError, OSError):
        problems.append(f"tz: no time zone {tz!r}: use an IANA name such as Europe/Berlin")
    tariff = Tariff()
    try:
        value = raw.get("tariff")
        if value is not None and not isinstance(value, Mapping):
            raise TariffError(f"tariff: {value!r} is not an object of keys and values")
        tariff = Tariff.read(value)
    except TariffError as error:
        problems.append(str(error))
    entries = [] if raw.get("assets") is None else raw["assets"]
    if not isinstance(entries, list):
        problems.append("assets: expected a list")
        entries = []
    assets = tuple(_assets(entries, tariff, problems, notes))
    limit = read.number("limit_kw", low=0.0)
    export = read.number("export_limit_kw", low=0.0)
    quantile = read.number("limit_quantile", default=LIMIT_QUANTILE, low=0.1, high=0.9)
    failsafe = read.number("failsafe_min_s", default=FAILSAFE_MIN_S, low=0.0, high=86_400.0)
    mode = str(raw.get("mode") or "shadow")
    if mode not in ("shadow", "live"):
        problems.append(f"mode: {mode!r}: use shadow or live")
    if problems:
        raise SiteError("; ".join(problems))
    name, tenant = str(raw.get("site_id") or "default"), str(raw.get("tenant_id") or "default")
    return Site(
        name,
        tz,
        limit,
        tariff,
        assets,
        mode,
        export,
        LIMIT_QUANTILE if quantile is None else quantile,
        FAILSAFE_MIN_S if failsafe is None else failsafe,
        tenant,
        (*tariff.notes, *notes),
    )


class _Reader:
    """Numbers of one object; problems are collected, with the object's name."""

    def __init__(self, where: str, raw: Mapping[str, Any], problems: list[str]) -> None:
        self.where, self.problems = where, problems
        settings = raw.get("settings")
        self.raw = {**raw, **settings} if isinstance(settings, Mapping) else dict(raw)

    def number(
        self, *names: str, default: float | None = None, low: float = -math.inf, high: float = math.inf
    ) -> float | None:
        """The first of these keys that is there, when it is a finite number in the bounds."""
        for name in names:
            value = self.raw.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                self.problems.append(f"{self.where}: {name}: {value!r} is no number: write a finite one")
            elif not low <= value <= high:
                self.problems.append(f"{self.where}: {name}: {value:g} is outside {low:g} to {high:g}: correct it")
            else:
                return float(value)
            return default
        return default


def _assets(entries: list[Any], tariff: Tariff, problems: list[str], notes: list[str]) -> Iterator[Asset]:
    seen: set[str] = set()
    for number, raw in enumerate(entries, 1):
        if not isinstance(raw, Mapping):
            problems.append(f"assets, entry {number}: expected an object with asset_id and type")
            continue
        name = str(raw.get("asset_id") or "")
        kind = str(raw.get("type") or "")
        if not name or name in seen or kind not in KINDS:
            what = (
                "asset_id is missing" if not name else "asset_id is there twice" if name in seen else f"type {kind!r}"
            )
            problems.append(f"assets, entry {number}: {what}: give each its own asset_id, and type {', '.join(KINDS)}")
            continue
        seen.add(name)
        asset = _asset(name, kind, _Reader(f"asset {name}", raw, problems), tariff, notes)
        if asset is not None:
            yield asset


def _asset(name: str, kind: str, read: _Reader, tariff: Tariff, notes: list[str]) -> Asset | None:
    low_w, high_w = read.number("min_w"), read.number("max_w")
    capacity = read.number("capacity_wh", low=0.0)
    ramp = read.number("ramp_w_per_s", low=0.0)
    if high_w is None:
        read.problems.append(f"{read.where}: max_w is missing: write the greatest power, W")
        return None
    if low_w is None:
        low_w = -high_w if kind == BATTERY else 0.0
    if kind != BATTERY and low_w < 0:
        notes.append(f"{read.where}: min_w {low_w:g}: feeding back is for batteries; taken as 0")
        low_w = 0.0
    if low_w > high_w or (kind == BATTERY and (low_w > 0 or high_w < 0)):
        read.problems.append(f"{read.where}: min_w {low_w:g} and max_w {high_w:g} do not fit: correct them")
        return None
    bounds: dict[str, Any] = {"min_kw": low_w / 1000, "max_kw": high_w / 1000}
    common: dict[str, Any] = {
        "ramp_kw_per_s": ramp / 1000 if ramp else None,
        "priority": int(read.number("priority", default=0.0) or 0),
    }
    if kind == BATTERY:
        return _battery(name, read, capacity, tariff, {**bounds, **common})
    needs = _needs(kind, read, capacity)
    run = read.number("min_run_s", default=60 * (read.number("min_run_min", low=0.0) or 0), low=0.0) or 0.0
    rest = read.number("min_rest_s", default=60 * (read.number("min_rest_min", low=0.0) or 0), low=0.0) or 0.0
    switched = run > 0 or rest > 0
    if switched:
        # Off is 0; `min_w` is then the least power while on.
        on = low_w / 1000 if low_w > 0 else high_w / 1000
        bounds["min_kw"] = 0.0
        common |= {"min_run_s": run, "min_rest_s": rest, "on_kw": on}
    cost = read.number("shed_cost_per_kwh", default=DEFAULT_SHED_COST, low=0.0, high=1e4)
    return Asset(name, kind, **bounds, **common, needs=needs, shed_cost=cost or 0.0)


def _battery(
    name: str, read: _Reader, capacity: float | None, tariff: Tariff, common: Mapping[str, Any]
) -> Asset | None:
    if not capacity:
        read.problems.append(f"{read.where}: capacity_wh is missing or 0: write the usable energy, Wh")
        return None
    efficiency = read.number("efficiency", default=DEFAULT_EFFICIENCY, low=0.01, high=1.0) or DEFAULT_EFFICIENCY
    low = read.number("soc_min", "min_soc", default=0.0, low=0.0, high=1.0) or 0.0
    high = read.number("soc_max", "max_soc", default=1.0, low=0.0, high=1.0) or 0.0
    if low >= high:
        read.problems.append(f"{read.where}: soc_min {low:g} is not below soc_max {high:g}: correct them")
        return None
    middle = (low + high) / 2
    initial = read.number("initial_soc", "soc_initial", "soc", default=middle, low=0.0, high=1.0)
    kwh = capacity / 1000
    content = min(max(middle if initial is None else initial, low), high)
    wear = read.number("wear_per_kwh", default=tariff.wear, low=0.0, high=100.0) or 0.0
    return Asset(
        name,
        BATTERY,
        **common,
        capacity_kwh=kwh,
        efficiency=efficiency,
        low_kwh=low * kwh,
        high_kwh=high * kwh,
        initial_kwh=content * kwh,
        wear=wear,
    )


def _needs(kind: str, read: _Reader, capacity: float | None) -> tuple[Need, ...]:
    """From `needs` (or an EV's `sessions`), or one from the asset's own keys, or a usual one from its capacity."""
    raw = read.raw.get("needs", read.raw.get("sessions"))
    entries = raw if isinstance(raw, list) else [read.raw]
    found = []
    for entry in entries:
        if not isinstance(entry, Mapping):
            read.problems.append(f"{read.where}: needs: {entry!r}: write from, to and energy_wh")
            continue
        own = _Reader(read.where, entry, read.problems)
        energy = own.number("energy_wh", "needs_wh", "energy_wh_per_day", "daily_wh", low=0.0)
        kwh = own.number("energy_kwh", "energy_kwh_per_day", "daily_kwh", low=0.0)
        if kwh is None and energy is not None:
            kwh = energy / 1000
        if kwh is None and capacity:
            kwh = capacity / 1000 * (0.5 if kind == EV else 1.0)
        if not kwh:
            continue
        usual = ("18:00", "07:00") if kind == EV else ("00:00", "24:00")
        begin = next((entry[k] for k in ("arrives", "from", "start", "plug_in") if entry.get(k)), usual[0])
        end = next((entry[k] for k in ("ready_by", "ready", "departs", "to", "end") if entry.get(k)), usual[1])
        efficiency = own.number("efficiency", default=read.number("efficiency", default=1.0), low=0.01, high=1.0)
        try:
            span = minute_of_day(str(begin)), minute_of_day(str(end))
            found.append(Need(span[0] % 1440, span[1], weekdays(entry.get("days")), kwh / (efficiency or 1.0)))
        except ValueError as error:
            read.problems.append(f"{read.where}: needs: {error}")
    return tuple(found)
