"""A folder to simulate: `site.json` and series in CSV or Parquet files, read liberally and checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from jobs.errors import UserError
from operators.control.clock import local
from operators.control.site import Site
from operators.control.site_json import SiteError, read_site

Floats = NDArray[np.float64]

SLOT_S = 900
STEPS_S = (900, 1800, 3600)
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "load_kwh": ("load_kwh", "load", "consumption_kwh", "demand_kwh", "kwh"),
    "pv_kwh": ("pv_kwh", "pv", "solar_kwh", "generation_kwh"),
    "price": ("price", "import_price", "price_per_kwh", "import_price_per_kwh"),
    "export_price": ("export_price", "export_price_per_kwh", "feed_in_price"),
    "carbon": ("carbon", "carbon_kg_per_kwh", "carbon_g_per_kwh", "carbon_intensity"),
}
ENERGIES = ("load_kwh", "pv_kwh")
TIMES = ("ts", "timestamp", "timestamp_utc", "time", "time_utc", "datetime", "date", "start", "index", "unnamed: 0")
GRAMS_ABOVE = 5.0
"""A carbon series whose median is above it is in g per kWh."""
WEEK = 7 * 24 * 3600


@dataclass(frozen=True)
class Case:
    """What is simulated: n quarter hours, without a gap."""

    site: Site
    start_ms: NDArray[np.int64]
    """[n] epoch ms UTC."""
    load_kw: Floats
    """[n] mean power without controllable assets and PV; gaps filled."""
    known: NDArray[np.bool_]
    """[n] whether the load was measured."""
    pv_kw: Floats
    """[n]"""
    price: Floats
    """[n] currency per kWh, without carbon's price."""
    export: Floats
    carbon: Floats
    """[n] kg per kWh."""
    month: NDArray[np.int64]
    """[n] local calendar month."""
    step_s: int
    """Of the load's series: 900, 1800 or 3600."""
    notes: tuple[str, ...] = field(default=())

    @property
    def cost_price(self) -> Floats:
        """[n] price with carbon's."""
        return self.price + self.site.tariff.carbon * self.carbon


