"""Keys as KMS keeps them: versions that never leave, and signatures over digests only."""

import base64
import binascii
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from scripts.stack.kms.wire import Refusal

# What a key can do, by its spec: KMS's table of algorithms.
ALGORITHMS: Final = {
    "EC_P256": {"ECDSA_SHA_256"},
    "EC_P256K": {"ECDSA_SHA_256"},
    "RSA_2048": {"RSA_PSS_SHA_256", "RSA_PKCS1_SHA_256"},
    "RSA_3072": {"RSA_PSS_SHA_256", "RSA_PKCS1_SHA_256"},
}
DIGEST_BYTES: Final = 32
REFUSED_STATES: Final = {
    "Disabled": "Rejected.Disabled",
    "PendingDeletion": "Rejected.PendingDeletion",
}
Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


@dataclass(slots=True)
class Version:
    """One pair of keys."""

    private: Private
    version_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def pem(self) -> str:
        """The public half."""
        public = self.private.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def sign(self, digest: bytes, algorithm: str) -> bytes:
        """ASN.1 DER for elliptic curves."""
        prehashed = Prehashed(SHA256())
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            return self.private.sign(digest, ec.ECDSA(prehashed))
        if algorithm == "RSA_PKCS1_SHA_256":
            return self.private.sign(digest, padding.PKCS1v15(), prehashed)
        pss = padding.PSS(padding.MGF1(SHA256()), padding.PSS.DIGEST_LENGTH)
        return self.private.sign(digest, pss, prehashed)


@dataclass(slots=True)
class Key:
    """A customer master key for signing. state: Enabled, Disabled or PendingDeletion."""

    spec: str
    key_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    state: str = "Enabled"
    versions: list[Version] = field(default_factory=list)

    def add_version(self) -> Version:
        """Make the next pair."""
        self.versions.append(Version(_generate(self.spec)))
        return self.versions[-1]

    def version(self, version_id: str) -> Version:
        """InvalidParameter for a version this key does not have."""
        for version in self.versions:
            if version.version_id == version_id:
                return version
        raise Refusal("InvalidParameter", "The parameter KeyVersionId is not valid.")

    def sign(self, version_id: str, algorithm: str, digest: str) -> str:
        """Sign a base64 digest of exactly the hash's length."""
        if self.state in REFUSED_STATES:
            raise Refusal(REFUSED_STATES[self.state], f"The key is {self.state}.")
        if algorithm not in ALGORITHMS[self.spec]:
            raise Refusal("UnsupportedOperation", f"{self.spec} does not sign by {algorithm}.")
        try:
            raw = base64.b64decode(digest, validate=True)
        except binascii.Error:
            raise Refusal("InvalidParameter", "The parameter Digest is not base64.") from None
        if len(raw) != DIGEST_BYTES:
            raise Refusal("InvalidParameter", "The length of Digest is not the algorithm's.")
        return base64.b64encode(self.version(version_id).sign(raw, algorithm)).decode()


def _generate(spec: str) -> Private:
    if spec == "EC_P256":
        return ec.generate_private_key(ec.SECP256R1())
    if spec == "EC_P256K":
        return ec.generate_private_key(ec.SECP256K1())
    return rsa.generate_private_key(public_exponent=65537, key_size=int(spec[-4:]))
