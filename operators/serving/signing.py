"""Ed25519 signatures of model versions (RFC 8032): whoever runs a job needs the public key alone.

A checksum in an announcement says that a file is the one that was announced; the signature says that it was announced
by somebody who holds the key, not by somebody who can write to the broker.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


class SignatureError(ValueError):
    """A key or signature that cannot be used or does not fit; one line, without the key."""


def new_key() -> bytes:
    """A private key as PEM (PKCS #8)."""
    return Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_of(private_pem: bytes) -> str:
    """The public half, 64 hexadecimal digits.

    Raises:
        SignatureError: not an Ed25519 key.
    """
    raw = _private(private_pem).public_key().public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw
    )  # fmt: skip
    return raw.hex()


def sign(private_pem: bytes, content: bytes) -> bytes:
    """The signature, 64 bytes.

    Raises:
        SignatureError: not an Ed25519 key.
    """
    return _private(private_pem).sign(content)


def verify(public_keys: tuple[str, ...], content: bytes, signature: bytes) -> None:
    """Whether one of the keys has signed the content.

    Args:
        public_keys: each 64 hexadecimal digits.

    Raises:
        SignatureError: none has, or a key is no key.
    """
    if not public_keys:
        raise SignatureError("no public key to verify with: set ENERGYAI_MODEL_KEYS")
    for key in public_keys:
        try:
            Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(signature, content)
        except InvalidSignature:
            continue
        except ValueError as error:
            raise SignatureError("a key of ENERGYAI_MODEL_KEYS is not 64 hexadecimal digits") from error
        return
    raise SignatureError("the signature is of none of the trusted keys")


def _private(pem: bytes) -> Ed25519PrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise SignatureError("the signing key is no PEM of a private key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError("the signing key is not Ed25519")
    return key
