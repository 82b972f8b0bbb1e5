"""One file an architecture; each has `architecture()`, which gives an untrained `models.contract.Architecture`."""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from models.contract import Architecture, Range


def names() -> list[str]:
    """The architectures there are: the files of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str, **settings: Any) -> Architecture:
    """An untrained architecture by its file's name.

    Args:
        name: of the file.
        settings: fields of the architecture in place of its own; the names of its `SEARCH`.

    Raises:
        ValueError: there is none of that name, or it has no such setting.
    """
    if name not in names():
        raise ValueError(f"no architecture '{name}'; there are: {', '.join(names())}")
    made: Architecture = _module(name).architecture()
    unknown = sorted(set(settings) - set(search_space(name)))
    if unknown:
        raise ValueError(f"architecture '{name}' has no setting {', '.join(unknown)} to be chosen")
    for setting, value in settings.items():
        setattr(made, setting, value)
    return made


def search_space(name: str) -> Mapping[str, Range]:
    """The settings of an architecture that a search may choose, and from what; empty where there are none."""
    found: Mapping[str, Range] = getattr(_module(name), "SEARCH", {})
    return found


def _module(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")
