"""What `energyai train --register` and `energyai models register` do."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

from jobs.errors import UserError
from jobs.models import keys
from jobs.models.announce import store_version
from jobs.models.registry import NAME, Registry, Version, default_root
from jobs.settings import Settings, addresses


def registry() -> Registry:
    """This installation's registry (ENERGYAI_REGISTRY)."""
    return Registry(default_root(), keys.trusted())


def register(model: Path, model_name: str = NAME, settings: Settings | None = None) -> Version:
    """Adds a trained model to the registry, and to `model_version` where a database is at hand.

    Args:
        model: an ONNX file of `energyai train`, its card beside it.
        model_name: whose next version it becomes.
        settings: where the stack is; None: as the environment says.

    Raises:
        UserError, ModelError: one line that says what is wrong.
    """
    version = registry().register(model, keys.signing_key(), model_name)
    found = None
    with suppress(UserError):  # registering needs no stack; `promote` writes the row in any case
        found = addresses(settings or Settings.load())
    if found is not None:
        store_version(found.database_url, version, metrics_of(version))
    return version


def metrics_of(version: Version) -> dict[str, object]:
    """The figures of a version's card, by group of meters."""
    groups = version.card().get("metrics") or []
    return {str(group["group"]): _plain({k: v for k, v in group.items() if k != "group"}) for group in groups}


def _plain(value: Any) -> Any:
    """The database's JSON knows no NaN."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
