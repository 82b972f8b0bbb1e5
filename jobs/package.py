"""This project's own code as one archive, for clusters on which it is not installed."""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("infra", "jobs", "models", "operators")
SUFFIXES = {".py", ".json", ".onnx"}


def archive() -> Path:
    """A zip of the packages, made anew when a file has changed; Flink puts it on the workers' path."""
    files = sorted(
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in SUFFIXES and path.is_file()
    )
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    made = Path(tempfile.gettempdir()) / f"energyai-{digest.hexdigest()[:16]}.zip"
    if not made.is_file():
        with (
            tempfile.NamedTemporaryFile(dir=made.parent, suffix=".zip", delete=False) as part,
            zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as content,
        ):
            for path in files:
                content.write(path, path.relative_to(ROOT))
        Path(part.name).replace(made)
    return made
