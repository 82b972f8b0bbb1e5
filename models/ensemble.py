"""Several architectures as one: the mean of their quantiles (Vincentization), which cannot cross when theirs do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import compose, helper

from models.contract import Architecture, Batch, Fit, Limits
from models.onnx_parts import OPSET
from operators.features import Inputs


class Ensemble:
    """Members trained one after the other, each on batches and a seed of its own."""

    def __init__(self, name: str, members: Sequence[Architecture]) -> None:
        self.name = name
        self._members = tuple(members)
        self.limits = Limits(
            sum(member.limits.size for member in self._members), sum(member.limits.flips for member in self._members)
        )

    def fit(self, batches: Iterator[Batch], how: Fit, progress: Callable[[float, float], None]) -> bool:
        """As `Architecture.fit`; steps and time are shared out evenly."""
        count = len(self._members)
        whole = True
        for i, member in enumerate(self._members):
            part = replace(
                how,
                seed=how.seed + i,
                steps=max(1, how.steps // count),
                limit_s=None if how.limit_s is None else how.limit_s / count,
            )
            done = i / count
            whole &= member.fit(batches, part, lambda share, loss, done=done: progress(done + share / count, loss))  # type: ignore[misc]
        return whole

    def predict(self, inputs: Inputs) -> NDArray[np.float32]:
        """As `Architecture.predict`."""
        return np.asarray(np.mean([member.predict(inputs) for member in self._members], axis=0), dtype=np.float32)

    def to_onnx(self) -> bytes:
        """As `Architecture.to_onnx`: the members' graphs side by side on the same inputs."""
        parts = [self._member(i, member.to_onnx()) for i, member in enumerate(self._members)]
        graphs = [part.graph for part in parts]
        outputs = [graph.output[0].name for graph in graphs]
        nodes = [node for graph in graphs for node in graph.node]
        nodes.append(helper.make_node("Mean", outputs, ["quantiles"]))
        result = graphs[0].output[0]
        result.name = "quantiles"
        graph = helper.make_graph(
            nodes, "forecaster", graphs[0].input, [result], [each for graph in graphs for each in graph.initializer]
        )
        opsets = {entry.domain: entry for part in parts for entry in part.opset_import}
        made = helper.make_model(graph, opset_imports=list(opsets.values()), ir_version=parts[0].ir_version)
        content: bytes = made.SerializeToString(deterministic=True)
        return content

    @staticmethod
    def _member(number: int, content: bytes) -> onnx.ModelProto:
        """A member's graph, its names made its own, those of the inputs left."""
        model = onnx.load_from_string(content)
        opset = next(entry.version for entry in model.opset_import if not entry.domain)
        if opset != OPSET:
            raise RuntimeError(f"member {number} is of opset {opset}, the others of {OPSET}: export it at {OPSET}")
        prefixed: onnx.ModelProto = compose.add_prefix(model, f"m{number}_", rename_inputs=False)
        return prefixed
