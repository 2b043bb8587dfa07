"""Public keys as JWKs (RFC 7517), for verifiers that know JOSE."""

import base64
from typing import Any

from shared.signing.encoding import COORDINATE_BYTES, base64url


def jwk_of(key_id: str, alg: str, spki: str) -> dict[str, Any]:
    """The JWK of a public key. spki: base64 of the DER, of a P-256 or an RSA key."""
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    key = load_der_public_key(base64.b64decode(spki))
    named = {"kid": key_id, "use": "sig", "alg": alg}
    if isinstance(key, RSAPublicKey):
        numbers = key.public_numbers()
        return named | {"kty": "RSA", "n": _shortest(numbers.n), "e": _shortest(numbers.e)}
    assert isinstance(key, EllipticCurvePublicKey), "the kinds of keys that sign"
    point = key.public_numbers()
    return named | {
        "kty": "EC",
        "crv": "P-256",
        "x": base64url(point.x.to_bytes(COORDINATE_BYTES)),
        "y": base64url(point.y.to_bytes(COORDINATE_BYTES)),
    }


def _shortest(number: int) -> str:
    return base64url(number.to_bytes((number.bit_length() + 7) // 8))
