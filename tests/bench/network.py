"""Writes the network of workload W: `python -m tests.bench.network FILE`, in the peers' environment, which has onnx.

Weights are drawn from a fixed seed: what it says means nothing, what it costs is that of a trained one.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.bench.workload import HIDDEN, HISTORY, SEED, STEPS


def build() -> onnx.ModelProto:
    """`x` [n, 96] → `y` [n, 72], two hidden layers of 128 with ReLU."""
    rng = np.random.default_rng(SEED)
    sizes = (HISTORY, HIDDEN, HIDDEN, STEPS)
    nodes, weights, name = [], [], "x"
    for layer, (before, after) in enumerate(pairwise(sizes)):
        w = (rng.standard_normal((before, after)) * np.sqrt(2.0 / before)).astype(np.float32)
        b = (0.1 * rng.standard_normal(after)).astype(np.float32)
        weights += [numpy_helper.from_array(w, f"w{layer}"), numpy_helper.from_array(b, f"b{layer}")]
        last = after == STEPS
        out = "y" if last else f"h{layer}"
        nodes.append(helper.make_node("Gemm", [name, f"w{layer}", f"b{layer}"], [out]))
        if not last:
            nodes.append(helper.make_node("Relu", [out], [f"r{layer}"]))
        name = f"r{layer}"
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", HISTORY])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", STEPS])
    graph = helper.make_graph(nodes, "workload-w", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def main() -> int:
    """Writes the file that the command line names."""
    Path(sys.argv[1]).write_bytes(build().SerializeToString())
    return 0


if __name__ == "__main__":
    sys.exit(main())
