"""The smart plugs of the DEBS 2014 Grand Challenge: `id, timestamp, value, property, plug, household, house` a line.

By the challenge's definition property 0 is work, the plug's energy counter in kWh, and property 1 load, its power in W.
Its CSV, and the same separated by blanks and without the id, are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from operators.adapters.parsed import NET_POWER, Options, Parsed, Rows
from operators.adapters.text import lines
from operators.readings import IMPORT_REGISTER, Kind

_SEPARATOR = rb"[,\s]+"
_VALUE = rb"(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
_LINE = re.compile(
    rb"^(?:\d{1,20}[,\s]+)?" + _SEPARATOR.join([rb"(\d{9,10})", _VALUE, rb"([01])", *[rb"(\d{1,10})"] * 3]) + rb"$"
)


def looks(head: bytes) -> bool:
    """Whether the first line of `head` that is not empty, or the one after it, is such a record."""
    first = [line.strip() for line in head.splitlines() if line.strip()][:2]
    return any(_LINE.match(line) for line in first)


def parse(file: IO[bytes], options: Options) -> Iterator[Parsed]:
    """The readings of plugs: the meter is `HOUSE-HOUSEHOLD-PLUG`, a plug's number being unique in its household only.

    Args:
        file: one record a line.
        options: nothing of it.
    """
    rows = Rows()
    for number, line in lines(file):
        text = (line or b"").strip()
        if line is not None and not text:
            continue
        rows.at(f"line {number}")
        found = _LINE.match(text)
        if found is None:
            rows.refuse("not id, timestamp, value, property (0 or 1), plug, household, house")
        else:
            ts, value, prop, plug, household, house = found.groups()
            meter = f"{int(house)}-{int(household)}-{int(plug)}"
            if prop == b"0":
                rows.add(meter, IMPORT_REGISTER, int(ts) * 1000, Kind.REGISTER, float(value))
            else:
                rows.add(meter, NET_POWER, int(ts) * 1000, Kind.INSTANT, float(value) / 1000)
        yield from rows.full()
    yield rows.take()
