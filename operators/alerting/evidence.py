"""What alerts are made of: anomalies and alerts of other jobs, in versions that are joined in any order."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import orjson

from operators.alerting.times import time_ms

ALERT = "alert"
"""Kind of evidence that is an alert already (topic `alerts.control`)."""
KINDS = ("spike", "drop", "stuck", "level_shift", "missing", "reset", "negative")
OPEN = ("open", "updated")
RETRACTED = "retracted"
MAX_TEXT = 256


class EvidenceError(ValueError):
    """A message that is no anomaly and no alert."""


@dataclass(frozen=True)
class Evidence:
    """One anomaly (or foreign alert) as one message tells it. Times: epoch ms; energy: kWh of the step or span."""

    evidence_id: str
    meter: str
    site: str
    tenant: str
    kind: str
    start_ms: int
    end_ms: int | None
    """End of what has been seen; None: it began, and no end is known."""
    closed: bool
    """Whether `end_ms` is the end; else it goes on."""
    seen_ms: int
    """Event time up to which this version knows."""
    revision: int = 0
    retracted: bool = False
    score: float | None = None
    """The chance that so much is nothing odd, 0 to 1."""
    observed_kwh: float | None = None
    expected_kwh: float | None = None
    lower_kwh: float | None = None
    upper_kwh: float | None = None
    model_id: str | None = None
    detail: str | None = None
    """What was seen, in words, where it is no energy of a step."""
    labels: Mapping[str, str] | None = None
    """Identity of a foreign alert."""
    annotations: Mapping[str, str] | None = None
    """Its annotations."""

    @classmethod
    def of_anomaly(cls, fields: Mapping[str, Any], site: str | None = None) -> Self:
        """From a message of topic `anomalies`.

        Beside the contract's fields, these are understood where they are there: `site_id`, `tenant_id`, `revision`,
        `known_at` (event time of the version), `detail` (words), `status` (`open`, `updated`, `closed`, `retracted`).
        Without a `status`, an anomaly with an `end` is over.

        Args:
            fields: the message.
            site: of the meter, when the message does not say.

        Raises:
            EvidenceError: a required field is missing or of another type.
        """
        start, end = _time(fields, "start"), _time(fields, "end")
        if start is None:
            raise EvidenceError("start is missing")
        kind = fields.get("kind")
        if kind not in KINDS:
            raise EvidenceError(f"kind is {kind!r}")
        status = fields.get("status")
        closed = end is not None and status not in OPEN
        if end is not None and end < start:
            raise EvidenceError("end is before start")
        meter, tenant = _text(fields, "meter_id"), _text(fields, "tenant_id", "default")
        known = _time(fields, "known_at")
        return cls(
            evidence_id=_text(fields, "anomaly_id", f"{meter}/{kind}/{start}"),
            meter=meter,
            site=_text(fields, "site_id", site or "default"),
            tenant=tenant,
            kind=str(kind),
            start_ms=start,
            end_ms=end,
            closed=closed,
            seen_ms=max(start, end or start, known or 0),
            revision=_whole(fields.get("revision")),
            retracted=status == RETRACTED,
            model_id=None if fields.get("model_id") is None else str(fields["model_id"])[:MAX_TEXT],
            score=_number(fields.get("score")),
            observed_kwh=_number(fields.get("observed_kwh")),
            expected_kwh=_number(fields.get("expected_kwh")),
            lower_kwh=_number(fields.get("lower_kwh")),
            upper_kwh=_number(fields.get("upper_kwh")),
            detail=_clean(str(fields["detail"]))[:MAX_TEXT] if fields.get("detail") else None,
        )

    @classmethod
    def of_alert(cls, fields: Mapping[str, Any]) -> Self:
        """From a message of topic `alerts.control`: an alert in the contract's form.

        Raises:
            EvidenceError: no labels, name or start.
        """
        labels = fields.get("labels")
        start, end = _time(fields, "startsAt"), _time(fields, "endsAt")
        if not isinstance(labels, dict) or not labels.get("alertname") or start is None:
            raise EvidenceError("an alert needs labels.alertname and startsAt")
        identity = {str(key): _text(labels, key) for key in sorted(labels)}
        over = fields.get("status") == "resolved"
        if over and end is None:
            raise EvidenceError("a resolved alert needs endsAt")
        annotations = fields.get("annotations")
        told = annotations if isinstance(annotations, dict) else {}
        return cls(
            evidence_id=f"{fingerprint(identity)}/{start}",
            meter=identity.get("meter", ""),
            site=identity.get("site", "default"),
            tenant=identity.get("tenant", "default"),
            kind=ALERT,
            start_ms=start,
            end_ms=max(start, end) if over and end is not None else None,
            closed=over,
            seen_ms=max(start, end if over and end is not None else start),
            labels=identity,
            annotations={_clean(str(key)): _clean(str(value))[:2000] for key, value in told.items()},
        )

    def rank(self) -> tuple[Any, ...]:
        """Orders the versions of one anomaly: the greater one tells more."""
        return (self.revision, self.seen_ms, self.retracted, self.closed, self.pack())

    def join(self, other: Evidence | None) -> Evidence:
        """The version that counts: associative, commutative and idempotent, so that no order and no repeat matters."""
        return self if other is None or self.rank() >= other.rank() else other

    def pack(self) -> bytes:
        """As bytes, canonical."""
        return orjson.dumps({k: v for k, v in vars(self).items() if v is not None}, option=orjson.OPT_SORT_KEYS)

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """The inverse of `pack`. Keys of another version of the program are left out."""
        fields = orjson.loads(packed)
        return cls(**{"end_ms": None, **{k: v for k, v in fields.items() if k in cls.__dataclass_fields__}})


def fingerprint(labels: Mapping[str, str]) -> str:
    """An alert's identity: 16 hex digits of its labels, in any order.

    >>> fingerprint({"b": "2", "a": "1"}) == fingerprint({"a": "1", "b": "2"})
    True
    """
    identity = json.dumps(dict(labels), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _time(fields: Mapping[str, Any], name: str) -> int | None:
    try:
        return time_ms(fields.get(name))
    except (ValueError, OverflowError) as error:
        raise EvidenceError(f"{name}: {error}") from error


def _text(fields: Mapping[str, Any], name: str, default: str | None = None) -> str:
    value = fields.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT or not value.isprintable():
        raise EvidenceError(f"{name} is {str(value)[:40]!r}")
    return value


def _clean(text: str) -> str:
    return text.replace("\x00", "\ufffd")  # which PostgreSQL does not hold


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0
