"""The registry: a folder, local or at an address that Arrow knows, with a folder for each version of each model.

`<root>/<model>/<version>/` holds `forecaster.onnx`, `card.json`, `manifest.json` and `manifest.sig`. A version is there
when its signature is: that is written last. Versions are never changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.embedded.options import default_home
from jobs.errors import UserError
from operators.forecaster import Forecaster
from operators.serving import signing
from operators.serving.artifacts import (
    CARD,
    MANIFEST,
    MODEL,
    SIGNATURE,
    RefusedError,
    UnavailableError,
    filesystem,
    manifest_of,
    read,
)

NAME = "forecaster"
"""The model that the forecast job follows where nobody says otherwise."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Version:
    """One version, as its signed manifest says."""

    model_name: str
    version: int
    folder: str
    manifest: Mapping[str, Any]

    @property
    def uri(self) -> str:
        """Of the model's file."""
        return f"{self.folder}/{MODEL}"

    @property
    def sha256(self) -> str:
        """Of the model's file."""
        return str(self.manifest["sha256"])

    def card(self) -> dict[str, Any]:
        """The card, checked against the manifest.

        Raises:
            UserError: it is not the one that was signed, or cannot be read.
        """
        content = _read(f"{self.folder}/{CARD}")
        if hashlib.sha256(content).hexdigest() != self.manifest["card_sha256"]:
            raise UserError(f"{self.folder}/{CARD} is not the one that was signed: restore it")
        return dict(json.loads(content))

    def model(self) -> Forecaster:
        """The model, checked against the manifest.

        Raises:
            UserError: it cannot be read.
            ModelError: it is not the one that was signed, or is unusable.
        """
        return Forecaster.from_bytes(_read(self.uri), self.sha256, f"{self.model_name} version {self.version}")


def default_root() -> str:
    """ENERGYAI_REGISTRY, or the installation's own folder."""
    named = os.environ.get("ENERGYAI_REGISTRY", "").strip()
    home = os.environ.get("ENERGYAI_HOME", "").strip()
    return named or str((Path(home).expanduser() if home else default_home()) / "registry")


