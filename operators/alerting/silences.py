"""Silences: labels about which nobody is told for a time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from operators.alerting.patterns import matches


@dataclass(frozen=True)
class Silence:
    """Label → pattern (`*`, `?`), all of which must match; a label that is not there is the empty text."""

    silence_id: str
    matchers: Mapping[str, str]

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether it is about such an alert. One without matchers is about none.

        >>> Silence("s", {"site": "hq*"}).matches({"site": "hq-2", "meter": "b"})
        True
        """
        return bool(self.matchers) and all(
            matches(pattern, labels.get(name, "")) for name, pattern in self.matchers.items()
        )


def hiding(silences: Iterable[Silence], labels: Mapping[str, str]) -> str | None:
    """Id of a silence, of those in force, that is about the alert; None: none is."""
    return min((silence.silence_id for silence in silences if silence.matches(labels)), default=None)
