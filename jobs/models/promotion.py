"""Who is to be beaten: the champion as it was announced, or the model that the job brings along."""

from __future__ import annotations

import json
from typing import Any

from jobs.models import announce
from jobs.models.registering import registry
from operators.forecaster import SHIPPED_MODEL, Forecaster, shipped_sha256
from operators.serving import model_tables


def champion_of(database_url: str, model_name: str) -> tuple[Forecaster, dict[str, Any]]:
    """The model that serves, or was announced to, and its card.

    Raises:
        UserError, ModelError: it is not in the registry any more, or not what was signed.
    """
    named = model_tables.champion_of(announce.stored(database_url, model_name))
    if named is None or named.version == 0:
        card = json.loads(SHIPPED_MODEL.with_name("card.json").read_text(encoding="utf-8"))
        return Forecaster.load(SHIPPED_MODEL, shipped_sha256()), card
    version = registry().get(model_name, named.version)
    return version.model(), version.card()
