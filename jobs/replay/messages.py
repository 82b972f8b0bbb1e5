"""Columns into messages of `meter.readings`, without a dictionary a reading."""

from __future__ import annotations

import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray

from jobs.replay.batch import KIND_NAMES, QUALITY_NAMES, Batch
from operators.readings import Kind, Quality


def _prefix(b: Batch, row: int) -> bytes:
    """The part of a message that most readings of a meter share, up to the value of `ts`."""
    body: dict[str, object] = {"meter_id": b.meter_id[row]}
    if b.register[row]:
        body["register"] = b.register[row]
    body["kind"] = KIND_NAMES[Kind(int(b.kind[row]))]
    body["unit"] = b.unit[row]
    if b.interval_s[row]:
        body["interval_s"] = int(b.interval_s[row])
    body["revision"] = int(b.revision[row])
    body["quality"] = QUALITY_NAMES[Quality(int(b.quality[row]))]
    if b.tenant_id[row]:
        body["tenant_id"] = b.tenant_id[row]
    return orjson.dumps(body)[:-1] + b',"ts":'


def _prefixes(b: Batch) -> list[bytes]:
    """Each row's prefix, built once for each combination of the columns in it."""
    code = np.zeros(len(b), dtype=np.int64)
    for column in (b.meter_id, b.register, b.kind, b.unit, b.interval_s, b.revision, b.quality, b.tenant_id):
        codes, uniques = pd.factorize(column)
        if len(uniques) > 1:
            # Renumbered after each column, so that the product cannot overflow.
            code, _ = pd.factorize(code * len(uniques) + codes)
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    table = np.empty(len(first), dtype=object)
    table[:] = [_prefix(b, int(row)) for row in first]
    picked: list[bytes] = table[inverse.reshape(-1)].tolist()
    return picked


def _numbers(column: NDArray[np.int64] | NDArray[np.float64]) -> list[bytes]:
    return orjson.dumps(column.tolist())[1:-1].split(b",")


def encode(b: Batch, *, iso: bool = False) -> list[bytes]:
    """The JSON messages of `b`, in its order.

    Args:
        b: n messages.
        iso: `ts` as ISO-8601 text in UTC; otherwise epoch milliseconds, which is shorter and quicker to parse.

    Returns:
        n byte strings; a row with `raw` is that, untouched.
    """
    if not len(b):
        return []
    if iso:
        texts = np.datetime_as_string(b.ts_ms.astype("datetime64[ms]"), unit="ms")
        stamps = [f'"{text}Z"'.encode() for text in texts.tolist()]
    else:
        stamps = _numbers(b.ts_ms)
    parts = zip(_prefixes(b), stamps, _numbers(b.value), strict=True)
    if (b.seq >= 0).any():
        ends = [b',"seq":%d}' % seq if seq >= 0 else b"}" for seq in b.seq.tolist()]
        out = [p + t + b',"value":' + v + end for (p, t, v), end in zip(parts, ends, strict=True)]
    else:
        out = [p + t + b',"value":' + v + b"}" for p, t, v in parts]
    for row in np.flatnonzero(b.raw != np.array(None)):
        out[row] = b.raw[row]
    return out


def keys(b: Batch) -> list[bytes]:
    """The message keys of `b`: the meter ids, as UTF-8."""
    codes, uniques = pd.factorize(b.meter_id)
    table = [str(meter).encode() for meter in uniques]
    return [table[code] for code in codes.tolist()]
