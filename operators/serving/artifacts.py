"""A version's files, wherever they are: fetched, and loaded only when checksum and signature are right.

A version is a folder: `forecaster.onnx`, `card.json`, `manifest.json`, and `manifest.sig`, the signature of the bytes
of `manifest.json`, which names the SHA-256 of the others. Folders are local paths or addresses that Arrow's file
systems know (file, s3, gs, hdfs).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
from pyarrow import ArrowException
from pyarrow import fs as arrow_fs

from operators.forecaster import Forecaster, ModelError
from operators.serving.plan import Announcement
from operators.serving.signing import SignatureError, verify

log = logging.getLogger(__name__)

MODEL, CARD, MANIFEST, SIGNATURE = "forecaster.onnx", "card.json", "manifest.json", "manifest.sig"
LARGEST = 64 * 1024 * 1024
AGAIN_S = 10.0
"""How long an artifact that could not be fetched is left alone before the next try."""


class RefusedError(ValueError):
    """A version that must not be loaded, now or later; one line."""


class UnavailableError(OSError):
    """A file that cannot be read at present."""


def read(uri: str) -> bytes:
    """A file's bytes.

    Raises:
        UnavailableError: no such file, no such file system, no access.
        RefusedError: larger than any model.
    """
    try:
        system, path = filesystem(uri)
        if (system.get_file_info(path).size or 0) > LARGEST:
            raise RefusedError(f"{uri} has more than {LARGEST >> 20} MiB")
        with system.open_input_stream(path) as stream:
            return cast(bytes, stream.read())
    except (OSError, ArrowException) as error:
        raise UnavailableError(f"{uri} cannot be read ({' '.join(str(error).split())[:200]})") from error


def filesystem(uri: str) -> tuple[Any, str]:
    """Arrow's file system of an address or local path, and the path on it."""
    if "://" not in uri:
        return arrow_fs.LocalFileSystem(), uri
    system, path = arrow_fs.FileSystem.from_uri(uri)
    return system, path


def manifest_of(folder: str, keys: tuple[str, ...]) -> dict[str, Any]:
    """What a version's signed manifest says.

    Raises:
        UnavailableError: it cannot be read.
        RefusedError: it is not signed by one of the keys, or is no manifest.
    """
    content = read(f"{folder}/{MANIFEST}")
    try:
        verify(keys, content, read(f"{folder}/{SIGNATURE}"))
        found = orjson.loads(content)
    except (SignatureError, orjson.JSONDecodeError) as error:
        raise RefusedError(f"{folder}/{MANIFEST}: {error}") from error
    if not isinstance(found, dict):
        raise RefusedError(f"{folder}/{MANIFEST} is no manifest")
    return found


def load(model_name: str, announced: Announcement, keys: tuple[str, ...]) -> Forecaster:
    """The model that an announcement names.

    Raises:
        UnavailableError: its files cannot be read at present.
        RefusedError: checksum, signature, name, version or features are not right.
    """
    folder = announced.uri.rpartition("/")[0]
    manifest = manifest_of(folder, keys)
    wanted = {"model_name": model_name, "version": announced.version, "sha256": announced.sha256}
    for name, value in wanted.items():
        if manifest.get(name) != value:
            raise RefusedError(f"{folder}: the signed {name} is {manifest.get(name)!r}, announced was {value!r}")
    try:
        return Forecaster.from_bytes(
            read(announced.uri), announced.sha256, f"model {model_name} version {announced.version}"
        )
    except ModelError as error:
        raise RefusedError(str(error)) from error


@dataclass
class Models:
    """The models that one worker has loaded, by checksum. Not thread-safe."""

    base: Forecaster
    """The one that the job brought along."""
    model_name: str = "forecaster"
    keys: tuple[str, ...] = ()
    clock: Callable[[], float] = time.monotonic
    refused: dict[Announcement, str] = field(default_factory=dict)
    """Why, of those that will never be loaded."""
    _loaded: dict[str, Forecaster] = field(default_factory=dict)
    _again: dict[Announcement, float] = field(default_factory=dict)

    def of(self, announced: Announcement | None) -> Forecaster | None:
        """The model of an announcement (None: the job's own); None while it cannot be had, or when it is refused."""
        if announced is None or not announced.uri or announced.sha256 == self.base.sha256:
            return self.base
        if announced in self.refused or self.clock() < self._again.get(announced, 0.0):
            return None
        found = self._loaded.get(announced.sha256)
        if found is not None:
            return found
        try:
            found = load(self.model_name, announced, self.keys)
        except RefusedError as error:
            self.refused[announced] = str(error)
            log.error(
                "%s version %d is refused, the present model stays: %s", self.model_name, announced.version, error
            )
            return None
        except UnavailableError as error:
            self._again[announced] = self.clock() + AGAIN_S
            log.warning("%s version %d, tried again: %s", self.model_name, announced.version, error)
            return None
        self._again.pop(announced, None)
        self._loaded[announced.sha256] = found
        return found
