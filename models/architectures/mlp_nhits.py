"""The mean of the perceptron and of the sequence model: they err otherwise, and cost twice as much."""

from __future__ import annotations

from models.architectures import mlp, nhits
from models.ensemble import Ensemble


def architecture() -> Ensemble:
    """Untrained."""
    return Ensemble("mlp_nhits", (mlp.architecture(), nhits.architecture()))
