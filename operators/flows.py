"""What a register measures, by its OBIS code (IEC 62056-6-1): which way the energy flows, how directly it is known."""

from __future__ import annotations

import re
from functools import lru_cache

from operators.readings import Kind

IMPORT, EXPORT, NET, NONE = 10, 20, 31, 0
_OBIS = re.compile(r"^(?:(\d+)-(\d+):)?(\d+)\.(\d+)\.(\d+)(?:[.*]\d+)?$")
_ENERGY = {8, 9, 29}
"""OBIS group D of energies: time integrals 1, 2 and 5 (totals, and the increments of load profiles)."""


@lru_cache(maxsize=4096)
def flow_of(register: str, kind: Kind) -> int:
    """The register's flow: 10 (import) or 20 (export) plus how it is measured, 31 for net power, 0 for neither.

    Where several registers tell of the same energy, the smallest number counts: 1 total by counter, 2 total by
    interval, 3 one tariff by counter, 4 one tariff by interval, 5 power. A register that is no OBIS code imports, or is
    net power.

    >>> flow_of("1-0:1.8.0", Kind.REGISTER), flow_of("1-0:2.8.1", Kind.REGISTER)
    (11, 23)
    """
    code = _OBIS.match(register)
    # Other media than electricity (gas, heat, water) have one direction.
    if code is None or code[1] not in (None, "1"):
        return NET if kind is Kind.INSTANT else IMPORT + 1 + (kind is Kind.INTERVAL)
    quantity, processing, tariff = int(code[3]), int(code[4]), int(code[5])
    if quantity == 16 and kind is Kind.INSTANT:
        return NET
    direction = {1: IMPORT, 2: EXPORT}.get(quantity, NONE)
    if direction == NONE:
        return NONE
    if kind is Kind.INSTANT:
        return direction + 5
    if processing not in _ENERGY:
        return NONE
    return direction + (3 if tariff else 1) + (kind is Kind.INTERVAL)
