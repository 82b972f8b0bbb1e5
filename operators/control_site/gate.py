"""The last look at commands before they are sent: the independent checker's, and the site's limit as it stands now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from operators.control import checker
from operators.control.plan import spec_of
from operators.control.site import BATTERY, Asset, Site
from operators.control.state import SiteState


@dataclass(frozen=True)
class Gated:
    """Commands that may be sent, kW by asset, and what was found in those that may not."""

    power_kw: dict[str, float]
    refused: dict[str, tuple[checker.Violation, ...]]


def gate(
    site: Site,
    state: SiteState,
    power_kw: Mapping[str, float],
    hold_s: float,
    slot_kw: float | None,
    grid_kw: float | None,
) -> Gated:
    """Commands that break no bound while they hold, and charge nothing above a limit.

    A device whose command is refused is told to rest, when that at least breaks nothing; else it is told nothing.

    Args:
        site: the site.
        state: its devices, and the grid operator's limit; commands for those that are not available are refused.
        power_kw: commands.
        hold_s: how long each may hold.
        slot_kw: mean import of the quarter hour with these commands; None: not known.
        grid_kw: import of the moment with these commands; None: not known.
    """
    over: list[checker.Violation] = []
    for power, limit in ((slot_kw, site.limit_kw), (grid_kw, state.grid_limit_kw)):
        if power is not None and limit is not None:
            over += checker.check_limit([power], [limit], site.site_id)
    allowed: dict[str, float] = {}
    refused: dict[str, tuple[checker.Violation, ...]] = {}
    for asset in site.assets:
        name = asset.asset_id
        if name not in power_kw:
            continue
        if not state.of(asset).available:
            refused[name] = (checker.Violation("not_available", name, 0, 0.0),)
            continue
        found = _violations(asset, state, power_kw[name], hold_s)
        if asset.kind == BATTERY and power_kw[name] > checker.TOLERANCE_KW:
            found += over
        if not found:
            allowed[name] = power_kw[name]
            continue
        refused[name] = tuple(found)
        if not _violations(asset, state, 0.0, hold_s):
            allowed[name] = 0.0
    return Gated(allowed, refused)


def _violations(asset: Asset, state: SiteState, power_kw: float, hold_s: float) -> list[checker.Violation]:
    own = state.of(asset)
    return checker.check_device(
        spec_of(asset),
        [power_kw],
        [hold_s],
        own.power_kw if own.power_kw is not None else power_kw,
        own.content_kwh if own.content_kwh is not None else asset.low_kwh,
        same_for_s=own.same_for_s,
    )
