"""Lines and JSON documents out of files that were cut, mixed with other lines, or prefixed with a topic."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import orjson

_BLANK = re.compile(r"\s*")
MAX_LINE = 4 * 1024 * 1024
"""Bytes of a line; a longer one is refused and not held."""
MAX_DOCUMENT = 64 * 1024 * 1024
"""Bytes of a file that is one JSON document over many lines."""


def lines(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Each line with its number from 1 and its end; None in place of one that is longer than `MAX_LINE`."""
    number = 0
    while line := file.readline(MAX_LINE):
        number += 1
        if line.endswith(b"\n") or len(line) < MAX_LINE:
            yield number, line
            continue
        while (rest := file.readline(MAX_LINE)) and not rest.endswith(b"\n"):
            pass
        yield number, None


@dataclass(frozen=True)
class Document:
    """One JSON value of a file, or a line that holds none."""

    place: str
    prefix: str
    """The text before it on its line: an MQTT topic, a time, or nothing."""
    value: Any
    """None where `error` says why."""
    error: str = ""


def documents(file: IO[bytes]) -> Iterator[Document]:
    """The JSON values of `file`, which can be sought: one a line, or one or several over many lines."""
    whole = _whole(file)
    if whole is not None:
        for i, value in enumerate(whole):
            yield _unwrapped(Document(f"document {i + 1}", "", value))
        return
    for number, line in lines(file):
        document = _of_line(f"line {number}", line)
        if document is not None:
            yield _unwrapped(document)


def _whole(file: IO[bytes]) -> list[Any] | None:
    """The values of a file whose first line is the beginning of one and no more; None for JSON lines."""
    first = next((line for _, line in lines(file) if line is None or line.strip()), b"")
    file.seek(0)
    if first is not None and (first.strip()[:1] not in (b"{", b"[") or _loads(first) is not None):
        return None
    content = file.read(MAX_DOCUMENT + 1)
    file.seek(0)
    if len(content) > MAX_DOCUMENT:
        return None
    try:
        return _values(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None


def _values(text: str) -> list[Any]:
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    values = []
    end = 0
    while (begin := _BLANK.match(text, end).end()) < len(text):  # type: ignore[union-attr]
        value, end = decoder.raw_decode(text, begin)
        values.append(value)
    return values


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _of_line(place: str, line: bytes | None) -> Document | None:
    if line is None:
        return Document(place, "", None, f"longer than {MAX_LINE} bytes")
    line = line.strip().removeprefix(b"\xef\xbb\xbf")
    if not line.strip(b"[], \t"):
        return None
    begin = min((at for at in (line.find(b"{"), line.find(b"[")) if at >= 0), default=-1)
    if begin < 0:
        return Document(place, line.decode(errors="replace"), None, "no JSON")
    prefix = line[:begin].decode(errors="replace").strip()
    value = _loads(line[begin:])
    if value is None:
        # A line of an array that was never closed, as a stream is.
        value = _loads(line[begin:].strip(b"[], \t"))
    return Document(place, prefix, value, "" if value is not None else "not one JSON value")


def _loads(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _unwrapped(document: Document) -> Document:
    """The payload of a message that was logged with its topic (`mosquitto_sub -F %J`)."""
    value = document.value
    if not (isinstance(value, dict) and isinstance(value.get("topic"), str) and "payload" in value):
        return document
    payload = value["payload"]
    if isinstance(payload, str):
        payload = _loads(payload.encode())
    return Document(document.place, value["topic"], payload, "" if payload is not None else "no JSON")
