"""A configuration file, checked: every problem at once, each with its line and what to do. No service is asked."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from jobs.config import yaml_lines
from jobs.config.alert_rules import ALERTING, RECEIVER, RULE, problems_of
from jobs.config.rules import ASSET, INHERITED, METER, SITE, Kind
from jobs.config.rules import KINDS as PLACES

KINDS = (*PLACES, *ALERTING)


@dataclass(frozen=True)
class Problem:
    """What is wrong in one line of a file."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


class ConfigError(Exception):
    """A file that cannot be applied; `problems` are in the order of their lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = sorted(problems, key=lambda p: (p.line, p.text))
        super().__init__("; ".join(map(str, self.problems)))


@dataclass(frozen=True)
class Config:
    """Checked entries, each with all of its keys (named and in units as in the contracts; null: not known)."""

    sites: tuple[dict[str, Any], ...] = ()
    meters: tuple[dict[str, Any], ...] = ()
    assets: tuple[dict[str, Any], ...] = ()
    alerts: tuple[dict[str, Any], ...] = ()
    """Rules, each with the keys that it says: the others keep the defaults of the program's version."""
    receivers: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Known:
    """What the installation has already, which a file may refer to."""

    sites: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {"default": {"tz": "UTC", "tenant_id": "default"}}
    )
    """Site → its `tz` and `tenant_id`."""
    parents: Mapping[str, str | None] = field(default_factory=dict)
    """Meter → its parent."""
    receivers: frozenset[str] = frozenset()


@dataclass
class _Entry:
    line: int
    lines: dict[str, int]
    values: dict[str, Any]


def parse(source: str, file: str = "config", known: Known | None = None) -> Config:
    """The configuration that `source` (YAML) holds.

    A meter or asset without `tz` or `tenant_id` has its site's; other keys that are not there have their default.

    Args:
        source: the file's text.
        file: its name, for messages.
        known: sites and meters that may be referred to besides the file's own.

    Raises:
        ConfigError: with all the problems.
    """
    known = known or Known()
    problems: list[Problem] = []

    def say(line: int, text: str) -> None:
        problem = Problem(file, line, text)
        if problem not in problems:
            problems.append(problem)

    found = _read(yaml_lines.compose(source, say), say, bool(problems))
    _check_references(found, known, say)
    _check_parents(found["meters"], known, say)
    for asset in found["assets"]:
        low, high = asset.values.get("min_w"), asset.values.get("max_w")
        if low is not None and high is not None and low > high:
            say(asset.lines["min_w"], f"min_w {low:g} is above max_w {high:g}: exchange them")
    _check_alerting(found, known, say)
    if problems:
        raise ConfigError(problems)
    sites = [_filled(SITE, entry.values) for entry in found["sites"]]
    places = {**known.sites, **{site["site_id"]: site for site in sites}}
    return Config(
        tuple(sites),
        tuple(_filled(METER, entry.values, places) for entry in found["meters"]),
        tuple(_filled(ASSET, entry.values, places) for entry in found["assets"]),
        tuple(entry.values for entry in found["alerts"]),
        tuple(entry.values for entry in found["receivers"]),
    )


def _read(root: yaml.Node | None, say: yaml_lines.Say, said: bool) -> dict[str, list[_Entry]]:
    found: dict[str, list[_Entry]] = {kind.name: [] for kind in KINDS}
    names = list(found)
    if root is None:
        if not said:
            say(1, f"nothing in it: write {', '.join(names)}")
        return found
    if not isinstance(root, yaml.MappingNode):
        say(yaml_lines.line(root), f"expected {', '.join(names)} at the start of a line, each with a list below it")
        return found
    for name, key, value in yaml_lines.pairs(root, say):
        if name not in found:
            say(yaml_lines.line(key), _unknown(name, names))
        elif isinstance(value, yaml.SequenceNode):
            kind = next(kind for kind in KINDS if kind.name == name)
            found[name] = _entries(kind, value, say)
        elif not _is_null(value):
            say(yaml_lines.line(value), f"{name}: expected a list: begin each entry with `- {_id_key(name)}: …`")
    return found


def _entries(kind: Kind, node: yaml.SequenceNode, say: yaml_lines.Say) -> list[_Entry]:
    entries = []
    first: dict[Any, int] = {}
    for item in node.value:
        if not isinstance(item, yaml.MappingNode):
            say(yaml_lines.line(item), f"{kind.name}: expected an entry such as `- {kind.id_key}: …`")
            continue
        entry = _entry(kind, item, say)
        entries.append(entry)
        name = entry.values.get(kind.id_key)
        if name in first:
            at = entry.lines[kind.id_key]
            say(at, f"{kind.id_key} {name} is here twice (first in line {first[name]}): remove or rename one")
        elif name is not None:
            first[name] = entry.lines[kind.id_key]
    return entries


