"""Ridge regression (Hoerl and Kennard 1970) of the next day on the week, as a correction of the mean of its days."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models import hourly_rows
from models.banded import Banded, unit
from models.contract import Batch, Fit, NotTrainedError
from operators.features import CLIP, DAYS, HORIZON_HOURS, Inputs

PENALTY = 30.0


class Ridge(Banded):
    """24 outputs; hours that are missing count as the mean of the days, so that a gap pulls nothing."""

    name = "ridge"

    def __init__(self) -> None:
        super().__init__()
        self._weights: NDArray[np.float32] | None = None
        """[168 + extra + 1, 24], the constant last."""

    def learn(self, windows: Batch, how: Fit) -> None:
        """As `Banded.learn`: the normal equations, in float64."""
        inputs = _seen(windows.inputs).astype(np.float64)
        wanted = np.nan_to_num(windows.target - hourly_rows.base(windows.inputs["window"])).astype(np.float64)
        weight = 1 / (0.05 + unit(windows.inputs).astype(np.float64)[:, None]) ** 2  # or restless meters decide alone
        matrix = (inputs * weight).T @ inputs + PENALTY * np.eye(inputs.shape[1])
        self._weights = np.linalg.solve(matrix, (inputs * weight).T @ wanted).astype(np.float32)

    def point(self, inputs: Inputs) -> NDArray[np.float32]:
        """As `Banded.point`."""
        if self._weights is None:
            raise NotTrainedError
        return np.asarray(hourly_rows.base(inputs["window"]) + _seen(inputs) @ self._weights)

    def point_nodes(self, output: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """As `Banded.point_nodes`."""
        if self._weights is None:
            raise NotTrainedError
        nodes = [
            helper.make_node("Clip", ["window", "lowest", "highest"], ["clipped"]),
            helper.make_node("Sub", ["clipped", "level"], ["centred"]),
            helper.make_node("Concat", ["centred", "extra"], ["seen"], axis=1),
            helper.make_node("Gemm", ["seen", "weights", "constant"], ["correction"]),
            helper.make_node("Reshape", ["window", "by_day"], ["days"]),
            helper.make_node("ReduceMean", ["days", "axis_1"], ["base"], keepdims=0),
            helper.make_node("Add", ["base", "correction"], [output]),
        ]
        shape = np.array([-1, DAYS, HORIZON_HOURS], dtype=np.int64)
        constants = {
            "lowest": np.float32(-CLIP),
            "highest": np.float32(CLIP),
            "level": np.float32(1),
            "weights": self._weights[:-1],
            "constant": self._weights[-1],
            "by_day": shape,
        }
        return nodes, [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]


def _seen(inputs: Inputs) -> NDArray[np.float32]:
    """[m, 168 + extra + 1]: the window as networks see it, `extra`, and one."""
    clipped = np.clip(inputs["window"], -CLIP, CLIP) - np.float32(1)
    return np.concatenate((clipped, inputs["extra"], np.ones((len(clipped), 1), dtype=np.float32)), axis=1)


def architecture() -> Ridge:
    """Untrained."""
    return Ridge()
