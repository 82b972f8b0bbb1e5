"""The key that signs model versions: made once, kept in a file that only its owner reads, never shown or logged."""

from __future__ import annotations

import os
import re
from pathlib import Path

from infra.embedded.options import default_home
from jobs.errors import UserError
from operators.serving import signing

FILE = "model-signing.pem"
_PUBLIC = re.compile(r"[0-9a-f]{64}", re.IGNORECASE)


def key_file() -> Path:
    """ENERGYAI_MODEL_KEY, or the installation's own."""
    named = os.environ.get("ENERGYAI_MODEL_KEY", "").strip()
    if named:
        return Path(named).expanduser()
    home = os.environ.get("ENERGYAI_HOME", "").strip()
    return (Path(home).expanduser() if home else default_home()) / "keys" / FILE


def signing_key(*, create: bool = True) -> bytes:
    """The private key as PEM; made when it is not there yet.

    Raises:
        UserError: it cannot be read or written, or is no such key.
    """
    path = key_file()
    try:
        if create and not path.exists():
            _write(path, signing.new_key())
        content = path.read_bytes()
        signing.public_of(content)
    except OSError as error:
        raise UserError(
            f"the signing key {path} cannot be used ({error.strerror}): name a file with ENERGYAI_MODEL_KEY"
        ) from error
    except signing.SignatureError as error:
        raise UserError(f"{path}: {error}; name an Ed25519 key with ENERGYAI_MODEL_KEY") from error
    return content


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    try:
        os.link(draft, path)  # two that begin together must agree on one
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def trusted(named: str = "") -> tuple[str, ...]:
    """Public keys that may have signed a model: those named, or this installation's own.

    Args:
        named: hexadecimal, separated by commas (`--model-keys`, ENERGYAI_MODEL_KEYS); "" where nobody says.

    Raises:
        UserError: one of them is no public key.
    """
    words = [word.strip() for word in (named or os.environ.get("ENERGYAI_MODEL_KEYS", "")).split(",") if word.strip()]
    if not words:
        return (signing.public_of(signing_key()),)
    for word in words:
        if not _PUBLIC.fullmatch(word):
            raise UserError(
                "a public key of --model-keys is not 64 hexadecimal digits: `energyai models keys` shows it", 2
            )
    return tuple(word.lower() for word in words)
