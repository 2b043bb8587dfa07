"""A signer whose keys are files: for development, tests, and whoever runs without an HSM.

The first file is made on first use, the next by a rotation, and all are kept: what was signed
before a restart still verifies, and what was numbered before a rotation still gets its signature.
"""

import asyncio
import base64
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Final, TypeAlias

from shared.signing.base import DIGEST_BYTES, PublicKey, Signature, SignerUnavailable
from shared.signing.encoding import publish

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    PrivateKey: TypeAlias = EllipticCurvePrivateKey | RSAPrivateKey

PROVIDER: Final = "local"


class LocalSigner:
    """Signs with PEM keys: version 1 is in `path`, version 2 in `path`'s name with `.2` and so on.

    alg: ES256 (P-256) or PS256 (RSA-2048), of keys it makes.
    """

    def __init__(self, path: Path, alg: str = "ES256") -> None:
        assert alg in ("ES256", "PS256"), "the algorithms of local keys"
        self._path, self._alg = path, alg
        self._keys: dict[str, tuple[PrivateKey, PublicKey]] = {}

    async def newest(self) -> PublicKey:
        return await asyncio.to_thread(self._newest)

    async def create(self) -> PublicKey:
        return await asyncio.to_thread(self._create)

    async def sign(self, key: PublicKey, digest: bytes) -> Signature:
        assert len(digest) == DIGEST_BYTES, "the digest as it is, and never the message"
        if key.provider != PROVIDER:
            raise SignerUnavailable(f"{PROVIDER} holds no key of {key.provider}")
        if key.key_version not in self._keys:
            await asyncio.to_thread(self._load, key.key_version)
        private, public = self._keys[key.key_version]
        if public.spki != key.spki:
            raise SignerUnavailable(f"version {key.key_version} of the key file is another key")
        return Signature(publish(_sign(private, digest), public.alg))

    def _newest(self) -> PublicKey:
        try:
            versions = [1]
            for found in self._path.parent.glob(f"{self._path.stem}.*{self._path.suffix}"):
                number = found.name.removeprefix(f"{self._path.stem}.").partition(".")[0]
                versions += [int(number)] if number.isdecimal() else []
            if versions == [1] and not self._path.exists():
                _write_new(self._path, _generate(self._alg))
        except OSError as unwritable:
            raise SignerUnavailable(f"{self._path.name} cannot be made") from unwritable
        return self._load(str(max(versions)))[1]

    def _create(self) -> PublicKey:
        version = str(int(self._newest().key_version) + 1)
        try:
            _write_new(self._file(version), _generate(self._alg))
        except OSError as unwritable:
            raise SignerUnavailable(f"version {version} cannot be made") from unwritable
        return self._load(version)[1]

    def _load(self, version: str) -> "tuple[PrivateKey, PublicKey]":
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        file = self._file(version)
        try:
            key = load_pem_private_key(file.read_bytes(), password=None)
        except (OSError, ValueError) as unreadable:
            raise SignerUnavailable(f"the key file {file.name} cannot be read") from unreadable
        if not isinstance(key, EllipticCurvePrivateKey | RSAPrivateKey):
            raise SignerUnavailable(f"{file.name} holds no P-256 or RSA key")
        self._keys[version] = key, _public(key, version)
        return self._keys[version]

    def _file(self, version: str) -> Path:
        if version == "1":
            return self._path
        return self._path.with_name(f"{self._path.stem}.{version}{self._path.suffix}")


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
    """Whoever start together, processes or threads, end with one key: the first link wins."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # A name of its own for each: a draft that is shared is written again after it was linked.
    with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as draft:
        draft.write(pem)
        draft.flush()
        with suppress(FileExistsError):
            path.hardlink_to(draft.name)


def _public(key: "PrivateKey", version: str) -> PublicKey:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    name, alg = (
        sha256(spki).hexdigest()[:16],
        "PS256" if isinstance(key, RSAPrivateKey) else "ES256",
    )
    return PublicKey(PROVIDER, name, version, alg, base64.b64encode(spki).decode())


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
