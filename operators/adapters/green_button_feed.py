"""Green Button's Atom feed: its entries one at a time, however large it is, and the addresses that link them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any


@dataclass
class Entry:
    """One Atom entry."""

    number: int
    href: str = ""
    up: str = ""
    related: tuple[str, ...] = ()
    contents: list[Any] = field(default_factory=list)
    """Its ESPI elements."""


def entries(file: IO[bytes], broken: Callable[[str], None]) -> Iterator[Entry]:
    """The entries of a feed, one in memory at a time; where the XML breaks off `broken` is told and it ends."""
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException, ElementTree  # type: ignore[import-untyped]

    number = 0
    root = None
    try:
        for event, element in ElementTree.iterparse(file, events=("start", "end")):
            if root is None:
                root = element
            if event == "end" and (name_of(element) == "entry"):
                number += 1
                yield _entry(number, element)
                root.clear()
    except ParseError as error:
        line, column = error.position
        broken(f"line {line}: the XML breaks off at column {column + 1} ({str(error).partition(':')[0]})")
    except DefusedXmlException as error:
        broken(f"entry {number + 1}: {type(error).__name__}: entities and external parts are not read")
    except (ValueError, LookupError) as error:
        # An encoding that does not exist, or that Python's parser does not know.
        broken(f"line 1: {str(error)[:80] or type(error).__name__}")


def name_of(element: Any) -> str:
    """An element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def _entry(number: int, element: Any) -> Entry:
    found = Entry(number)
    related = []
    for child in element:
        if name_of(child) == "link":
            href, rel = address(child.get("href", "")), child.get("rel", "")
            if rel == "self":
                found.href = href
            elif rel == "up":
                found.up = href
            elif rel == "related":
                related.append(href)
        elif name_of(child) == "content":
            found.contents = list(child)
    found.related = tuple(related)
    return found


def address(href: str) -> str:
    """A resource's address without host and slashes at its ends: feeds mix absolute and relative ones."""
    return re.sub(r"^[a-z]+://[^/]*", "", href.strip()).strip("/")


def integers(element: Any) -> dict[str, int]:
    """The child elements that hold integers, those below them too."""
    found: dict[str, int] = {}
    for child in element.iter():
        number = integer(child.text)
        if number is not None:
            found.setdefault(name_of(child), number)
    return found


def integer(text: str | None) -> int | None:
    """The integer that an element's text is, of up to 15 digits; None for anything else."""
    text = (text or "").strip()
    return int(text) if re.fullmatch(r"[+-]?[0-9]{1,15}", text) else None
