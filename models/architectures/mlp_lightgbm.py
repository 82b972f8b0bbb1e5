"""The mean of the perceptron and of boosted trees: the most accurate here, and too dear for a large fleet."""

from __future__ import annotations

from models.architectures import lightgbm, mlp
from models.ensemble import Ensemble


def architecture() -> Ensemble:
    """Untrained."""
    return Ensemble("mlp_lightgbm", (mlp.architecture(), lightgbm.architecture()))
