"""What the architectures that are no torch networks share of their ONNX graphs."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from operators.features import CONTEXT_HOURS, HORIZON_HOURS, QUANTILES

OPSET = 20
ML_OPSET = 3  # of trees, ai.onnx.ml


def model(nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], extra: int) -> bytes:
    """A graph with the inputs and the output of the contract; `extra`: columns of that input."""
    graph = helper.make_graph(
        nodes,
        "forecaster",
        [
            helper.make_tensor_value_info("window", TensorProto.FLOAT, ["rows", CONTEXT_HOURS]),
            helper.make_tensor_value_info("extra", TensorProto.FLOAT, ["rows", extra]),
        ],
        [helper.make_tensor_value_info("quantiles", TensorProto.FLOAT, ["rows", len(QUANTILES), HORIZON_HOURS])],
        constants,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    content: bytes = made.SerializeToString(deterministic=True)
    return content
