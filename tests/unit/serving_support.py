"""Small models for tests of the serving side: ONNX files without a training, and registries that hold them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from operators.features import (
    CALENDAR,
    FEATURE_SET,
    FEATURE_SETS,
    HISTORY_EXTRA,
    HORIZON_HOURS,
    QUANTILES,
    WITH_WEATHER,
)
from operators.forecaster import Forecaster
from operators.serving import signing


def model_bytes(factor: float = 1.0, spread: float = 0.3, reference: str = "", weather: float = 0.0) -> bytes:
    """An ONNX model whose median is `factor` times the day before, with a band of `spread` levels to each side.

    With `weather` it reads it, and adds so many levels for each 10 °C that an hour is warmer than the week was then.
    """
    from onnx import TensorProto, helper, numpy_helper

    feature_set = WITH_WEATHER if weather else FEATURE_SET
    by_hour = np.zeros((FEATURE_SETS[feature_set], HORIZON_HOURS), np.float32)
    if weather:
        first = HISTORY_EXTRA + CALENDAR
        by_hour[first : first + HORIZON_HOURS] = weather * np.eye(HORIZON_HOURS)
    levels = np.array([(q - 0.5) * 2 * spread for q in QUANTILES], np.float32).reshape(1, len(QUANTILES), 1)
    constants = {
        "starts": np.array([-HORIZON_HOURS], np.int64),
        "ends": np.array([2**31 - 1], np.int64),
        "axes": np.array([1], np.int64),
        "shape": np.array([-1, 1, HORIZON_HOURS], np.int64),
        "factor": np.array(factor, np.float32),
        "levels": levels,
        # Every input has a part in the result, or the exporter's contract would not hold.
        "by_hour": by_hour,
    }
    nodes = [
        helper.make_node("Slice", ["window", "starts", "ends", "axes"], ["day"]),
        helper.make_node("Mul", ["day", "factor"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "shape"], ["median"]),
        helper.make_node("Add", ["median", "levels"], ["spread"]),
        helper.make_node("MatMul", ["extra", "by_hour"], ["sky"]),
        helper.make_node("Reshape", ["sky", "shape"], ["skies"]),
        helper.make_node("Add", ["spread", "skies"], ["quantiles"]),
    ]
    graph = helper.make_graph(
        nodes,
        "test",
        [
            helper.make_tensor_value_info("window", TensorProto.FLOAT, ["m", 168]),
            helper.make_tensor_value_info("extra", TensorProto.FLOAT, ["m", len(by_hour)]),
        ],
        [helper.make_tensor_value_info("quantiles", TensorProto.FLOAT, ["m", len(QUANTILES), HORIZON_HOURS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    facts = {"model_id": f"test-{factor}-{spread}", "feature_set": feature_set, "reference": reference}
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)
    return bytes(model.SerializeToString(deterministic=True))


def forecaster(factor: float = 1.0, spread: float = 0.3) -> Forecaster:
    """The same, loaded."""
    return Forecaster.from_bytes(model_bytes(factor, spread))


def trained(folder: Path, factor: float = 1.0, spread: float = 0.3, **data: object) -> Path:
    """A model with its card, as `energyai train` would write them; `data` goes into the card."""
    folder.mkdir(parents=True, exist_ok=True)
    content = model_bytes(factor, spread)
    path = folder / "forecaster.onnx"
    path.write_bytes(content)
    card = {"sha256": hashlib.sha256(content).hexdigest(), "data": {"name": "test", **data}, "metrics": []}
    (folder / "card.json").write_text(json.dumps(card))
    return path


KEY = signing.new_key()
PUBLIC = (signing.public_of(KEY),)
