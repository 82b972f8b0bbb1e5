"""The devices of a simulated site: they follow commands, count what they got, and keep a record for the checker."""

from __future__ import annotations

from dataclasses import dataclass, field

from operators.control import checker
from operators.control.devices import advance
from operators.control.plan import spec_of
from operators.control.site import BATTERY, Asset, Site, Window
from operators.control.state import AssetState

ON_KW = 1e-6


@dataclass
class Device:
    """One device as it runs."""

    asset: Asset
    windows: list[Window]
    """All its needs of the simulated time, in order."""
    power_kw: float = 0.0
    content_kwh: float = 0.0
    done_kwh: float = 0.0
    same_for_s: float = float("inf")
    missed_kwh: float = 0.0
    through_kwh: float = 0.0
    powers: list[float] = field(default_factory=list)
    means: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    _next: int = 0

    def window(self, time_ms: int) -> Window | None:
        """The need that is running; what was missed of those that ended is counted."""
        while self._next < len(self.windows) and self.windows[self._next].end_ms <= time_ms:
            missed = self.windows[self._next].kwh - self.done_kwh
            self.missed_kwh += missed if missed > self.asset.crumb_kwh else 0.0
            self.done_kwh = 0.0
            self._next += 1
        running = self._next < len(self.windows) and self.windows[self._next].start_ms <= time_ms
        return self.windows[self._next] if running else None

    def run(self, command_kw: float, seconds: float) -> float:
        """Follows a command; returns the mean power."""
        moved = advance(self.asset, self.content_kwh, self.power_kw, command_kw, seconds)
        was, now = self.power_kw > ON_KW, moved.power_kw > ON_KW
        self.same_for_s = seconds if was != now else self.same_for_s + seconds
        self.power_kw, self.content_kwh = moved.power_kw, moved.content_kwh
        kwh = moved.mean_kw * seconds / 3600
        self.done_kwh += kwh
        self.through_kwh += abs(kwh)
        for power, mean, part_s in moved.pieces:
            self.powers.append(power)
            self.means.append(mean)
            self.seconds.append(part_s)
        return moved.mean_kw

    def state(self) -> AssetState:
        """As it reports itself."""
        return AssetState(
            power_kw=self.power_kw,
            content_kwh=self.content_kwh if self.asset.kind == BATTERY else None,
            done_kwh=self.done_kwh,
            same_for_s=self.same_for_s,
        )

    def violations(self) -> list[checker.Violation]:
        """What the independent checker finds in the whole record."""
        return checker.check_device(
            spec_of(self.asset),
            self.powers,
            self.seconds,
            content_kwh=self.asset.initial_kwh,
            mean_kw=self.means,
        )


def devices(site: Site, start_ms: int, end_ms: int) -> dict[str, Device]:
    """A site's devices at rest at the beginning of a simulated time."""
    return {
        asset.asset_id: Device(asset, asset.windows(start_ms, end_ms, site.tz), content_kwh=asset.initial_kwh)
        for asset in site.assets
    }
