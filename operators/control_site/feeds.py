"""What comes in about a site, checked: readings, forecasts and devices' reports. What is not usable raises
`FeedError`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from operators.control_lifecycle.times import parse_ts_ms
from operators.features import QUANTILES
from operators.readings import Kind, Quality

UNIT = "\x1f"
LARGEST_KW = 1e6
"""A power beyond it is a mistake of units."""
QUANTILE_NAMES = [f"q{round(100 * q)}" for q in QUANTILES]
MOST_STEPS = 400


class FeedError(ValueError):
    """A message that is not usable; it changes nothing."""


@dataclass(frozen=True)
class Reading:
    """A valid reading, in kWh or kW."""

    meter_id: str
    register: str
    kind: Kind
    ts_ms: int
    """Epoch ms UTC; an interval ends there."""
    value: float
    interval_ms: int
    quality: Quality


@dataclass(frozen=True)
class MeterForecast:
    """A message of topic `forecasts` as mean powers."""

    meter_id: str
    issued_at_ms: int
    start_ms: int
    step_s: int
    kw: NDArray[np.float64]
    """[9, n], never falling from quantile to quantile."""
    model_sha256: str


@dataclass(frozen=True)
class Report:
    """A device's own word: a message of topic `control.states`. None is not known."""

    asset_id: str
    ts_ms: int
    power_kw: float | None = None
    content_kwh: float | None = None
    connected: bool | None = None
    needs_kwh: float | None = None
    """EV: what it still needs, at the meter."""
    ready_by_ms: int | None = None


def reading(text: str) -> Reading:
    """A reading as `sql/flink/control.sql` writes it: meter, register, kind, ts_ms, value, interval_ms, quality.

    Raises:
        FeedError: it is none, or says nothing (quality `invalid`).
    """
    try:
        meter, register, kind, ts, value, interval, quality = text.split(UNIT)
        made = Reading(
            meter, register, Kind(int(kind)), int(ts), float(value), int(interval), Quality(int(quality))
        )  # fmt: skip
    except ValueError as error:
        raise FeedError(f"reading: {error}") from error
    if made.quality is Quality.INVALID or not math.isfinite(made.value):
        raise FeedError("reading: invalid")
    return made


def forecast(message: Mapping[str, Any]) -> MeterForecast:
    """A forecast in kW.

    Raises:
        FeedError: a field is missing, a number is not finite or beyond `LARGEST_KW`, or quantiles cross widely.
    """
    try:
        step_s = int(message["step_s"])
        kwh = np.array([message["kwh"][name] for name in QUANTILE_NAMES], dtype=np.float64)
        issued, start = parse_ts_ms(message["issued_at"]), parse_ts_ms(message["target_start"])
        name, sha = str(message["meter_id"]), str(message.get("model_sha256") or "")
    except (KeyError, TypeError, ValueError) as error:
        raise FeedError(f"forecast: {error!r}") from error
    if step_s not in (900, 1800, 3600) or kwh.ndim != 2 or not 0 < kwh.shape[1] <= MOST_STEPS:
        raise FeedError(f"forecast: {kwh.shape} values in steps of {step_s} s")
    kw = kwh * 3600.0 / step_s
    if not (np.abs(kw) <= LARGEST_KW).all():
        raise FeedError("forecast: a value that is no usable number")
    # float32 from the model: neighbours may cross by a rounding.
    return MeterForecast(name, issued, start, step_s, np.maximum.accumulate(kw, axis=0), sha)


def report(message: Mapping[str, Any]) -> Report:
    """A device's report, from W and Wh.

    Raises:
        FeedError: no asset, no time, or a value that is no usable number.
    """
    try:
        made = Report(
            asset_id=_text(message["asset_id"]),
            ts_ms=parse_ts_ms(message["ts"]),
            power_kw=_kilo(message.get("power_w")),
            content_kwh=_kilo(message.get("content_wh")),
            connected=_truth(message.get("connected")),
            needs_kwh=_kilo(message.get("needs_wh")),
            ready_by_ms=None if message.get("ready_by") is None else parse_ts_ms(message["ready_by"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FeedError(f"state: {error!r}") from error
    return made


def measured(ack: Mapping[str, Any]) -> Report | None:
    """What an acknowledgement tells of its asset's power; None: nothing.

    Raises:
        FeedError: as for `report`.
    """
    if ack.get("measured_w") is None:
        return None
    return report({"asset_id": ack.get("asset_id"), "ts": ack.get("ts"), "power_w": ack["measured_w"]})


def _kilo(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST_KW * 1000:
        raise ValueError(f"{value!r} is no usable number")
    return float(value) / 1000


def _truth(value: Any) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise ValueError(f"{value!r}: expected true or false")


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r}: expected text")
    return value
