"""Gradient-boosted trees (LightGBM, Ke et al. 2017), one model a quantile, a row an hour of the forecast."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models import hourly_rows, onnx_parts
from models.contract import Batch, Fit, Limits, NotTrainedError, Range
from operators.features import DAY_CHANGE, HORIZON_HOURS, QUANTILES, Inputs

TREES = Limits(size=40_000_000, flips=0.001)
MOST_WINDOWS = 40_000
"""24 rows each: about a gigabyte while training."""


SEARCH = {"trees": Range(80, 240, 40), "leaves": Range(15, 63, 16)}


@dataclass
class LightgbmArchitecture:
    """Corrections of the mean of seven days, in units of the meter's change from day to day."""

    name: str = "lightgbm"
    limits: Limits = TREES
    trees: int = 160
    leaves: int = 63
    _models: list[Any] = field(default_factory=list, init=False, repr=False)
    _extra: int = field(default=0, init=False, repr=False)

    def fit(self, batches: Iterator[Batch], how: Fit, progress: Callable[[float, float], None]) -> bool:
        """As `Architecture.fit`; a time limit keeps the number of trees and trains on fewer windows."""
        import lightgbm

        windows = hourly_rows.collected(batches, how.steps, MOST_WINDOWS)
        table, self._extra = hourly_rows.table(windows.inputs), windows.inputs["extra"].shape[1]
        wanted = (windows.target - hourly_rows.base(windows.inputs["window"])) / _unit(windows.inputs)[:, None]
        known = np.isfinite(wanted.reshape(-1))
        rows = lightgbm.Dataset(table[known], wanted.reshape(-1)[known], free_raw_data=False)
        self._models = []
        for i, level in enumerate(QUANTILES):
            settings = {
                "objective": "quantile",
                "alpha": level,
                "num_leaves": self.leaves,
                "learning_rate": 0.1,
                "min_data_in_leaf": 100,
                "feature_fraction": 0.7,
                "bagging_fraction": 0.7,
                "bagging_freq": 1,
                "lambda_l2": 1.0,
                "seed": how.seed,
                "deterministic": True,
                "force_row_wise": True,
                "num_threads": 1,
                "verbosity": -1,
            }
            self._models.append(_in_float32(lightgbm.train(settings, rows, num_boost_round=self.trees)))
            progress((i + 1) / len(QUANTILES), 0.0)
        return True

    def predict(self, inputs: Inputs) -> NDArray[np.float32]:
        """As `Architecture.predict`."""
        if not self._models:
            raise NotTrainedError
        table = hourly_rows.table(inputs)
        corrections = np.stack([model.predict(table, num_threads=1) for model in self._models], axis=1)
        corrections = np.sort(corrections.reshape(-1, HORIZON_HOURS, len(QUANTILES)), axis=2).transpose(0, 2, 1)
        scaled = corrections * _unit(inputs)[:, None, None] + hourly_rows.base(inputs["window"])[:, None, :]
        return np.asarray(scaled, dtype=np.float32)

    def to_onnx(self) -> bytes:
        """As `Architecture.to_onnx`."""
        if not self._models:
            raise NotTrainedError
        nodes, constants = hourly_rows.table_nodes("table")
        for i, model in enumerate(self._models):
            nodes.append(_tree_node(model, f"level_{i}"))
        nodes += [
            helper.make_node("Concat", [f"level_{i}" for i in range(len(QUANTILES))], ["levels"], axis=1),
            helper.make_node("Reshape", ["levels", "by_hour"], ["by_window"]),
            helper.make_node("TopK", ["by_window", "all_levels"], ["ordered", "order"], axis=2, largest=0, sorted=1),
            helper.make_node("Transpose", ["ordered"], ["corrections"], perm=[0, 2, 1]),
            helper.make_node("Gather", ["extra", "day_change"], ["change"], axis=1),
            helper.make_node("Exp", ["change"], ["unit"]),
            helper.make_node("Unsqueeze", ["unit", "one"], ["unit_wide"]),
            helper.make_node("Mul", ["corrections", "unit_wide"], ["scaled"]),
            helper.make_node("ReduceMean", ["days", "one"], ["base"], keepdims=1),
            helper.make_node("Add", ["scaled", "base"], ["quantiles"]),
        ]
        constants += [
            numpy_helper.from_array(np.array([-1, HORIZON_HOURS, len(QUANTILES)], dtype=np.int64), "by_hour"),
            numpy_helper.from_array(np.array([len(QUANTILES)], dtype=np.int64), "all_levels"),
            numpy_helper.from_array(np.array([DAY_CHANGE], dtype=np.int64), "day_change"),
        ]
        return onnx_parts.model(nodes, constants, self._extra)


def _in_float32(model: Any) -> Any:
    """The same trees with each threshold at the largest float32 that is not above it.

    For float32 values the branches are the same, and now ONNX, which stores float32, takes them too.
    """
    import lightgbm

    def rounded(line: str) -> str:
        exact = np.array(line.removeprefix("threshold=").split(), dtype=np.float64)
        near = exact.astype(np.float32)
        below = np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)
        return "threshold=" + " ".join(repr(float(value)) for value in below)

    lines = model.model_to_string().split("\n")
    trees = [rounded(line) if line.startswith("threshold=") else line for line in lines]
    # The sizes of the trees' texts have changed with them.
    return lightgbm.Booster(model_str="\n".join(line for line in trees if not line.startswith("tree_sizes=")))


def _unit(inputs: Inputs) -> NDArray[np.float32]:
    """Mean absolute change over a day: what a correction is measured in."""
    return np.asarray(np.exp(inputs["extra"][:, DAY_CHANGE]))


def _tree_node(model: Any, output: str) -> onnx.NodeProto:
    """The one node of trees that the converter makes, from `table` to `output`."""
    from onnxmltools.convert import convert_lightgbm  # type: ignore[import-untyped]
    from onnxmltools.convert.common.data_types import FloatTensorType  # type: ignore[import-untyped]

    converted = convert_lightgbm(
        model, initial_types=[("table", FloatTensorType([None, model.num_feature()]))], target_opset=15
    )
    node: onnx.NodeProto = next(node for node in converted.graph.node if node.op_type == "TreeEnsembleRegressor")
    node.output[:] = [output]
    node.input[:] = ["table"]
    node.name = output
    return node


def architecture() -> LightgbmArchitecture:
    """Untrained."""
    return LightgbmArchitecture()
