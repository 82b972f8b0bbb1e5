"""Rules that make alerts of evidence, and the books of rules that were in force one after another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from operators.alerting.evidence import ALERT, Evidence
from operators.alerting.patterns import matches
from operators.alerting.times import DAY_MS, duration_ms

LONGEST_HOLD_MS = DAY_MS
"""The most that `hold`, `flap.hold` and `flap.within` may be: what is further apart is another episode."""
ALWAYS = -1
"""Effective time of a book that was there before everything."""
RUNBOOK = "docs/alerts.md"


@dataclass(frozen=True)
class Flap:
    """So many starts within a time hold an alert up for longer, so that it does not come and go."""

    changes: int = 4
    within_ms: int = 2 * 3_600_000
    hold_ms: int = 3_600_000


@dataclass(frozen=True)
class Rule:
    """One rule: which evidence, and what becomes of it. Durations in ms of event time."""

    alert: str
    kinds: tuple[str, ...] = ()
    severity: str = "warning"
    scope: str = "meter"
    """`meter`: an alert a meter; `site`: one, when enough meters of the site have such evidence at once."""
    sites: tuple[str, ...] = ("*",)
    """Patterns, of which one must match."""
    meters: tuple[str, ...] = ("*",)
    max_score: float | None = None
    """Evidence that is more likely than this to be nothing does not begin an alert."""
    clear_score: float | None = None
    """Evidence that is more likely than this to be nothing does not keep one up; None: `max_score`."""
    for_ms: int = 0
    hold_ms: int = 900_000
    repeat_ms: int = 0
    """0: never told again."""
    flap: Flap | None = Flap()
    escalate_after_ms: int = 0
    """0: never."""
    escalate_to: tuple[str, ...] = ()
    receivers: tuple[str, ...] = ()
    """Empty: all."""
    inhibits: tuple[str, ...] = ()
    """Names of alerts of the same site that are not told while this one fires."""
    share: float = 0.5
    min_meters: int = 3
    summary: str = ""
    runbook_url: str = RUNBOOK
    generator_url: str = ""
    enabled: bool = True

    @classmethod
    def of(cls, entry: Mapping[str, Any], shipped: Self | None = None) -> Self:
        """From a checked entry of a configuration file.

        Args:
            entry: its keys; one that is null counts as missing.
            shipped: the rule whose place it takes, and whose values stand for missing keys; None: the defaults do.

        Raises:
            ValueError: a duration that is none.
        """
        values: dict[str, Any] = {}
        names = {field.name for field in fields(cls)}
        for key, value in entry.items():
            if value is None:
                continue
            if key in ("for", "hold", "repeat"):
                values[f"{key}_ms"] = duration_ms(value)
            elif key == "flap":
                told = {k if k == "changes" else f"{k}_ms": v for k, v in value.items()}
                values["flap"] = (
                    Flap(**{k: duration_ms(v) if k.endswith("_ms") else int(v) for k, v in told.items()})
                    if value.get("changes") != 0
                    else None
                )
            elif key == "escalate":
                if value:
                    values["escalate_after_ms"] = duration_ms(value["after"])
                    values["escalate_to"] = tuple(value.get("receivers", ()))
            elif key in names:
                values[key] = tuple(value) if isinstance(value, list) else value
        return cls(**values) if shipped is None else replace(shipped, **values)

    def takes(self, evidence: Evidence) -> bool:
        """Whether the evidence is of the rule's kind and place (at whatever score)."""
        of_kind = (
            evidence.labels is not None and evidence.labels.get("alertname") == self.alert
            if evidence.kind == ALERT
            else evidence.kind in self.kinds
        )
        return of_kind and _one(self.sites, evidence.site) and _one(self.meters, evidence.meter)

    def begins(self, evidence: Evidence) -> bool:
        """Whether it may begin an alert."""
        return self.max_score is None or evidence.score is None or evidence.score <= self.max_score

    def keeps(self, evidence: Evidence) -> bool:
        """Whether it keeps one up."""
        bound = self.max_score if self.clear_score is None else self.clear_score
        return bound is None or evidence.score is None or evidence.score <= bound


@dataclass(frozen=True)
class Book:
    """The rules that are in force from an event time on."""

    from_ms: int
    rules: tuple[Rule, ...]

    @classmethod
    def of(cls, from_ms: int, entries: Iterable[Mapping[str, Any]]) -> Self:
        """The shipped rules, and `entries` over them where the name is the same."""
        rules = {rule.alert: rule for rule in DEFAULT_RULES}
        for entry in entries:
            rules[entry["alert"]] = Rule.of(entry, rules.get(entry["alert"]))
        return cls(from_ms, tuple(rule for rule in rules.values() if rule.enabled))

    def of_evidence(self, evidence: Evidence) -> list[Rule]:
        """The rules that take the evidence; a foreign alert without a rule of its name has a plain one."""
        found = [rule for rule in self.rules if rule.takes(evidence)]
        if not found and evidence.kind == ALERT and evidence.labels is not None:
            found = [_plain(evidence.labels)]
        return found


def _plain(labels: Mapping[str, str]) -> Rule:
    return Rule(labels["alertname"], severity=labels.get("severity", "warning"), hold_ms=0, flap=None, runbook_url="")


def _one(patterns: Sequence[str], name: str) -> bool:
    return any(matches(pattern, name) for pattern in patterns)


_HOUR = 3_600_000
DEFAULT_RULES = (
    Rule("MeterSpike", ("spike",), repeat_ms=24 * _HOUR),
    Rule("MeterDrop", ("drop",), repeat_ms=24 * _HOUR),
    Rule("MeterStuck", ("stuck",), repeat_ms=24 * _HOUR),
    Rule("MeterLevelShift", ("level_shift",), hold_ms=_HOUR, repeat_ms=7 * 24 * _HOUR),
    Rule("MeterMissing", ("missing",), for_ms=_HOUR // 4, repeat_ms=24 * _HOUR),
    Rule("MeterReset", ("reset",), severity="info"),
    Rule("MeterNegative", ("negative",)),
    Rule(
        "SiteOutage",
        ("missing",),
        severity="critical",
        scope="site",
        repeat_ms=4 * _HOUR,
        escalate_after_ms=2 * _HOUR,
        inhibits=("MeterMissing", "MeterStuck", "MeterDrop"),
    ),
)
"""What is in force where nobody has configured anything."""
