"""Windows as a table, one row an hour of the forecast, for models that forecast a number: in numpy and as ONNX nodes.

Both make the same columns in the same order, so that a tree sees the same in training and where it runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models.contract import Batch
from operators.features import CONTEXT_HOURS, DAYS, HORIZON_HOURS, Inputs

Floats32 = NDArray[np.float32]


def _lags() -> NDArray[np.int64]:
    """Positions in the window that each hour of the forecast looks at: [24, k].

    The same hour of each day, an hour before and after it yesterday and a week ago, and the newest three hours.
    """
    hour = np.arange(HORIZON_HOURS)[:, None]
    same = hour + HORIZON_HOURS * np.arange(DAYS)
    last, first = CONTEXT_HOURS - HORIZON_HOURS + hour, hour
    near = np.concatenate((last - 1, last + 1, first - 1, first + 1), axis=1)
    newest = np.broadcast_to(CONTEXT_HOURS - 1 - np.arange(3), (HORIZON_HOURS, 3))
    return np.asarray(np.clip(np.concatenate((same, near, newest), axis=1), 0, CONTEXT_HOURS - 1))


LAGS = _lags()


def columns(extra: int) -> int:
    """Of the table: lagged values, mean of each day, `extra`, and the hour of the forecast."""
    return int(LAGS.shape[1]) + DAYS + extra + 1


def collected(batches: Iterator[Batch], count: int, most: int) -> Batch:
    """The first `count` batches as one, of at most `most` rows."""
    taken: list[Batch] = []
    rows = 0
    for _ in range(count):
        taken.append(next(batches))
        rows += len(taken[-1].target)
        if rows >= most:
            break
    inputs = {name: np.concatenate([batch.inputs[name] for batch in taken])[:most] for name in taken[0].inputs}
    return Batch(inputs, np.concatenate([batch.target for batch in taken])[:most])


def base(window: Floats32) -> Floats32:
    """The mean of the same hour on the seven days, which the models correct: [m, 168] to [m, 24]."""
    return np.asarray(window.reshape(-1, DAYS, HORIZON_HOURS).mean(axis=1))


def table(inputs: Inputs) -> Floats32:
    """[m * 24, columns]: row `24 * i + h` is hour h of window i."""
    window, extra = inputs["window"], inputs["extra"]
    rows = len(window)
    lagged = window[:, LAGS]
    days = window.reshape(rows, DAYS, HORIZON_HOURS).mean(axis=2)
    wide = np.concatenate((days, extra), axis=1)
    repeated = np.broadcast_to(wide[:, None, :], (rows, HORIZON_HOURS, wide.shape[1]))
    hour = np.broadcast_to(np.arange(HORIZON_HOURS, dtype=np.float32)[None, :, None], (rows, HORIZON_HOURS, 1))
    return np.concatenate((lagged, repeated, hour), axis=2, dtype=np.float32).reshape(
        rows * HORIZON_HOURS, columns(extra.shape[1])
    )


def table_nodes(output: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """ONNX nodes that make `table` of the inputs `window` and `extra`; their result is called `output`."""
    constants: dict[str, NDArray[Any]] = {
        "lags": LAGS,
        "by_day": np.array([-1, DAYS, HORIZON_HOURS], dtype=np.int64),
        "one": np.array([1], dtype=np.int64),
        "hours": np.arange(HORIZON_HOURS, dtype=np.float32)[None, :, None],
        "ones": np.ones((1, HORIZON_HOURS, 1), dtype=np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["window", "lags"], ["lagged"], axis=1),
        helper.make_node("Reshape", ["window", "by_day"], ["days"]),
        helper.make_node("ReduceMean", ["days", "two"], ["day_means"], keepdims=0),
        helper.make_node("Concat", ["day_means", "extra"], ["wide"], axis=1),
        helper.make_node("Unsqueeze", ["wide", "one"], ["wide_once"]),
        helper.make_node("Mul", ["wide_once", "ones"], ["repeated"]),
        helper.make_node("Slice", ["repeated", "zero", "one", "two"], ["single"]),
        helper.make_node("Mul", ["single", "nothing"], ["blank"]),
        helper.make_node("Add", ["blank", "hours"], ["hour"]),
        helper.make_node("Concat", ["lagged", "repeated", "hour"], ["joined"], axis=2),
        helper.make_node("Flatten", ["joined"], [output], axis=2),
    ]
    constants["two"] = np.array([2], dtype=np.int64)
    constants["zero"] = np.array([0], dtype=np.int64)
    constants["nothing"] = np.zeros(1, dtype=np.float32)
    return nodes, [numpy_helper.from_array(value, name) for name, value in constants.items()]