def _entry(kind: Kind, node: yaml.MappingNode, say: yaml_lines.Say) -> _Entry:
    entry = _Entry(yaml_lines.line(node), {}, {})
    for name, key, value_node in yaml_lines.pairs(node, say):
        at = yaml_lines.line(key)
        entry.lines[name] = at
        if name not in kind.keys:
            say(at, _unknown(name, kind.keys))
            continue
        rule = kind.keys[name]
        value = yaml_lines.plain(value_node, say)
        if value is None and not rule.required:
            continue
        problem = "is empty: give it a value" if value is None else rule.check(value)
        if problem:
            say(at, f"{name}: {problem}")
        else:
            entry.values[name] = value
    for name, rule in kind.keys.items():
        if rule.required and name not in entry.lines:
            say(entry.line, f"{name} is missing: add `{name}: …`")
    return entry


def _check_references(found: Mapping[str, list[_Entry]], known: Known, say: yaml_lines.Say) -> None:
    # Those with another fault are there too: one mistake, one message.
    sites = {*known.sites, *(entry.values.get("site_id") for entry in found["sites"])}
    meters = {*known.parents, *(entry.values.get("meter_id") for entry in found["meters"])}
    for entry in [*found["meters"], *found["assets"]]:
        site = entry.values.get("site_id")
        if site is not None and site not in sites:
            say(entry.lines["site_id"], f"no site {site}: add it under `sites`{_near(site, sites)}")
    for entry in found["meters"]:
        parent = entry.values.get("parent_meter_id")
        if parent is not None and parent not in meters:
            say(entry.lines["parent_meter_id"], f"no meter {parent}: add it under `meters`{_near(parent, meters)}")


def _check_alerting(found: Mapping[str, list[_Entry]], known: Known, say: yaml_lines.Say) -> None:
    for kind in ALERTING:
        for entry in found[kind.name]:
            for key, text in problems_of(kind, entry.values, entry.lines):
                say(entry.lines.get(key, entry.line), text)
    receivers = {*known.receivers, *(entry.values.get(RECEIVER.id_key) for entry in found[RECEIVER.name])}
    for entry in found[RULE.name]:
        told = {"receivers": entry.values.get("receivers", [])}
        told["escalate"] = (entry.values.get("escalate") or {}).get("receivers", [])
        for key, names in told.items():
            for name in names:
                if name not in receivers:
                    say(entry.lines[key], f"no receiver {name}: add it under `receivers`{_near(name, receivers)}")


def _check_parents(meters: list[_Entry], known: Known, say: yaml_lines.Say) -> None:
    """Parents must end somewhere: each circle is said once, at its first meter in the file."""
    mine = {entry.values["meter_id"]: entry for entry in meters if "meter_id" in entry.values}
    parents = {**known.parents, **{name: entry.values.get("parent_meter_id") for name, entry in mine.items()}}
    done: set[str] = set()
    for start, entry in mine.items():
        path: list[str] = []
        at: str | None = start
        while at is not None and at not in done and at not in path:
            path.append(at)
            at = parents.get(at)
        if at is not None and at in path:
            circle = [*path[path.index(at) :], at]
            line = next((mine[name].lines["parent_meter_id"] for name in circle if name in mine), entry.line)
            say(line, f"parents go round in a circle ({' → '.join(circle)}): remove one parent_meter_id")
        done.update(path)


def _filled(
    kind: Kind, values: Mapping[str, Any], sites: Mapping[str, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    full = {name: values.get(name, rule.default) for name, rule in kind.keys.items()}
    if sites is not None:
        site = sites[full["site_id"]]
        full |= {name: site[name] for name in INHERITED if name not in values}
    return full


def _id_key(name: str) -> str:
    return next(kind.id_key for kind in KINDS if kind.name == name)


def _unknown(name: str, allowed: Iterable[str]) -> str:
    allowed = list(allowed)
    return f"unknown key {name}{_near(name, allowed) or ': use one of ' + ', '.join(allowed)}"


def _near(name: str, others: Iterable[Any]) -> str:
    near = difflib.get_close_matches(name, [other for other in others if isinstance(other, str)], 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"
