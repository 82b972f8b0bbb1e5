"""Architectures that repeat days of the week before: the baselines, as models that can run."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models.banded import Banded
from operators.features import DAYS, HORIZON_HOURS, Inputs


class DayMean(Banded):
    """A weighted mean of the same hour on the last seven days."""

    def __init__(self, name: str, weights: tuple[float, ...]) -> None:
        """`weights`: seven, oldest day first."""
        super().__init__()
        self.name = name
        self._weights = np.array(weights, dtype=np.float32)

    def point(self, inputs: Inputs) -> NDArray[np.float32]:
        """As `Banded.point`."""
        days = inputs["window"].reshape(-1, DAYS, HORIZON_HOURS)
        return np.asarray((days * self._weights[None, :, None]).sum(axis=1))

    def point_nodes(self, output: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """As `Banded.point_nodes`."""
        shape = np.array([-1, DAYS, HORIZON_HOURS], dtype=np.int64)
        nodes = [
            helper.make_node("Reshape", ["window", "by_day"], ["days"]),
            helper.make_node("Mul", ["days", "weights"], ["weighted"]),
            helper.make_node("ReduceSum", ["weighted", "axis_1"], [output], keepdims=0),
        ]
        return nodes, [
            numpy_helper.from_array(shape, "by_day"),
            numpy_helper.from_array(self._weights[None, :, None], "weights"),
        ]
