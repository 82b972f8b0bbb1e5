"""Flink's Web UI with its form's program arguments delivered.

Flink 2.3.0's page posts them as `programArgs`, which its REST server no longer reads: a job would start without any.
Flink itself is left as it is: a small jar before flink-dist on the class path carries the page, corrected.
"""

from __future__ import annotations

import logging
import os
import re
import zipfile
from pathlib import Path

NAME = "energyai-web-ui.jar"
"""Sorts before flink-dist, so that its `web/` is the one that is served."""

# Words between white space, no quoting: the form has no shell. None at all is null, as the server expects.
CORRECTIONS = (
    (re.compile(rb"(?<=[{,])programArgs:(\w+)(?=,savepointPath:)"), rb'programArgsList:(\1||"").match(/\\S+/g)'),
    # Show Plan: a list in the address is joined by commas, so a comma within a word parts it there (not on Submit).
    (
        re.compile(rb'"program-args",(\w+)(?=\)\),this\.httpClient\.get\()'),
        rb'"programArg",\1.trim().split(/\\s+/).join()',
    ),
)

log = logging.getLogger(__name__)


def correct(script: bytes) -> bytes:
    """A script of the page, sending the arguments as the list that the server reads; unchanged when it sends none.

    >>> correct(b'{entryClass:i,programArgs:a,savepointPath:c}')
    b'{entryClass:i,programArgsList:(a||"").match(/\\\\S+/g),savepointPath:c}'
    """
    for lost, delivered in CORRECTIONS:
        script = lost.sub(delivered, script)
    return script


def build(dist: Path, folder: Path) -> Path | None:
    """The jar with the corrected page, made once for each flink-dist.

    Args:
        dist: the flink-dist jar.
        folder: where the jar is kept; made when missing.

    Returns:
        The jar; None, with a warning logged, when this Flink's page holds nothing to correct.
    """
    jar = folder / NAME
    made_from = f"{dist.name} {dist.stat().st_size} {dist.stat().st_mtime_ns} {CORRECTIONS}".encode()
    if comment(jar) == made_from:
        return jar
    with zipfile.ZipFile(dist) as source:
        page = {name: source.read(name) for name in source.namelist() if name.startswith("web/")}
    corrected = {name: correct(content) if name.endswith(".js") else content for name, content in page.items()}
    if corrected == page:
        log.warning("%s: its Web UI is not the one known here; left as it is", dist.name)
        jar.unlink(missing_ok=True)
        return None
    folder.mkdir(parents=True, exist_ok=True)
    draft = jar.with_name(f"{NAME}.{os.getpid()}.tmp")
    with zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        target.comment = made_from
        # Flink serves only what lies in the jar where it finds `web`: the folder's entry, and the whole page.
        target.writestr("web/", b"")
        for name, content in corrected.items():
            if name != "web/":
                target.writestr(name, content)
    draft.replace(jar)
    return jar


def comment(jar: Path) -> bytes | None:
    """What a jar was made from; None when it is missing or damaged."""
    try:
        with zipfile.ZipFile(jar) as archive:
            return archive.comment
    except (OSError, zipfile.BadZipFile):
        return None
