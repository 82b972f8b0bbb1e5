"""Alert rules and receivers in a configuration file: what is read, and every problem with its line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jobs.config.schema import ConfigError, Known, parse
from jobs.delivery.receivers import Receiver
from operators.alerting.configured import rules_of, site_of
from operators.alerting.rules import Book

DOCS = Path(__file__).parents[2] / "docs" / "alerts.md"
BAD = """\
alerts:
  - alert: A
    kinds: [spike, odd]
    for: 5 minutes
    hold: 48h
    max_score: 0.5
    clear_score: 0.1
    receivers: [opps]
    escalate: {receivers: [ops]}
  - alert: B
    scope: site
    flap: {changes: 3, every: 1h}
  - kinds: spike
receivers:
  - receiver: ops
    url: ftp://host
  - receiver: pd
    type: pagerduty
  - receiver: hook
    url: https://user:pass@host/
    secret: plain
    allow_networks: [10.0.0.1/8]
    rate_per_minute: 0
    attempts: true
  - receiver: none
"""


def test_every_problem_with_its_line() -> None:
    with pytest.raises(ConfigError) as error:
        parse(BAD, "f.yaml")
    assert [str(problem) for problem in error.value.problems] == [
        "f.yaml:3: kinds: 'odd': use one of spike, drop, stuck, level_shift, missing, reset, negative",
        "f.yaml:4: for: '5 minutes' is no duration: write 90s, 15m, 1h30m or 7d",
        "f.yaml:5: hold: 48h is too long: want at most 24h",
        "f.yaml:7: clear_score 0.1 is below max_score 0.5: exchange them",
        "f.yaml:8: no receiver opps: add it under `receivers` (did you mean ops?)",
        "f.yaml:9: escalate: after is missing: add `after: …`",
        "f.yaml:11: a rule of scope site needs kinds: add `kinds: [missing]`",
        "f.yaml:12: flap: unknown key every: use changes, within, hold",
        "f.yaml:13: alert is missing: add `alert: …`",
        "f.yaml:13: kinds: expected a list such as [a, b], not 'spike'",
        "f.yaml:16: url: 'ftp://host' is no address: write https://host/path",
        "f.yaml:17: a receiver of type pagerduty needs routing_key: add `routing_key: {env: …}`",
        "f.yaml:20: url: no password belongs in an address: use `bearer` or `secret`",
        "f.yaml:21: secret: no secret belongs in this file: write {env: VARIABLE} or {file: /path/of/it}",
        "f.yaml:22: allow_networks: '10.0.0.1/8' is no network: write 10.1.2.0/24",
        "f.yaml:23: rate_per_minute: 0 is too small: want more than 0",
        "f.yaml:24: attempts: True: want a whole number from 1 to 1000",
        "f.yaml:25: a receiver of type webhook needs url: add `url: https://…`",
    ]


def test_the_documented_example_makes_rules_and_receivers() -> None:
    found = re.search(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    config = parse(found[1])
    rules = {rule.alert: rule for rule in Book.of(0, config.alerts).rules}
    spike, night = rules["MeterSpike"], rules["NightLoad"]
    assert (spike.kinds, spike.receivers, spike.max_score) == (("spike",), ("facility",), 0.0005), "shipped keys stay"
    assert (night.for_ms, night.escalate_after_ms, night.escalate_to) == (1_800_000, 3_600_000, ("oncall",))
    assert "SiteOutage" in rules
    hook, pager = map(Receiver.of, config.receivers)
    assert (hook.type, hook.max_alerts, pager.max_alerts, pager.severities) == ("webhook", 100, 1, {"critical"})


def test_receivers_of_the_installation_may_be_named() -> None:
    source = "alerts: [{alert: A, kinds: [drop], receivers: [ops], flap: {changes: 0}}]"
    config = parse(source, known=Known(receivers=frozenset({"ops"})))
    (rule,) = [rule for rule in Book.of(0, config.alerts).rules if rule.alert == "A"]
    assert rule.flap is None


@pytest.mark.parametrize(
    "value",
    [
        b"", b"[]", b"{}", b'{"version": "1"}', b'{"version": "1", "rules": 3}', b'{"version": "1", "rules": [{}]}',
        b'{"version": "1", "rules": [{"alert": "A", "for": "x"}]}',
        b'{"version": "1", "rules": [], "effective_from": "x"}',
    ],
)  # fmt: skip
def test_a_message_of_rules_that_is_not_usable_changes_nothing(value: bytes) -> None:
    assert rules_of(value) is None


def test_a_message_of_rules() -> None:
    rules = rules_of(b'{"version": "1", "rules": [{"alert": "A"}], "effective_from": "2026-01-01T00:00:00Z"}')
    assert rules == ("1", [{"alert": "A"}], 1_767_225_600_000)
    assert site_of(b'{"site_id": "hq"}') == "hq"
    assert [site_of(value) for value in (b"", b"[]", b'{"site_id": 3}', b"{}")] == [None] * 4
