"""Signatures as they are published: base64url, and r and s instead of ASN.1 for elliptic curves."""

import base64
from typing import Final

COORDINATE_BYTES: Final = 32  # P-256


def publish(signature: bytes, alg: str) -> str:
    """What a provider gave, as published. ES256 comes as DER from every provider."""
    return base64url(der_to_raw(signature) if alg == "ES256" else signature)


def base64url(data: bytes) -> str:
    """Without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """ValueError when it is none, or is not the one text of its bytes."""
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if base64url(data) != text:
        # Bits after the last byte, and + for -, are let through by the decoder.
        raise ValueError("not the one base64url text of these bytes")
    return data


def der_to_raw(der: bytes) -> bytes:
    """ASN.1 DER to the 64 bytes r and s."""
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    r, s = decode_dss_signature(der)
    return r.to_bytes(COORDINATE_BYTES, "big") + s.to_bytes(COORDINATE_BYTES, "big")


def raw_to_der(raw: bytes) -> bytes:
    """The 64 bytes r and s to ASN.1 DER, as ZIMRA and most libraries want it."""
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    if len(raw) != 2 * COORDINATE_BYTES:
        raise ValueError("an ES256 signature has 64 bytes")
    r, s = raw[:COORDINATE_BYTES], raw[COORDINATE_BYTES:]
    return encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
