"""Messages of topic `alerts`: what was seen, what was expected, since when, how sure, and the query that shows it."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote

from operators.alerting.episodes import Episode
from operators.alerting.evidence import ALERT, Evidence
from operators.alerting.rules import Rule
from operators.alerting.times import DAY_MS, iso

WORDS = {
    "spike": "more than expected",
    "drop": "less than expected",
    "stuck": "the reading does not move",
    "level_shift": "the usual level has changed",
    "missing": "no readings",
    "reset": "the counter fell",
    "negative": "negative energy",
}
HOUR_MS = 3_600_000
GENERATOR = "energyai:alerts/show/{fingerprint}"
"""Where no rule names an address: what `energyai alerts show` takes."""


def labels_of(rule: Rule, evidence: Evidence) -> dict[str, str]:
    """Identity of the alert that a rule makes of evidence: nothing that changes while it lasts."""
    if evidence.labels is not None:
        return dict(evidence.labels)
    labels = {"alertname": rule.alert, "severity": rule.severity, "tenant": evidence.tenant, "site": evidence.site}
    return labels if rule.scope == "site" else {**labels, "meter": evidence.meter}


def annotations_of(episode: Episode, labels: Mapping[str, str], inhibited_by: str = "") -> dict[str, str]:
    """What may change, as texts."""
    rule, best = episode.rule, episode.best
    if best.kind == ALERT:
        said = dict(best.annotations or {})
        said.setdefault("summary", f"{labels['alertname']} at {labels.get('site', 'default')}")
    else:
        said = _of_anomaly(episode, labels)
    if rule.summary:
        said["summary"] = _filled(rule.summary, {**labels, **said})
    if rule.runbook_url:
        said["runbook_url"] = rule.runbook_url
    said["since"] = iso(episode.since_ms)
    if episode.flapping:
        said["flapping"] = "true"
    if inhibited_by:
        said["inhibited_by"] = inhibited_by
    return said


def generator_url(rule: Rule, labels: Mapping[str, str], fingerprint: str, episode: Episode) -> str:
    """Where a person sees it: the rule's address with {fingerprint}, {site}, {meter}, {from_ms}, {to_ms} filled in."""
    values = {name: quote(value, safe="") for name, value in labels.items()}
    to = "now" if episode.goes_on else str(episode.end_ms + HOUR_MS)
    span = {"from_ms": str(episode.since_ms - DAY_MS), "to_ms": to}
    return _filled(rule.generator_url or GENERATOR, {"meter": "", **values, "fingerprint": fingerprint, **span})


def _of_anomaly(episode: Episode, labels: Mapping[str, str]) -> dict[str, str]:
    best = episode.best
    place = labels["site"] + (f"/{labels['meter']}" if "meter" in labels else "")
    said: dict[str, str] = {"kind": best.kind}
    parts = []
    if episode.rule.scope == "site":
        parts.append(f"at least {best.observed_kwh:.0f} of {best.expected_kwh:.0f} meters")
        said |= {"value": f"{best.observed_kwh:.0f}", "threshold": f"{best.lower_kwh:.0f}"}
    else:
        said |= _numbers(best)
        if best.detail is not None:
            parts.append(best.detail)
        elif best.observed_kwh is not None:
            parts.append(f"{_number(best.observed_kwh)} kWh seen")
        if best.expected_kwh is not None:
            band = (
                f" ({_number(best.lower_kwh)} to {_number(best.upper_kwh)})"
                if best.lower_kwh is not None and best.upper_kwh is not None
                else ""
            )
            parts.append(f"{_number(best.expected_kwh)} kWh{band} expected")
    parts.append(f"since {iso(episode.since_ms)[:16]}Z")
    if best.score is not None:
        parts.append(f"chance of it {_number(best.score)}")
        said["score"] = _number(best.score)
    said["summary"] = f"{place}: {WORDS[best.kind]}: " + ", ".join(parts)
    said["query"] = _query(episode, labels)
    if best.model_id:
        said["model_id"] = best.model_id
    return said


def _numbers(best: Evidence) -> dict[str, str]:
    said = {}
    low, high = best.lower_kwh, best.upper_kwh
    bound = low if best.kind in ("drop", "missing", "stuck", "negative") else high
    for name, value in (
        ("value", best.observed_kwh),
        ("expected", best.expected_kwh),
        ("lower", low),
        ("upper", high),
        ("threshold", bound),
    ):
        if value is not None:
            said[name] = _number(value)
    return said | {"anomaly_id": best.evidence_id}


def _query(episode: Episode, labels: Mapping[str, str]) -> str:
    begin = iso(episode.since_ms - DAY_MS)
    end = "infinity" if episode.goes_on else iso(episode.end_ms + HOUR_MS)
    if "meter" not in labels:
        where = f"meter_id IN (SELECT meter_id FROM meter WHERE site_id = {_literal(labels['site'])})"
        return (
            f"SELECT * FROM anomaly WHERE {where} AND start_ts >= '{begin}' AND start_ts < '{end}' "
            "ORDER BY start_ts, meter_id"
        )
    return (
        f"SELECT * FROM alert_context({_literal(labels['meter'])}, '{begin}'::timestamptz, '{end}'::timestamptz) "
        "ORDER BY bucket"
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _filled(template: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        template = template.replace("{" + name + "}", value)
    return template
