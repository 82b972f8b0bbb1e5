"""What a Green Button ReadingType means: unit, direction and kind of its values.

The codes are those of ESPI's schema (`UnitSymbolKind`, `FlowDirectionKind`, `AccumulationKind`, `QualityOfReading`).
"""

from __future__ import annotations

from dataclasses import dataclass

from operators.adapters.parsed import (
    GAS,
    INTERVAL_EXPORT,
    INTERVAL_IMPORT,
    J_PER_KWH,
    KWH_PER_BTU,
    KWH_PER_THERM,
    M3_PER_FT3,
    NET_POWER,
    Options,
    Rows,
)
from operators.readings import Kind, Quality

ENERGY = {72: 1e-3, 31: 1 / J_PER_KWH, 132: KWH_PER_BTU, 169: KWH_PER_THERM}
"""kWh of a unit of measure: Wh, J, Btu, therm."""
VOLUME = {42: 1.0, 119: M3_PER_FT3}
"""m³ of a unit of measure: m³, ft³."""
WATT = 38
FORWARD, REVERSE, NET = (0, 1), 19, 4
"""Flow directions; none given is forward."""
COUNTERS, INTERVALS, INSTANTS = (1, 2, 3, 9), (0, 4), (6, 12)
"""Accumulation behaviours: bulk, continuous, cumulative, summation; none given, delta; indicating, instantaneous."""
QUALITY = {
    **dict.fromkeys((0, 14, 17, 18, 19), Quality.MEASURED),
    **dict.fromkeys((7, 8, 9, 10, 11, 13, 16), Quality.ESTIMATED),
}
"""Valid, raw, validated, verified, revenue quality; edited, estimated (twice), questionable, derived, mixed, other."""
FORECASTS = {12: "projected", 15: "normalized for weather"}
ELECTRICITY, NATURAL_GAS = 0, 1
"""Kinds of a ServiceCategory."""


@dataclass(frozen=True)
class Series:
    """One MeterReading: what its blocks mean."""

    meter: str
    kind: Kind
    register: str
    factor: float
    net: bool
    length_s: int
    """Of an interval, when the reading does not say; 0: unknown."""
    skip: str = ""
    """Why it is not taken; empty: it is."""


def meaning(rows: Rows, meter: str, reading_type: dict[str, int], gas: bool, service: int, options: Options) -> Series:
    """The meaning of a ReadingType's fields.

    Args:
        rows: is told what is taken for granted.
        meter: the usage point's meter.
        reading_type: its integer fields by name.
        gas: the usage point is one of gas, or the type's commodity is.
        service: the usage point's service category.
        options: `gas_kwh_per_m3`.
    """
    unit, flow = reading_type.get("uom", -1), reading_type.get("flowDirection", 0)
    behaviour = reading_type.get("accumulationBehaviour", 0)
    scale = 10.0 ** max(-30, min(30, reading_type.get("powerOfTenMultiplier", 0)))
    length = max(0, reading_type.get("intervalLength", 0))
    skip = ""
    kind, register, factor, net = Kind.INTERVAL, INTERVAL_IMPORT, 0.0, False
    if service not in (ELECTRICITY, NATURAL_GAS):
        skip = f"service category {service}"
    elif unit in ENERGY or (gas and unit in VOLUME):
        factor = scale * (ENERGY[unit] if unit in ENERGY else VOLUME[unit] * rows.gas_factor(options))
        if behaviour in COUNTERS:
            kind = Kind.REGISTER
            register = GAS if gas else "1-0:2.8.0" if flow == REVERSE else "1-0:1.8.0"
        elif behaviour in INTERVALS:
            register = GAS if gas else INTERVAL_EXPORT if flow == REVERSE else INTERVAL_IMPORT
        else:
            skip = f"energy with accumulation behaviour {behaviour}"
        net = flow == NET and kind is Kind.INTERVAL and not gas
    elif unit == WATT and behaviour in INSTANTS:
        kind, factor = Kind.INSTANT, scale * (-1e-3 if flow == REVERSE else 1e-3)
        register = NET_POWER
    else:
        skip = f"unit of measure {unit} with accumulation behaviour {behaviour}"
    if not skip and not (flow in FORWARD or flow == REVERSE or net or gas):
        skip = f"flow direction {flow}"
    return Series(meter, kind, register, factor, net, length, skip)
