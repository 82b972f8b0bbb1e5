"""The ways themselves: SQL that gives Python a shard and minute, and what Python makes columns of. Pure.

Each way's view is `crossed (shard INT, minute BIGINT, …)`; its `columns` takes what follows, and gives names and means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

RECORD = "\x1e"
UNIT = "\x1f"
Columns = tuple[Sequence[str], NDArray[np.float64]]


@dataclass(frozen=True)
class Way:
    """One way of crossing."""

    title: str
    select: str = ""
    """Of the columns after shard and minute, in SQL over a group of `minute_mean (shard, minute, meter_id, mean)`."""
    columns: Callable[..., Columns] | None = None
    rows: bool = False
    """Python yields a row a meter, in place of one text."""
    pandas: str = ""
    """`udaf`, or `over`: a vectorised function of the Table API, without keyed state of its own."""


def piece_texts(text: str) -> Columns:
    """ "meter US mean" joined by RS."""
    fields = text.replace(UNIT, RECORD).split(RECORD)
    return fields[0::2], numbers(" ".join(fields[1::2]))


def two_texts(names: str, means: str) -> Columns:
    """Names joined by RS, means by spaces."""
    return names.split(RECORD), numbers(means)


def bytes_text(content: bytes) -> Columns:
    """`piece_texts`, as UTF-8."""
    return piece_texts(bytes(content).decode())


def json_object(text: str) -> Columns:
    """A JSON object of means by name."""
    found = orjson.loads(text)
    return list(found), np.fromiter(found.values(), np.float64, len(found))


def numbers(text: str) -> NDArray[np.float64]:
    """Numbers with spaces between."""
    return np.fromstring(text, np.float64, sep=" ")


PIECE = "CONCAT(meter_id, U&'\\001f', CAST(mean AS STRING))"
WAYS = {
    "text": Way("LISTAGG of pieces, one text", f"LISTAGG({PIECE}, U&'\\001e')", piece_texts),
    "two_texts": Way(
        "LISTAGG of names, LISTAGG of means",
        "LISTAGG(meter_id, U&'\\001e'), LISTAGG(CAST(mean AS STRING), ' ')",
        two_texts,
    ),
    "joined": Way(
        "ARRAY_AGG of pieces, joined when it is over", f"ARRAY_JOIN(ARRAY_AGG({PIECE}), U&'\\001e')", piece_texts
    ),
    "joined_bytes": Way(
        "the same, as bytes", f"ENCODE(ARRAY_JOIN(ARRAY_AGG({PIECE}), U&'\\001e'), 'UTF-8')", bytes_text
    ),
    "json": Way("JSON_OBJECTAGG", "JSON_OBJECTAGG(KEY meter_id VALUE mean)", json_object),
    "rows": Way("text in, a row a meter out", f"LISTAGG({PIECE}, U&'\\001e')", piece_texts, rows=True),
    "pandas_udaf": Way("Pandas UDAF of the window over Arrow, no state", pandas="udaf"),
    "pandas_over": Way("history by ARRAY_AGG OVER, Pandas UDF over Arrow", pandas="over"),
}