def read(folder: Path) -> Case:
    """The case in a folder.

    Raises:
        UserError: a file is missing or cannot be understood; the message names it and says what to write.
    """
    if not folder.is_dir():
        raise UserError(f"no folder {folder}: name one with site.json and series in CSV or Parquet files", 2)
    site = site_of(folder / "site.json")
    notes = list(site.notes)
    series = _series(folder, notes)
    if "load_kwh" not in series:
        wanted = "a column load_kwh (kWh of each step), or a file load_kwh.csv or .parquet"
        raise UserError(f"{folder}: no load in its files: write {wanted}", 2)
    load = series["load_kwh"]
    step_s = _step(load, "load_kwh", notes)
    index = _grid(load, step_s)
    energy = {name: _energy(series[name], index, step_s, name) for name in ENERGIES if name in series}
    repeat = step_s // SLOT_S
    start_ms = (index[0].value // 1_000_000) + np.arange(len(index) * repeat, dtype=np.int64) * SLOT_S * 1000
    kwh = energy["load_kwh"]
    known = np.isfinite(kwh)
    if known.mean() < 0.5:
        raise UserError(f"{folder}: load_kwh: {1 - known.mean():.0%} of the steps are missing: half must be there", 2)
    if not known.all():
        notes.append(f"load_kwh: {int((~known).sum())} of {len(known)} steps are missing; filled from the week before")
        kwh = _filled(kwh, WEEK // step_s)
    kw = kwh * 3600 / step_s
    pv = np.nan_to_num(np.maximum(energy["pv_kwh"], 0.0)) * 3600 / step_s if "pv_kwh" in energy else np.zeros_like(kw)
    price, export, carbon = _prices(site, series, start_ms, notes)
    return Case(
        site=site,
        start_ms=start_ms,
        load_kw=np.repeat(kw, repeat),
        known=np.repeat(known, repeat),
        pv_kw=np.repeat(pv, repeat),
        price=price,
        export=export,
        carbon=carbon,
        month=local(start_ms, site.tz).month,
        step_s=step_s,
        notes=tuple(notes),
    )


def site_of(path: Path) -> Site:
    """The site in a file of the form of topic `sites`.

    Raises:
        UserError: no such file, no JSON, or a site that contradicts itself.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(
            f"{path.parent}: no site.json: write the site there, in the form of topic `sites`", 2
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error}): correct it", 2) from error
    if not isinstance(raw, Mapping):
        raise UserError(f"{path}: expected one object with site_id, limit_kw, tariff and assets", 2)
    try:
        return read_site(raw)
    except SiteError as error:
        raise UserError(f"{path}: {error}", 2) from error


def _series(folder: Path, notes: list[str]) -> dict[str, pd.Series[float]]:
    found: dict[str, pd.Series[float]] = {}
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".csv", ".parquet", ".pq"))
    if not paths:
        raise UserError(f"{folder}: no CSV or Parquet file: put the series there, indexed by UTC step start", 2)
    for path in paths:
        frame = _table(path)
        numeric = [c for c in frame.columns if pd.api.types.is_numeric_dtype(frame[c].dtype)]
        for name, aliases in COLUMNS.items():
            column = next((c for a in aliases for c in numeric if str(c).strip().lower() == a), None)
            if column is None and path.stem.lower() in aliases and len(numeric) == 1:
                column = numeric[0]
            if column is None:
                continue
            if name in found:
                notes.append(f"{path.name}: {column} is there twice; the first file's is used")
                continue
            values = frame[column].astype("float64")
            found[name] = values / 1000 if str(column).lower() == "carbon_g_per_kwh" else values
        unused = [
            str(c) for c in numeric if str(c).strip().lower() not in {a for names in COLUMNS.values() for a in names}
        ]
        if unused and not (len(numeric) == 1 and path.stem.lower() in {a for n in COLUMNS.values() for a in n}):
            notes.append(f"{path.name}: not used: {', '.join(unused[:6])}")
    return found


def _table(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path) if path.suffix.lower() == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable ({error}): write CSV or Parquet", 2) from error
    if not isinstance(frame.index, pd.DatetimeIndex):
        named = [c for t in TIMES for c in frame.columns if str(c).strip().lower() == t]
        dates = [c for c in frame.columns if pd.api.types.is_datetime64_any_dtype(frame[c].dtype)]
        column = (dates or named or [frame.columns[0] if len(frame.columns) else None])[0]
        if column is None:
            raise UserError(f"{path}: no columns: the first one is the UTC start of each step", 2)
        frame.index = pd.DatetimeIndex(_times(path, frame.pop(column)))
    index = pd.DatetimeIndex(frame.index)
    frame.index = (index.tz_localize("UTC") if index.tz is None else index.tz_convert("UTC")).as_unit("ns")
    if frame.index.isna().any():
        raise UserError(f"{path}: a row without a time: give each the UTC start of its step", 2)
    frame = frame[~frame.index.duplicated(keep="last")].sort_index()
    if len(frame) < 2:
        raise UserError(f"{path}: fewer than two rows: nothing to simulate", 2)
    return frame


def _times(path: Path, column: pd.Series[Any]) -> Any:
    try:
        if pd.api.types.is_numeric_dtype(column.dtype):
            scale = "s" if float(column.abs().median()) < 1e11 else "ms"
            return pd.to_datetime(column, unit=scale, utc=True)
        return pd.to_datetime(column, utc=True)
    except (ValueError, TypeError, OverflowError) as error:
        raise UserError(
            f"{path}: column {column.name} holds no times ({error}): write 2021-01-01T00:00:00Z", 2
        ) from error


def _step(series: pd.Series[float], name: str, notes: list[str]) -> int:
    gaps = np.diff(pd.DatetimeIndex(series.index).asi8) // 1_000_000_000
    usual = int(pd.Series(gaps).mode().iloc[0])
    if usual <= 0 or usual > 3600 or (usual < SLOT_S and SLOT_S % usual) or (usual > SLOT_S and usual not in STEPS_S):
        raise UserError(f"{name}: steps of {usual} s: use steps of 15, 30 or 60 minutes (or parts of 15)", 2)
    if usual < SLOT_S:
        notes.append(f"{name}: steps of {usual} s are summed to quarter hours")
    return max(usual, SLOT_S)


def _grid(series: pd.Series[float], step_s: int) -> pd.DatetimeIndex:
    index = pd.DatetimeIndex(series.index)
    every = f"{step_s}s"
    return pd.date_range(index[0].floor(every), index[-1].floor(every), freq=every)


def _energy(series: pd.Series[float], index: pd.DatetimeIndex, step_s: int, name: str) -> Floats:
    """kWh of each step of the grid: finer steps are summed (all there), coarser ones split evenly."""
    values = series.where(np.isfinite(series))
    own_s = _step(values, name, [])
    usual = int(pd.Series(np.diff(pd.DatetimeIndex(values.index).asi8) // 1_000_000_000).mode().iloc[0])
    if own_s > step_s:
        parts = own_s // step_s
        positions = pd.DatetimeIndex(index).floor(f"{own_s}s")
        return np.asarray(values.reindex(positions).to_numpy(dtype=np.float64) / parts)
    groups = values.groupby(pd.DatetimeIndex(values.index).floor(f"{step_s}s"))
    total = groups.sum(min_count=max(1, step_s // usual))
    return np.asarray(total.reindex(index).to_numpy(dtype=np.float64))


def _prices(
    site: Site, series: Mapping[str, pd.Series[float]], start_ms: NDArray[np.int64], notes: list[str]
) -> tuple[Floats, Floats, Floats]:
    price = _held(series.get("price"), start_ms)
    tariff = site.tariff.import_prices(start_ms, site.tz)
    price = tariff if price is None else np.where(np.isnan(price), tariff, price)
    missing = np.isnan(price)
    if missing.all():
        notes.append("no price in the tariff nor in the series: energy costs nothing")
        price = np.zeros_like(price)
    elif missing.any():
        notes.append(
            f"price: {int(missing.sum())} of {len(price)} quarter hours are missing; taken from the day before"
        )
        price = _filled(price, 96)
    export = _held(series.get("export_price"), start_ms)
    usual = site.tariff.export or 0.0
    export = np.full(len(start_ms), usual) if export is None else np.where(np.isnan(export), usual, export)
    carbon = _held(series.get("carbon"), start_ms)
    if carbon is None:
        return price, export, np.zeros(len(start_ms))
    if np.nanmedian(carbon) > GRAMS_ABOVE:
        notes.append("carbon: values above 5: taken as g per kWh")
        carbon = carbon / 1000
    return price, export, np.maximum(np.nan_to_num(_filled(carbon, 96)), 0.0)


def _held(series: pd.Series[float] | None, start_ms: NDArray[np.int64]) -> Floats | None:
    """A series that holds through its steps, at each quarter hour; NaN beyond its end and in gaps of over an hour."""
    if series is None:
        return None
    series = series.where(np.isfinite(series)).dropna()
    if series.empty:
        return None
    times = pd.DatetimeIndex(series.index).asi8 // 1_000_000
    position = np.searchsorted(times, start_ms, side="right") - 1
    step = int(np.median(np.diff(times))) if len(times) > 1 else 3_600_000
    there = (position >= 0) & (start_ms - times[np.maximum(position, 0)] < max(step, SLOT_S * 1000))
    return np.where(there, series.to_numpy()[np.maximum(position, 0)], np.nan)


def _filled(values: Floats, lag: int) -> Floats:
    """Gaps from `lag` steps before, else from the nearest."""
    result = values.copy()
    for position in np.flatnonzero(~np.isfinite(result)):
        if position >= lag and np.isfinite(result[position - lag]):
            result[position] = result[position - lag]
    known = np.flatnonzero(np.isfinite(result))
    if len(known) and len(known) < len(result):
        result = np.interp(np.arange(len(result)), known, result[known])
    return result
