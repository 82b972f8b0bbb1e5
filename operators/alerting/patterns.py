"""Patterns of names: `*` stands for any text, `?` for one character, everything else for itself."""

from __future__ import annotations

import re
from functools import lru_cache


def matches(pattern: str, name: str) -> bool:
    """Whether the whole name is as the pattern says.

    >>> matches("hq-?", "hq-2"), matches("hq*", "annex"), matches("a[1]", "a1")
    (True, False, False)
    """
    return pattern == name or _compiled(pattern).fullmatch(name) is not None


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern), re.DOTALL)
