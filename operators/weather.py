"""Weather as it was known at a time: what was measured and what was foreseen, each with its time of issue. Pure.

One rule makes a forecaster's inputs of it, in training and in the job: of each hour the newest value that had been
issued by the time of the forecast. So the past is what was measured, as far as that was known, and the day ahead is a
forecast; what was issued later does not count, though it is better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from operators.features import CONTEXT_HOURS, WEATHER_HOURS, WEATHER_VARIABLES
from operators.meters import DEFAULT_SITE

HOUR_MS = 3_600_000
LARGEST = 1e4
"""Beyond this nothing is a temperature in °C or an irradiance in W/m²."""
_ISSUED_BITS = 34
"""Of a key: seconds since 1970 of the issue; the hours since 1970 stand above them."""
_LATEST_MS = 253_402_300_800_000  # the year 10000

Ints = NDArray[np.int64]
Floats32 = NDArray[np.float32]


class WeatherError(ValueError):
    """A message that is no weather; one line, and the code of its reason as of a rejected reading."""

    def __init__(self, detail: str, code: str = "bad_type") -> None:
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True)
class Report:
    """What was said of one hour at one place."""

    site_id: str
    ts_ms: int
    """Start of the hour, epoch ms UTC."""
    issued_ms: int
    """When it was known: of a measurement at the end of its hour, or later."""
    values: tuple[float, ...]
    """By `WEATHER_VARIABLES`; NaN = not said."""
    tenant_id: str = "default"

    @classmethod
    def of_message(cls, value: bytes | None) -> Self:
        """From a message of the topic `weather`.

        Raises:
            WeatherError: it is not one.

        >>> Report.of_message(b'{"site_id":"hq","ts":"2026-01-01T01:00:00+01:00","temperature_c":-3}').issued_ms
        1767229200000
        """
        try:
            fields = orjson.loads(value or b"")
        except orjson.JSONDecodeError as error:
            raise WeatherError("not one JSON object", "not_json") from error
        if not isinstance(fields, dict):
            raise WeatherError("not one JSON object", "not_json")
        site, tenant = fields.get("site_id", DEFAULT_SITE), fields.get("tenant_id", "default")
        if not (isinstance(site, str) and site and isinstance(tenant, str) and tenant):
            raise WeatherError("site_id and tenant_id must be texts")
        if fields.get("ts") is None:
            raise WeatherError("ts is required: the start of the hour", "missing_field")
        ts_ms = _time(fields["ts"], "ts")
        if ts_ms % HOUR_MS:
            raise WeatherError("ts must be the start of an hour", "bad_ts")
        # Nobody knows an hour's mean before it is over: without a time of issue it is a measurement.
        issued = fields.get("issued_at")
        issued_ms = ts_ms + HOUR_MS if issued is None else _time(issued, "issued_at")
        values = tuple(_number(fields.get(name), name) for name in WEATHER_VARIABLES)
        if all(map(math.isnan, values)):
            raise WeatherError(f"says nothing: give {' or '.join(WEATHER_VARIABLES)}", "missing_field")
        return cls(site, ts_ms, issued_ms, values, tenant)


def _time(value: Any, name: str) -> int:
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            at = None
        if at is None or at.tzinfo is None:
            raise WeatherError(f"{name} must be an ISO-8601 time with an offset, or epoch milliseconds", "bad_ts")
        value = round(at.timestamp() * 1000)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LATEST_MS:
        raise WeatherError(f"{name} must be an ISO-8601 time with an offset, or epoch milliseconds", "bad_ts")
    return value


def _number(value: Any, name: str) -> float:
    if value is None:
        return math.nan
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) <= LARGEST:
        raise WeatherError(f"{name} must be a number")
    return float(value)


@dataclass(frozen=True)
class _Place:
    """One variable at one place: keys ascending (hour, then time of issue), and their values."""

    keys: Ints
    values: Floats32

    def at(self, hour: Ints, issued_s: Ints) -> Floats32:
        """The newest value of each hour that was issued by then, NaN where there is none."""
        position = np.searchsorted(self.keys, (hour << _ISSUED_BITS) | issued_s, side="right") - 1
        found = np.maximum(position, 0)
        there = (position >= 0) & (self.keys[found] >> _ISSUED_BITS == hour)
        return np.where(there, self.values[found], np.float32(np.nan))


@dataclass
class Weather:
    """What is known of the weather at some sites. Not thread-safe."""

    _places: dict[str, list[_Place]] = field(default_factory=dict)
    _new: dict[str, list[Report]] = field(default_factory=dict)

    @classmethod
    def of_columns(cls, site: Sequence[str] | NDArray[Any], ts_ms: Ints, issued_ms: Ints, values: NDArray[Any]) -> Self:
        """From n reports in any order.

        Args:
            site: [n] site ids.
            ts_ms: [n] start of the hour, epoch ms UTC.
            issued_ms: [n] time of issue.
            values: [n, 2] by `WEATHER_VARIABLES`, NaN = not said.
        """
        names = np.asarray(site, dtype=np.str_)
        found = cls()
        for name in np.unique(names).tolist():
            rows = names == name
            found._places[name] = _joined([], ts_ms[rows], issued_ms[rows], np.asarray(values[rows], np.float32))
        return found

    def add(self, report: Report) -> None:
        """Takes one more in; order and repeats do not matter."""
        self._new.setdefault(report.site_id, []).append(report)

    def __bool__(self) -> bool:
        return bool(self._places) or bool(self._new)

    @property
    def sites(self) -> list[str]:
        """Of which anything is known."""
        return sorted(self._places.keys() | self._new.keys())

    def known(self, sites: Sequence[str], issued_ms: Ints) -> Floats32:
        """The weather around m times of issue, as it was known then.

        Args:
            sites: [m] site ids.
            issued_ms: [m] times of issue of forecasts, epoch ms UTC.

        Returns:
            [m, 192, 2]: the 168 hours up to the one that the time of issue lies in, and the 24 from it on; °C and W/m²,
            by `WEATHER_VARIABLES`, NaN where nothing was known.
        """
        found = np.full((len(issued_ms), WEATHER_HOURS, len(WEATHER_VARIABLES)), np.nan, dtype=np.float32)
        names, row = np.unique(np.asarray(sites, dtype=np.str_), return_inverse=True)
        around = np.arange(-CONTEXT_HOURS, WEATHER_HOURS - CONTEXT_HOURS)
        for number, name in enumerate(names.tolist()):
            mine = np.flatnonzero(row == number)
            hour = issued_ms[mine, None] // HOUR_MS + around
            for variable, place in enumerate(self._of(name)):
                if len(place.keys):
                    found[mine, :, variable] = place.at(hour, issued_ms[mine, None] // 1000)
        return found

    def forget(self, before_ms: int) -> None:
        """Drops the hours before a time: what no forecast asks for any more."""
        first = (before_ms // HOUR_MS) << _ISSUED_BITS
        for name in self.sites:
            kept = [
                _Place(place.keys[place.keys >= first], place.values[place.keys >= first]) for place in self._of(name)
            ]
            if any(len(place.keys) for place in kept):
                self._places[name] = kept
            else:
                del self._places[name]

    def _of(self, site: str) -> list[_Place]:
        new = self._new.pop(site, None)
        if new is not None:
            ts, issued = (np.array([getattr(each, name) for each in new], np.int64) for name in ("ts_ms", "issued_ms"))
            values = np.array([each.values for each in new], np.float32)
            self._places[site] = _joined(self._places.get(site, []), ts, issued, values)
        return self._places.get(site, [])


def _joined(before: Sequence[_Place], ts_ms: Ints, issued_ms: Ints, values: Floats32) -> list[_Place]:
    """Reports beside those that are there; of equal ones, and of several for one hour and issue, one stays."""
    # Rounded up: nothing counts a moment before it was issued.
    keys = (ts_ms // HOUR_MS << _ISSUED_BITS) | -(-issued_ms // 1000)
    places = []
    for variable in range(len(WEATHER_VARIABLES)):
        said = np.isfinite(values[:, variable])
        all_keys, all_values = keys[said], values[said, variable]
        if before:
            all_keys = np.concatenate([before[variable].keys, all_keys])
            all_values = np.concatenate([before[variable].values, all_values])
        order = np.lexsort((all_values, all_keys))
        all_keys, all_values = all_keys[order], all_values[order]
        # The greater of two that contradict each other: so that their order does not matter.
        last = np.append(all_keys[1:] != all_keys[:-1], True) if len(all_keys) else np.zeros(0, np.bool_)
        places.append(_Place(all_keys[last], all_values[last]))
    return places


def of_reports(reports: Iterable[Report]) -> Weather:
    """All that some reports say."""
    found = Weather()
    for report in reports:
        found.add(report)
    return found


def to_arrays(weather: Weather) -> Mapping[str, NDArray[Any]]:
    """Plain arrays, to be sent around without pickle; `of_arrays` makes the same of them."""
    return {
        f"{number}/{variable}/{part}": getattr(place, part)
        for number, site in enumerate(weather.sites)
        for variable, place in enumerate(weather._of(site))
        for part in ("keys", "values")
    } | {"sites": np.array(weather.sites, dtype=np.str_)}


def of_arrays(arrays: Mapping[str, NDArray[Any]]) -> Weather:
    """As `to_arrays` says."""
    return Weather(
        {
            site: [
                _Place(arrays[f"{number}/{variable}/keys"], arrays[f"{number}/{variable}/values"])
                for variable in range(len(WEATHER_VARIABLES))
            ]
            for number, site in enumerate(arrays["sites"].tolist())
        }
    )