class Registry:
    """Versions under one root."""

    def __init__(self, root: str | Path, keys: tuple[str, ...]) -> None:
        """
        Args:
            root: folder or address.
            keys: public keys, one of which must have signed a version.

        Raises:
            UserError: an address with options, which the addresses of versions made from it would lose.
        """
        text = str(root).rstrip("/")
        if "://" in text and "?" in text:
            raise UserError(
                f"the registry {text.partition('?')[0]} is given with options after '?': leave them out, and name the "
                "store's address in AWS_ENDPOINT_URL",
                2,
            )
        self.root = text if "://" in text else str(Path(text).expanduser().absolute())
        self._keys = keys

    def numbers(self, model_name: str) -> list[int]:
        """Versions that are there, oldest first."""
        return [number for number in self._folders(model_name) if self._exists(model_name, number)]

    def get(self, model_name: str, version: int) -> Version:
        """One version.

        Raises:
            UserError: it is not there, or not signed by a trusted key.
        """
        folder = self._folder(model_name, version)
        try:
            manifest = manifest_of(folder, self._keys)
        except UnavailableError as error:
            raise UserError(f"{model_name} has no version {version} in {self.root}: `energyai models list`") from error
        except RefusedError as error:
            raise UserError(f"version {version} is not trusted: {error}") from error
        return Version(model_name, version, folder, manifest)

    def register(
        self, model: Path, key: bytes, model_name: str = NAME, lineage: Mapping[str, Any] | None = None
    ) -> Version:
        """Adds a trained model, with the card that lies beside it, as the next version.

        Args:
            model: an ONNX file of `energyai train`.
            key: private key as PEM.
            model_name: of letters, digits, `.`, `_`, `-`.
            lineage: what it was made from, in addition to what the card says.

        Raises:
            UserError: no card, a bad name, or the registry cannot be written.
            ModelError: the model is unusable or not the card's.
        """
        if not _NAME.fullmatch(model_name):
            raise UserError(f"{model_name!r} is no name of a model: letters, digits, '.', '_', '-', 64 at most", 2)
        content, card_bytes, card = _with_card(model)
        found = Forecaster.from_bytes(content, str(card.get("sha256") or "") or None, f"model {model}")
        data = card.get("data", {})
        manifest: dict[str, Any] = {
            "model_name": model_name,
            "sha256": found.sha256,
            "card_sha256": hashlib.sha256(card_bytes).hexdigest(),
            "model_id": found.model_id,
            "feature_set": found.feature_set,
            "registered_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "data_range": [data.get("from"), data.get("train_until")],
            "lineage": {
                "data": data.get("name"),
                "file_sha256": data.get("file_sha256"),
                "command": card.get("training", {}).get("command"),
                "seed": card.get("training", {}).get("seed"),
                "versions": card.get("versions"),
                **(lineage or {}),
            },
        }
        try:
            number = self._reserve(model_name)
            manifest["version"] = number
            signed = json.dumps(manifest, indent=2, ensure_ascii=False, sort_keys=True).encode()
            folder = self._folder(model_name, number)
            for name, part in (
                (MODEL, content),
                (CARD, card_bytes),
                (MANIFEST, signed),
                (SIGNATURE, signing.sign(key, signed)),
            ):
                _write(f"{folder}/{name}", part)
        except OSError as error:
            raise UserError(f"the registry {self.root} cannot be written ({error}): choose another place") from error
        return Version(model_name, number, folder, manifest)

    def _reserve(self, model_name: str) -> int:
        """A number that nobody has. On a local disk two that register together never get the same one."""
        number = max(self._folders(model_name), default=0) + 1
        if "://" in self.root:
            system, path = filesystem(self._folder(model_name, number))
            system.create_dir(path, recursive=True)
            return number
        Path(self.root, model_name).mkdir(parents=True, exist_ok=True)
        while True:
            try:
                Path(self._folder(model_name, number)).mkdir()
            except FileExistsError:
                number += 1
            else:
                return number

    def _folder(self, model_name: str, version: int) -> str:
        return f"{self.root}/{model_name}/{version}"

    def _folders(self, model_name: str) -> list[int]:
        from pyarrow import fs as arrow_fs

        system, path = filesystem(f"{self.root}/{model_name}")
        try:
            entries = system.get_file_info(arrow_fs.FileSelector(path, allow_not_found=True))
        except OSError as error:
            raise UserError(f"the registry {self.root} cannot be read ({error})") from error
        return sorted(int(entry.base_name) for entry in entries if entry.base_name.isdigit())

    def _exists(self, model_name: str, number: int) -> bool:
        system, path = filesystem(f"{self._folder(model_name, number)}/{SIGNATURE}")
        return bool(system.get_file_info(path).is_file)


def _with_card(model: Path) -> tuple[bytes, bytes, dict[str, Any]]:
    card = model.parent / CARD
    try:
        content, card_bytes = model.read_bytes(), card.read_bytes()
        found = json.loads(card_bytes)
    except OSError as error:
        raise UserError(
            f"{error.filename}: {error.strerror}; give a model of `energyai train`, its card beside it"
        ) from error
    except ValueError as error:
        raise UserError(f"{card} is no JSON: give a model of `energyai train`, its card beside it") from error
    if not isinstance(found, dict):
        raise UserError(f"{card} is no card: give a model of `energyai train`, its card beside it")
    return content, card_bytes, found


def _read(uri: str) -> bytes:
    try:
        return read(uri)
    except (UnavailableError, RefusedError) as error:
        raise UserError(str(error)) from error


def _write(uri: str, content: bytes) -> None:
    system, path = filesystem(uri)
    with system.open_output_stream(path) as stream:
        stream.write(content)
