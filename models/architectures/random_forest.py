"""A random forest (Breiman 2001; scikit-learn), a row an hour of the forecast, with a band of its past errors."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models import hourly_rows
from models.banded import Banded, unit
from models.contract import Batch, Fit, Limits, NotTrainedError
from operators.features import HORIZON_HOURS, Inputs


class RandomForest(Banded):
    """Corrections of the mean of seven days, in units of the meter's change from day to day."""

    name = "random_forest"
    limits = Limits(size=40_000_000, flips=0.001)
    most_windows: ClassVar[int] = 12_000
    trees = 40
    leaves = 1500

    def __init__(self) -> None:
        super().__init__()
        self._forest: Any = None

    def learn(self, windows: Batch, how: Fit) -> None:
        """As `Banded.learn`."""
        from sklearn.ensemble import RandomForestRegressor

        wanted = (windows.target - hourly_rows.base(windows.inputs["window"])) / unit(windows.inputs)[:, None]
        known = np.isfinite(wanted.reshape(-1))
        forest = RandomForestRegressor(
            self.trees,
            max_leaf_nodes=self.leaves,
            min_samples_leaf=10,
            max_features=0.3,
            max_samples=0.3,
            random_state=how.seed,
            n_jobs=1,
        )
        self._forest = forest.fit(hourly_rows.table(windows.inputs)[known], wanted.reshape(-1)[known])

    def point(self, inputs: Inputs) -> NDArray[np.float32]:
        """As `Banded.point`."""
        if self._forest is None:
            raise NotTrainedError
        correction = self._forest.predict(hourly_rows.table(inputs)).reshape(-1, HORIZON_HOURS)
        scaled = correction * unit(inputs)[:, None] + hourly_rows.base(inputs["window"])
        return np.asarray(scaled, dtype=np.float32)

    def point_nodes(self, output: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """As `Banded.point_nodes`."""
        from skl2onnx import to_onnx  # type: ignore[import-untyped]
        from skl2onnx.common.data_types import FloatTensorType  # type: ignore[import-untyped]

        if self._forest is None:
            raise NotTrainedError
        shape = FloatTensorType([None, self._forest.n_features_in_])
        converted = to_onnx(self._forest, initial_types=[("table", shape)], target_opset={"": 18, "ai.onnx.ml": 3})
        trees = next(node for node in converted.graph.node if node.op_type == "TreeEnsembleRegressor")
        trees.input[:], trees.output[:], trees.name = ["table"], ["corrections"], "forest"
        nodes, constants = hourly_rows.table_nodes("table")
        nodes += [
            trees,
            helper.make_node("Reshape", ["corrections", "by_hour"], ["by_window"]),
            helper.make_node("Gather", ["extra", "day_change"], ["forest_change"], axis=1),
            helper.make_node("Exp", ["forest_change"], ["forest_unit"]),
            helper.make_node("Mul", ["by_window", "forest_unit"], ["scaled"]),
            helper.make_node("ReduceMean", ["days", "one"], ["base"], keepdims=0),
            helper.make_node("Add", ["base", "scaled"], [output]),
        ]
        constants.append(numpy_helper.from_array(np.array([-1, HORIZON_HOURS], dtype=np.int64), "by_hour"))
        return nodes, constants


def architecture() -> RandomForest:
    """Untrained."""
    return RandomForest()
