"""From a trained architecture to one verified ONNX file, without a trace of the machine that made it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from models.contract import Architecture
from operators.features import QUANTILES, Inputs, feature_set_of
from operators.serving.drift import REFERENCE

TOLERANCE = 1e-5
"""Largest difference between the export and its trainer, relative to a level of one."""


class ExportError(RuntimeError):
    """The exported file does not do what the trained model does; nothing was written."""


@dataclass(frozen=True)
class Exported:
    """A verified model file."""

    content: bytes
    model_id: str
    """Architecture, features and the first 8 digits of the graph's SHA-256."""
    opset: int
    difference: float
    """Largest difference found between file and trainer, relative to a level of one; of the rows that did not flip."""
    flips: float
    """Share of rows in which a tree took another branch (`models.contract.Limits`); 0 of a network."""


def export(architecture: Architecture, probe: Inputs, reference: str = "") -> Exported:
    """Exports and checks against the trainer.

    Args:
        architecture: trained.
        probe: real inputs to compare on, n rows.
        reference: how its inputs were distributed (`operators.serving.drift.reference_of`); "": nobody says.

    Raises:
        ExportError: more rows than allowed differ beyond `TOLERANCE`, quantiles cross, or the file is too large.
    """
    model = onnx.load_from_string(architecture.to_onnx())
    _strip(model)
    digest = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    feature_set = feature_set_of(probe["extra"].shape[1])
    model_id = f"{architecture.name}-{feature_set}-{digest[:8]}"
    levels = ",".join(str(level) for level in QUANTILES)
    facts = {"model_id": model_id, "feature_set": feature_set, "quantiles": levels}
    for key, value in (facts | ({REFERENCE: reference} if reference else {})).items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    content = model.SerializeToString(deterministic=True)
    limits = architecture.limits
    if len(content) > limits.size:
        raise ExportError(f"the model is {len(content)} bytes, more than {limits.size}: make it smaller")
    expected = architecture.predict(probe)
    found = _run(content, probe)
    by_row = (np.abs(found - expected) / np.maximum(1.0, np.abs(expected))).max(axis=(1, 2))
    same = by_row <= TOLERANCE
    flips = float(1 - same.mean())
    if flips > limits.flips:
        raise ExportError(
            f"the export differs from the trained model by {by_row.max():.1e}, more than {TOLERANCE:.0e}, "
            f"in {flips:.2%} of the rows"
        )
    if (np.diff(found, axis=1) < 0).any():
        raise ExportError("the exported model's quantiles cross")
    return Exported(content, model_id, model.opset_import[0].version, float(by_row[same].max()), flips)


def _run(content: bytes, inputs: Inputs) -> NDArray[np.float32]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["quantiles"], inputs)[0])


def _strip(model: onnx.ModelProto) -> None:
    """Exporters write source lines and paths into every node: they leak the machine and change the checksum."""
    model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    graph.doc_string = ""
    del graph.value_info[:]
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
