"""Point forecasts with a band of their past errors: what the simple architectures are made of.

An error is measured in units of the meter's mean change from day to day, so that one band, an offset for each level
and hour, fits calm and restless meters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models import hourly_rows, onnx_parts
from models.contract import NETWORK, Batch, Fit, Limits, NotTrainedError
from operators.features import DAY_CHANGE, QUANTILES, Inputs

Floats32 = NDArray[np.float32]


class Banded:
    """An architecture that gives a point; its subclasses say which, in numpy and as ONNX nodes."""

    name: str
    limits: Limits = NETWORK
    most_windows: ClassVar[int] = 100_000

    def __init__(self) -> None:
        self._offsets: Floats32 | None = None
        self._extra = 0

    def learn(self, windows: Batch, how: Fit) -> None:
        """Trains the point forecast; most of the simple ones have nothing to learn."""

    def point(self, inputs: Inputs) -> Floats32:
        """[m, 24] in units of the scale."""
        raise NotImplementedError

    def point_nodes(self, output: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """The same from the inputs `window` and `extra`, as ONNX nodes."""
        raise NotImplementedError

    def fit(self, batches: Iterator[Batch], how: Fit, progress: Callable[[float, float], None]) -> bool:
        """As `Architecture.fit`: the point on two thirds of the windows, the band on the rest."""
        windows = hourly_rows.collected(batches, how.steps, self.most_windows)
        rows, self._extra = len(windows.target), windows.inputs["extra"].shape[1]
        cut = max(1, rows * 2 // 3)
        self.learn(_part(windows, slice(0, cut)), how)
        progress(0.8, 0.0)
        rest = _part(windows, slice(min(cut, rows - 1), rows))
        error = (rest.target - self.point(rest.inputs)) / unit(rest.inputs)[:, None]
        offsets = np.nanquantile(error.astype(np.float64), QUANTILES, axis=0)
        self._offsets = np.asarray(offsets, dtype=np.float32)
        progress(1.0, 0.0)
        return True

    def predict(self, inputs: Inputs) -> Floats32:
        """As `Architecture.predict`."""
        band = self._band()[None] * unit(inputs)[:, None, None]
        return np.asarray(self.point(inputs)[:, None, :] + band, dtype=np.float32)

    def to_onnx(self) -> bytes:
        """As `Architecture.to_onnx`."""
        nodes, constants = self.point_nodes("point")
        nodes += [
            helper.make_node("Unsqueeze", ["point", "axis_1"], ["point_wide"]),
            helper.make_node("Gather", ["extra", "day_change"], ["change"], axis=1),
            helper.make_node("Exp", ["change"], ["unit"]),
            helper.make_node("Unsqueeze", ["unit", "axis_1"], ["unit_wide"]),
            helper.make_node("Mul", ["unit_wide", "offsets"], ["band"]),
            helper.make_node("Add", ["point_wide", "band"], ["quantiles"]),
        ]
        constants += [
            numpy_helper.from_array(self._band()[None], "offsets"),
            numpy_helper.from_array(np.array([1], dtype=np.int64), "axis_1"),
            numpy_helper.from_array(np.array([DAY_CHANGE], dtype=np.int64), "day_change"),
        ]
        return onnx_parts.model(nodes, constants, self._extra)

    def _band(self) -> Floats32:
        if self._offsets is None:
            raise NotTrainedError
        return self._offsets


def unit(inputs: Inputs) -> Floats32:
    """Mean absolute change over a day, in units of the scale: [m]."""
    return np.asarray(np.exp(inputs["extra"][:, DAY_CHANGE]))


def _part(windows: Batch, rows: slice) -> Batch:
    return Batch({name: value[rows] for name, value in windows.inputs.items()}, windows.target[rows])
