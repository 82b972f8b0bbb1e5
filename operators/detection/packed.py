"""Named arrays as bytes for a checkpoint: their names, types and shapes as JSON, then the arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray


def pack(version: int, columns: Mapping[str, NDArray[Any]], **extra: int) -> bytes:
    """The columns, and whole numbers beside them, as `unpack` reads them."""
    layout = [[name, column.dtype.str, list(column.shape)] for name, column in columns.items()]
    head = orjson.dumps({"version": version, "columns": layout, **extra})
    return b"".join((len(head).to_bytes(4, "little"), head, *(column.tobytes() for column in columns.values())))


def unpack(version: int, content: bytes, whose: str) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """What `pack` wrote: the columns, which may be changed, and the numbers beside them.

    Args:
        version: that is known.
        content: the bytes.
        whose: for the message: "a detector".

    Raises:
        ValueError: another version, or damaged.
    """
    size = int.from_bytes(content[:4], "little")
    try:
        head = orjson.loads(content[4 : 4 + size])
        found, layout = head["version"], head["columns"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"state of {whose} is damaged: start the job from another savepoint") from error
    if found != version:
        raise ValueError(f"state of {whose} of version {found}, this code knows {version}: deploy its code")
    columns: dict[str, NDArray[Any]] = {}
    at = 4 + size
    for name, kind, shape in layout:
        count = int(np.prod(shape, dtype=np.int64))
        if at + count * np.dtype(kind).itemsize > len(content):
            raise ValueError(f"state of {whose} is damaged: it is shorter than it says")
        columns[name] = np.frombuffer(content, kind, count, at).reshape(shape).copy()
        at += columns[name].nbytes
    return columns, head
