"""What the forecast operator is told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ShardSettings:
    """What the operator is told, beside the model's bytes; travels to the workers."""

    kafka: str
    meters_topic: str
    models_topic: str
    model_name: str = "forecaster"
    model_keys: tuple[str, ...] = ()
    """Public keys, one of which must have signed a model that is announced."""
    weather_topic: str = "weather"
    reference: str = ""
    """How the inputs of the model that the job brings were distributed, where its file does not say so."""
