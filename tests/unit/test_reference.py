"""What the shipped model's inputs looked like: in its card, and in the job that brings the model."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from jobs.forecast import shard_settings
from jobs.job_settings import JobSettings
from models.dataset import from_frame
from models.estate import InMemory
from models.reference import completed
from operators.forecaster import Forecaster
from operators.serving.drift import EDGES, psi, read_reference


def test_the_job_has_the_shipped_models_reference_and_none_for_another() -> None:
    known = {"kafka": "nowhere", "database_url": "", "model_keys": "00" * 32}
    found = read_reference(shard_settings(JobSettings(**known)).reference)
    assert found is not None
    assert found.keys() == EDGES.keys()
    assert all(sum(shares) == pytest.approx(1, abs=1e-5) for shares in found.values())
    assert psi(found["peak"], [round(1e6 * share) for share in found["peak"]]) < 1e-3
    assert shard_settings(JobSettings(**known, model="mine.onnx")).reference == ""
    # As long as this is so, the card is asked; a model that is trained now carries it.
    assert Forecaster.load().reference == ""


def test_a_card_gets_the_reference_of_its_own_meters_only() -> None:
    index = pd.date_range("2021-01-01", periods=24 * 30, freq="h", tz="UTC")
    values = np.random.default_rng(0).uniform(1, 2, (len(index), 5))
    series = from_frame(pd.DataFrame(values, index=index, columns=list("abcde")), "UTC")
    until_ms = series.start_ms + 30 * 86_400_000
    estate = InMemory.of([series], until_ms, 3, 0.2)
    card: dict[str, object] = {}
    completed(card, series, until_ms, 3, estate.facts().unseen)
    assert card == {"reference": json.loads(estate.reference())}
    with pytest.raises(ValueError, match="other meters"):
        completed(card, series, until_ms, 3, ["z"])
