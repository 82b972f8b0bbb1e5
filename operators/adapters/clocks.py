"""Wall-clock times of devices into UTC, the hour that occurs twice included."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo


class LocalClock:
    """Time stamps of one zone without an offset, in the order in which they were written.

    Of the two meanings in the hour that occurs twice, the first is taken until the clock of the same device goes back.
    """

    def __init__(self, tz: str, *, repeats_go_on: bool = False) -> None:
        """`tz`: an IANA name. `repeats_go_on`: a stamp that comes again is a later one (tables of intervals).

        Raises:
            ValueError: no such zone.
        """
        try:
            self.zone = ZoneInfo(tz)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"no time zone {tz!r}") from error
        self._repeats_go_on = repeats_go_on
        self._last: dict[str, int] = {}

    def utc_ms(self, device: str, wall: datetime) -> int:
        """Epoch milliseconds of `wall` (without an offset) on the clock of `device`.

        Raises:
            ValueError: a time that the zone skips.
        """
        first, second = (_ms(wall.replace(tzinfo=self.zone, fold=fold)) for fold in (0, 1))
        found = first
        if first != second:
            if not self._exists(wall, first):
                raise ValueError(f"{wall.isoformat()} is a time that {self.zone.key} skips")
            last = self._last.get(device)
            if last is not None and (first < last or (self._repeats_go_on and first == last)):
                found = second
        self._last[device] = found
        return found

    def _exists(self, wall: datetime, utc_ms: int) -> bool:
        return datetime.fromtimestamp(utc_ms / 1000, self.zone).replace(tzinfo=None, fold=0) == wall


def _ms(stamp: datetime) -> int:
    return (stamp.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


@lru_cache(maxsize=512)
def offsets(tz: str, year: int) -> tuple[timedelta, timedelta]:
    """A zone's offsets from UTC in winter (standard) and in summer of that year, southern or northern."""
    zone = ZoneInfo(tz)
    both = [datetime(year, month, 1, tzinfo=zone).utcoffset() or timedelta() for month in (1, 7)]
    return min(both), max(both)


def flagged_ms(wall: datetime, summer: bool, tz: str) -> int:
    """Epoch milliseconds of a wall time that says whether it is summer time: exact in the hour that occurs twice."""
    return _ms((wall - offsets(tz, wall.year)[summer]).replace(tzinfo=UTC))


def iso_ms(text: str, clock: LocalClock, device: str) -> int:
    """Epoch milliseconds of ISO-8601 text, with an offset or on `device`'s clock.

    Raises:
        ValueError: no such time, or one that the zone skips.
    """
    try:
        stamp = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} is no ISO-8601 time") from error
    try:
        return clock.utc_ms(device, stamp) if stamp.tzinfo is None else _ms(stamp)
    except OverflowError as error:
        raise ValueError(f"{text[:40]!r} is out of range") from error
