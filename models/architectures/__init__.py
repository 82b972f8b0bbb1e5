"""One file an architecture; each has `architecture()`, which gives an untrained `models.contract.Architecture`."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from models.contract import Architecture


def names() -> list[str]:
    """The architectures there are: the files of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> Architecture:
    """An untrained architecture by its file's name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in names():
        raise ValueError(f"no architecture '{name}'; there are: {', '.join(names())}")
    made: Architecture = import_module(f"{__name__}.{name}").architecture()
    return made
