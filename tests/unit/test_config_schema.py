"""Configuration files: what is read from a good one, and every problem of a bad one with its line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.config import schema
from jobs.config.schema import ConfigError, Known, parse

GOOD = """\
sites:
  - site_id: hq
    tz: Europe/Berlin
    tenant_id: acme
    limit_kw: 50
    tariff: {currency: EUR, from: 2026-01-01, peak: [0.31, 0.42]}
meters:
  - meter_id: main
    site_id: hq
    max_kw: 60
  - {meter_id: floor, site_id: hq, parent_meter_id: main, tz: UTC}
  - meter_id: elsewhere
assets:
  - {asset_id: b1, site_id: hq, type: battery, min_w: -5000, max_w: 5000, efficiency: 0.9}
"""


def problems(source: str, known: Known | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(source, "f.yaml", known)
    return [str(problem) for problem in caught.value.problems]


def test_every_key_is_there_and_the_site_gives_zone_and_tenant() -> None:
    config = parse(GOOD)
    assert config.sites[0] == {
        "site_id": "hq",
        "tenant_id": "acme",
        "tz": "Europe/Berlin",
        "limit_kw": 50,
        "tariff": {"currency": "EUR", "from": "2026-01-01", "peak": [0.31, 0.42]},
        "mode": "shadow",
        "settings": {},
    }
    assert config.meters[0] == {
        "meter_id": "main",
        "site_id": "hq",
        "tenant_id": "acme",
        "tz": "Europe/Berlin",
        "commodity": "electricity",
        "register_max": None,
        "max_kw": 60,
        "parent_meter_id": None,
    }
    assert [(m["site_id"], m["tz"], m["tenant_id"]) for m in config.meters[1:]] == [
        ("hq", "UTC", "acme"),
        ("default", "UTC", "default"),
    ]
    assert config.assets[0]["tz"] == "Europe/Berlin"


BAD = """\
sites:
  - site_id: hq
    tz: Europe/Berln
    limit_kw: -5
  - site_id: hq
meters:
  - meter_id: 17
  - meter_id: a
    site_id: nowhere
    regster_max: 100
    max_kw: 40 kW
  - meter_id: b
    parent_meter_id: c
  - meter_id: c
    parent_meter_id: b
    parent_meter_id: b
  - site_id: hq
assets:
  - asset_id: x
    site_id: hq
    type: windmill
    min_w: 5
    max_w: 1
    efficiency: 1.2
alarms: []
"""


def test_all_problems_at_once_each_with_line_and_remedy() -> None:
    assert problems(BAD) == [
        "f.yaml:3: tz: unknown time zone 'Europe/Berln': use an IANA name such as Europe/Berlin",
        "f.yaml:4: limit_kw: -5 is too small: want more than 0 kW",
        "f.yaml:5: site_id hq is here twice (first in line 2): remove or rename one",
        "f.yaml:7: meter_id: expected text, not 17: put it in quotes",
        "f.yaml:9: no site nowhere: add it under `sites`",
        "f.yaml:10: unknown key regster_max (did you mean register_max?)",
        "f.yaml:11: max_kw: expected a number, not '40 kW': write it in kW, without the unit",
        "f.yaml:13: parents go round in a circle (b → c → b): remove one parent_meter_id",
        "f.yaml:16: parent_meter_id is here twice (first in line 15): keep one",
        "f.yaml:17: meter_id is missing: add `meter_id: …`",
        "f.yaml:21: type: 'windmill': use one of battery, ev, flexible_load",
        "f.yaml:22: min_w 5 is above max_w 1: exchange them",
        "f.yaml:24: efficiency: 1.2 is too large: want at most 1",
        "f.yaml:25: unknown key alarms (did you mean alerts?)",
    ]


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("", "f.yaml:1: nothing in it: write sites, meters, assets"),
        ("- a", "expected sites, meters, assets, alerts, receivers at the start of a line, each with a list below it"),
        ("sites: hq", "f.yaml:1: sites: expected a list: begin each entry with `- site_id: …`"),
        ("sites:\n  - hq", "f.yaml:2: sites: expected an entry such as `- site_id: …`"),
        ("sites:\n  - {site_id: no}", "f.yaml:2: site_id: expected text, not False: put it in quotes"),
        ("sites:\n  - {site_id: }", "f.yaml:2: site_id: is empty: give it a value"),
        ("sites:\n  - {site_id: a, limit_kw: .nan}", "limit_kw: nan is no usable number: write a finite one in kW"),
        ("sites:\n  - {site_id: a, tariff: &t {x: *t}}", "nested more than 10 deep"),
        ("sites:\n  - {site_id: a, tariff: {x: .inf}}", ".inf is no usable number"),
        ("sites:\n  - {site_id: a, tariff: !!python/name:os.system x}", "cannot be read"),
        ("sites: [\n", "no YAML"),
        ("sites: \x00", "no YAML"),
        ("meters:\n  - {meter_id: a, parent_meter_id: b}", "f.yaml:2: no meter b: add it under `meters`"),
        ("meters:\n  - {meter_id: a, parent_meter_id: a}", "circle (a → a)"),
    ],
)
def test_what_is_no_configuration(source: str, line: str) -> None:
    found = problems(source)
    assert len(found) == 1
    assert line in found[0]


def test_what_the_installation_has_may_be_referred_to() -> None:
    known = Known({"hq": {"tz": "Asia/Tokyo", "tenant_id": "t"}}, {"b": "a"})
    config = parse("meters: [{meter_id: x, site_id: hq, parent_meter_id: b}]", known=known)
    assert config.meters[0]["tz"] == "Asia/Tokyo"
    assert "circle (a → b → a)" in problems("meters: [{meter_id: a, site_id: hq, parent_meter_id: b}]", known)[0]


@given(st.lists(st.integers(0, 9), min_size=10, max_size=10))
def test_a_circle_is_said_exactly_when_there_is_one(parents: list[int]) -> None:
    """Meter i's parent is parents[i]; 0 has none."""

    def ends(meter: int) -> bool:
        for _ in parents:
            meter = parents[meter] if meter else 0
        return meter == 0

    lines = [f"  - {{meter_id: m{i}" + (f", parent_meter_id: m{p}" if i else "") + "}" for i, p in enumerate(parents)]
    source = "\n".join(["meters:", *lines])
    if all(ends(meter) for meter in range(10)):
        assert len(parse(source).meters) == 10
    else:
        assert all("circle" in problem for problem in problems(source))


@given(st.text(max_size=80) | st.sampled_from(GOOD.splitlines()).map(lambda line: line + "\n" + line))
def test_whatever_is_in_the_file_there_are_problems_or_a_configuration(source: str) -> None:
    outcome: object
    try:
        outcome = parse(source)
    except ConfigError as error:
        outcome = error.problems
    assert isinstance(outcome, schema.Config) or outcome
