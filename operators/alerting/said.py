"""What has been said of an alert's episodes, and the messages that say what is new."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple, Self

import orjson

from operators.alerting.history import Alert
from operators.alerting.messages import annotations_of, generator_url
from operators.alerting.schedule import ESCALATED, RESOLVED, Told, due
from operators.alerting.times import iso

Message = dict[str, Any]


class Row(NamedTuple):
    """A row of table `alert`."""

    fingerprint: str
    labels: dict[str, str]
    starts_ms: int
    ends_ms: int | None
    changed_ms: int
    """Event time at which it was written as it stands."""


@dataclass(frozen=True)
class Said:
    """What has been said of one episode."""

    starts_ms: int
    ends_ms: int | None
    content: str
    """Digest of the message's changing part, to see whether there is news."""
    told: Told
    labels: dict[str, str]
    origin_ms: int
    """Its first start: later ones may move, and notifications keep their names."""
    recalled: bool = False
    """Known from the table alone: whether anybody was told is not."""
    gone: bool = False
    """It was taken back: kept so that one that begins there again goes on counting its notifications."""

    def taken_back(self) -> Self:
        """The same, of which nothing is owed any more."""
        return replace(self, gone=True, told=replace(self.told, resolved=self.told.fired))

    def begun_again(self, starts_ms: int) -> Self:
        """The same, as what was said of a new alert that begins where it did."""
        return replace(self, gone=False, content="", starts_ms=starts_ms, ends_ms=None)

    def pack(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def unpack(cls, values: dict[str, Any]) -> Self:
        """The inverse of `pack`."""
        return cls(**{**values, "told": Told(**values["told"])})


def say(alert: Alert, before: Said | None, floor_ms: int) -> tuple[Said, list[Message]]:
    """The messages about one episode; none where nothing is new.

    Args:
        alert: as the history has it.
        before: what was said of it.
        floor_ms: where its evidence ends that is no longer kept: its start is not before that only because of it.
    """
    episode, clock_ms = alert.episode, alert.clock_ms
    starts = episode.fired_ms
    if before is not None and before.starts_ms < starts <= floor_ms:
        starts = before.starts_ms
    firing = episode.firing(clock_ms)
    ends = None if firing else max(episode.end_ms, episode.fired_ms)
    message: Message = {
        "fingerprint": alert.fingerprint,
        "status": "firing" if firing else RESOLVED,
        "labels": alert.labels,
        "annotations": annotations_of(episode, alert.labels, alert.inhibited_by),
        "startsAt": iso(starts),
        "endsAt": None if ends is None else iso(ends),
        "generatorURL": generator_url(episode.rule, alert.labels, alert.fingerprint, episode),
        "tenant_id": alert.labels.get("tenant", "default"),
    }
    content = hashlib.sha256(orjson.dumps(message, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
    tells, told = due(episode, alert.hidden, before.told if before else Told(), clock_ms)
    origin = before.origin_ms if before is not None and before.told.fired else starts
    message["at"] = iso(clock_ms)
    moved = before is not None and before.starts_ms != starts
    if before is not None and moved:
        message["supersedes"] = iso(before.starts_ms)
    news = []
    for kind, number in tells:
        to = episode.rule.escalate_to if kind == ESCALATED else ()
        notify = {"kind": kind, "id": f"{alert.fingerprint}-{origin}-{kind}-{number}"}
        news.append({**message, "notify": notify, "receivers": list(to or episode.rule.receivers)})
        message.pop("supersedes", None)
    if not tells and (before is None or moved or before.content != content):
        news.append({**message, "notify": None, "receivers": []})
    return Said(starts, ends, content, told, alert.labels, origin), news


def retract(name: str, gone: Said, clock_ms: int, *, tell: bool) -> Message:
    """Says that an alert was none, or belongs to an earlier one (`tell`: not to be told that it is over)."""
    # Delivery tells those who were told that it fires: of a recalled one it is asked to, whoever that was.
    number = max(1, gone.told.fired)
    notify = {"kind": RESOLVED, "id": f"{name}-{gone.origin_ms}-{RESOLVED}-{number}"}
    return {
        "fingerprint": name,
        "status": RESOLVED,
        "labels": gone.labels,
        "annotations": {"summary": f"{gone.labels['alertname']}: retracted, later readings explain it"},
        "startsAt": iso(gone.starts_ms),
        "endsAt": iso(max(gone.starts_ms, clock_ms if gone.ends_ms is None else gone.ends_ms)),
        "generatorURL": "",
        "tenant_id": gone.labels.get("tenant", "default"),
        "at": iso(clock_ms),
        "retracted": True,
        "notify": notify if tell and (gone.recalled or gone.told.fired > gone.told.resolved) else None,
        "receivers": [],
    }
