"""The announcements of one model as a plan: which version serves a forecast that is issued at a given time.

A plan is a set: the order and the number of times in which its announcements arrive do not matter. Of those that are
in force at a time the one that was announced last counts, so that a rollback overrides a promotion that was announced
before it, even one that would have come into force later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self

import orjson

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"
"""Not announced: the champion before the present one, scored beside it for a while."""
ALIASES = (CHAMPION, CHALLENGER)
KEPT = 100
"""Announcements that a message or a state carries at most, the newest."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGEST_MS = 253_402_300_800_000


class AnnouncementError(ValueError):
    """A message of the topic `models` that says nothing usable; one line."""


@dataclass(frozen=True, order=True)
class Announcement:
    """One version in one role, from one event time on. Ordered by when it was announced."""

    announced_ms: int
    effective_ms: int
    version: int
    sha256: str
    alias: str
    uri: str = ""
    """Where the model's file is; empty (version 0) for the model that the job brings along."""
    reason: str = ""
    withdrawn: bool = False
    """Nobody has the role any more (of `challenger` only)."""

    @classmethod
    def of(cls, fields: Mapping[str, Any], announced_ms: int = 0) -> Self:
        """From a message's fields, or from one entry of its `plan`.

        Args:
            fields: as in the contract; `announced_at` is optional.
            announced_ms: when the message came, where it does not say it itself.

        Raises:
            AnnouncementError: a field is missing or of another type.
        """
        alias, sha256, version = fields.get("alias"), fields.get("sha256"), fields.get("version")
        if alias not in ALIASES:
            raise AnnouncementError(f"alias {alias!r}: expected champion or challenger")
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256.lower()):
            raise AnnouncementError("sha256 is no SHA-256 in hexadecimal")
        if isinstance(version, bool) or not isinstance(version, int) or version < 0:
            raise AnnouncementError(f"version {version!r}: expected a whole number")
        if version and not fields.get("uri"):
            raise AnnouncementError("uri is missing: where the model's file is")
        said = fields.get("announced_at")
        return cls(
            announced_ms if said is None else _time_ms(said, "announced_at"),
            _time_ms(fields.get("effective_from"), "effective_from"),
            version,
            sha256.lower(),
            str(alias),
            str(fields.get("uri") or ""),
            str(fields.get("reason") or ""),
            alias == CHALLENGER and bool(fields.get("withdrawn")),
        )

    def fields(self) -> dict[str, Any]:
        """For a message: what `of` reads."""
        return {
            "version": self.version,
            "alias": self.alias,
            "uri": self.uri,
            "sha256": self.sha256,
            "effective_from": utc(self.effective_ms),
            "announced_at": utc(self.announced_ms),
            "reason": self.reason,
            **({"withdrawn": True} if self.withdrawn else {}),
        }


def utc(ms: int) -> str:
    """Epoch ms as ISO-8601 in UTC, to the millisecond.

    >>> utc(1_700_000_000_500)
    '2023-11-14T22:13:20.500Z'
    """
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{ms % 1000:03d}Z"


def _time_ms(value: Any, name: str) -> int:
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            raise AnnouncementError(f"{name} {value[:40]!r} is no ISO-8601 time") from None
        if found.tzinfo is None:
            raise AnnouncementError(f"{name} {value!r} has no offset")
        value = round(found.timestamp() * 1000)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _LARGEST_MS:
        raise AnnouncementError(f"{name}: expected ISO-8601 with an offset, or epoch milliseconds")
    return value


def message(
    model_name: str, plan: Iterable[Announcement], feature_set: str = "", metrics: Mapping[str, Any] | None = None
) -> bytes:
    """A message of the topic `models`: the newest announcement, and in `plan` those before it, which compaction drops.

    Raises:
        ValueError: the plan is empty.
    """
    known = sorted(set(plan))[-KEPT:]
    if not known:
        raise ValueError("a plan without an announcement has no message")
    return orjson.dumps(
        {
            "model_name": model_name,
            **known[-1].fields(),
            "feature_set": feature_set,
            "metrics": dict(metrics or {}),
            "plan": [each.fields() for each in known],
        }
    )


def read(value: bytes, came_ms: int) -> tuple[str, frozenset[Announcement]]:
    """Model name and announcements of a message of the topic `models`.

    Args:
        value: JSON.
        came_ms: the record's time, which orders a message that does not say when it was announced.

    Raises:
        AnnouncementError: not a message of the contract.
    """
    try:
        fields = orjson.loads(value)
    except orjson.JSONDecodeError:
        raise AnnouncementError("not JSON") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("model_name"), str):
        raise AnnouncementError("model_name is missing")
    plan = fields.get("plan") or []
    if not isinstance(plan, list) or not all(isinstance(each, dict) for each in plan):
        raise AnnouncementError("plan: expected a list of announcements")
    found = {Announcement.of(each) for each in plan}
    if not plan:
        found.add(Announcement.of(fields, came_ms))
    return fields["model_name"], frozenset(found)


@dataclass(frozen=True)
class Pinned:
    """Announcements that one shard has taken, each with the time from which it counts there.

    That is `effective_from`, or for one that the shard saw too late the time after its newest forecast: what was
    issued stays as it is.
    """

    since: Mapping[Announcement, int]

    @classmethod
    def none(cls) -> Self:
        """No announcement yet."""
        return cls({})

    def taking(self, new: Iterable[Announcement], issued_ms: int) -> Pinned:
        """With further announcements; those that are there keep their time.

        Args:
            new: in any order, repeated or not.
            issued_ms: the time of the shard's newest forecast, epoch ms.
        """
        fresh = {each: max(each.effective_ms, issued_ms + 1) for each in new if each not in self.since}
        if not fresh:
            return self
        both = {**self.since, **fresh}
        return Pinned({each: both[each] for each in sorted(both)[-KEPT:]})

    def serving(self, alias: str, at_ms: int) -> Announcement | None:
        """Who has the role for a forecast issued at `at_ms`; None: nobody, or the model that the job brought along."""
        found = max((e for e, since in self.since.items() if e.alias == alias and since <= at_ms), default=None)
        return None if found is None or found.withdrawn else found

    def before(self, champion: Announcement) -> tuple[bool, Announcement | None]:
        """The champion before one: whether there was one that counts for comparison, and which (None: the job's own).

        A rollback has none: its predecessor was found worse already.
        """
        return not champion.reason.startswith(ROLLBACK), self.serving(CHAMPION, self.since[champion] - 1)

    def to_json(self) -> list[dict[str, Any]]:
        """For a checkpoint."""
        return [{**asdict(each), "since": since} for each, since in sorted(self.since.items())]

    @classmethod
    def from_json(cls, entries: Iterable[dict[str, Any]]) -> Self:
        """What `to_json` wrote."""
        return cls({Announcement(**{k: v for k, v in e.items() if k != "since"}): e["since"] for e in entries})


ROLLBACK = "rollback"
"""How the reason of a rollback begins."""
