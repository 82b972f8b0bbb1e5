"""What records of sources' own formats have become besides readings: for the summary, and for people."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from operators.adapters import Parsed, Unreadable

SHOWN = 20
"""Unreadable records that a report names; the others are counted."""


@dataclass
class Account:
    """What a file's records have become besides readings."""

    skipped: Counter[str] = field(default_factory=Counter)
    """Understood, and no energy or power to take; by reason."""
    refused: int = 0
    """Could not be read."""
    unreadable: list[tuple[str, Unreadable]] = field(default_factory=list)
    """The first `SHOWN` of them, with their file's name."""
    left_out: list[str] = field(default_factory=list)
    """Files of a folder that are of no format that we know."""

    def add(self, name: str, part: Parsed) -> None:
        """Counts a part of file `name`."""
        self.skipped += part.skipped
        self.refused += part.refused
        self.unreadable += [(name, one) for one in part.unreadable[: SHOWN - len(self.unreadable)]]

    def merge(self, other: Account) -> None:
        """Counts another file's."""
        self.skipped += other.skipped
        self.refused += other.refused
        self.unreadable += other.unreadable[: SHOWN - len(self.unreadable)]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "skipped": sum(self.skipped.values()),
            "skipped_reasons": dict(self.skipped.most_common()),
            "unreadable": self.refused,
            "unreadable_first": [
                {"file": name, "place": one.place, "reason": one.reason} for name, one in self.unreadable
            ],
            "files_left_out": self.left_out,
        }

    def lines(self) -> list[str]:
        """For people: what was not taken, with the first places."""
        out = [f"skipped {n:,}: {reason}" for reason, n in self.skipped.most_common()]
        out += [f"unreadable: {name}, {one.place}: {one.reason}" for name, one in self.unreadable]
        if self.refused > len(self.unreadable):
            out.append(f"unreadable: and {self.refused - len(self.unreadable):,} more")
        return out + [f"left out: {name} (no format that replay knows)" for name in self.left_out]
