"""Whether a published signature is a key's, over a digest. Never asks a provider."""

import base64
from functools import lru_cache
from typing import TYPE_CHECKING

from shared.signing.encoding import from_base64url, raw_to_der

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes


def is_signed(digest: bytes, signature: str, alg: str, spki: str) -> bool:
    """True when `signature` (base64url) is over `digest` by the key `spki` (base64 DER)."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, padding
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
    from cryptography.hazmat.primitives.hashes import SHA256

    prehashed = Prehashed(SHA256())
    try:
        key, raw = _load(spki), from_base64url(signature)
        if alg == "ES256" and isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(raw_to_der(raw), digest, ec.ECDSA(prehashed))
        elif alg == "PS256" and isinstance(key, RSAPublicKey):
            pss = padding.PSS(padding.MGF1(SHA256()), padding.PSS.DIGEST_LENGTH)
            key.verify(raw, digest, pss, prehashed)
        elif alg == "RS256" and isinstance(key, RSAPublicKey):
            key.verify(raw, digest, padding.PKCS1v15(), prehashed)
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        return False
    return True


@lru_cache(maxsize=256)
def _load(spki: str) -> "PublicKeyTypes":
    # Parsing a key costs as much as verifying with it, and few keys sign many documents.
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    return load_der_public_key(base64.b64decode(spki))


def is_p256(spki: str) -> bool:
    """Whether this is base64 of the DER of a P-256 public key."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = _load(spki)
    except (UnsupportedAlgorithm, ValueError):
        return False
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)
