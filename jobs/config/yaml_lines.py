"""YAML into plain values that know their line: the standard loader forgets lines and lets the last of two keys win."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import yaml

MAX_DEPTH = 10
Say = Callable[[int, str], None]
"""Takes a line (from 1) and what is wrong there."""


def compose(source: str, say: Say) -> yaml.Node | None:
    """The document's root node; None when there is none, or it is no YAML (which is said)."""
    try:
        return yaml.compose(source, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = (mark.line + 1) if mark else 1
        say(at, f"no YAML ({error.problem or error.context}): check indentation, colons and quotes")
    except yaml.YAMLError as error:
        say(1, f"no YAML ({' '.join(str(error).split())}): save the file as plain UTF-8 text")
    return None


def line(node: yaml.Node) -> int:
    """The node's line, from 1."""
    return int(node.start_mark.line) + 1


def pairs(node: yaml.MappingNode, say: Say) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """Key, its node, and the value's node; a key that is there twice is said, and its first value stays."""
    seen: dict[str, int] = {}
    for key, value in node.value:
        name = key.value if isinstance(key, yaml.ScalarNode) else ""
        if not name:
            say(line(key), "a key must be a word: write `key: value`")
        elif name in seen:
            say(line(key), f"{name} is here twice (first in line {seen[name]}): keep one")
        else:
            seen[name] = line(key)
            yield name, key, value


def plain(node: yaml.Node, say: Say, depth: int = 0) -> Any:
    """The node's value in dicts, lists and scalars."""
    if depth > MAX_DEPTH:  # an alias inside of itself, too
        say(line(node), f"nested more than {MAX_DEPTH} deep: make it flatter")
        return None
    if isinstance(node, yaml.MappingNode):
        return {name: plain(value, say, depth + 1) for name, _, value in pairs(node, say)}
    if isinstance(node, yaml.SequenceNode):
        return [plain(item, say, depth + 1) for item in node.value]
    value = _scalar(node, say)
    if depth and not (value is None or isinstance(value, str | int | float)):
        return node.value  # dates within tariff and settings stay the text that they are
    if depth and isinstance(value, float) and not math.isfinite(value):  # JSON has neither
        say(line(node), f"{node.value} is no usable number: write a finite one")
    return value


def _scalar(node: yaml.Node, say: Say) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        say(line(node), f"{node.value!r} cannot be read ({' '.join(str(error).split())[:80]}): put it in quotes")
        return None
    finally:
        loader.dispose()
