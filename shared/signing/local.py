"""A signer whose key is a file: for development, tests, and whoever runs without an HSM.

The file is made on first use and kept, so documents signed before a restart still verify.
"""

import asyncio
import base64
import os
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from shared.signing.base import PublicKey, Signature, SignerUnavailable
from shared.signing.encoding import publish

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    PrivateKey: TypeAlias = EllipticCurvePrivateKey | RSAPrivateKey


class LocalSigner:
    """Signs with the PEM key in `path`. alg: ES256 (P-256) or PS256 (RSA-2048), of a new key."""

    def __init__(self, path: Path, alg: str = "ES256") -> None:
        assert alg in ("ES256", "PS256"), "the algorithms of local keys"
        self._path, self._alg = path, alg
        self._key: PrivateKey | None = None

    async def public_key(self) -> PublicKey:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        key = await asyncio.to_thread(self._load)
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        name = sha256(spki).hexdigest()[:16]
        return PublicKey("local", name, "1", _alg_of(key), base64.b64encode(spki).decode())

    async def sign(self, digest: bytes) -> Signature:
        key = await asyncio.to_thread(self._load) if self._key is None else self._key
        return Signature(publish(_sign(key, digest), _alg_of(key)))

    def _load(self) -> "PrivateKey":
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        if self._key is None:
            try:
                if not self._path.exists():
                    _write_new(self._path, _generate(self._alg))
                key = load_pem_private_key(self._path.read_bytes(), password=None)
            except (OSError, ValueError) as unreadable:
                raise SignerUnavailable(
                    f"the key file {self._path.name} cannot be read"
                ) from unreadable
            if not isinstance(key, EllipticCurvePrivateKey | RSAPrivateKey):
                raise SignerUnavailable(f"{self._path.name} holds no P-256 or RSA key")
            self._key = key
        return self._key


def _generate(alg: str) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key: PrivateKey
    if alg == "ES256":
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_new(path: Path, pem: bytes) -> None:
    """Two processes that start together end with one key: the first link wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_bytes(pem)
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _alg_of(key: "PrivateKey") -> str:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    return "PS256" if isinstance(key, RSAPrivateKey) else "ES256"


def _sign(key: "PrivateKey", digest: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec, padding
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
    from cryptography.hazmat.primitives.hashes import SHA256

    prehashed = Prehashed(SHA256())
    if isinstance(key, RSAPrivateKey):
        pss = padding.PSS(padding.MGF1(SHA256()), padding.PSS.DIGEST_LENGTH)
        return key.sign(digest, pss, prehashed)
    return key.sign(digest, ec.ECDSA(prehashed))
