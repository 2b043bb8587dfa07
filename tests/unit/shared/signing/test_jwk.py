"""Public keys as other libraries read them."""

import base64

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.signing.jwk import jwk_of

# The first leading zeros that coordinates have: scalars found by trying, and fixed here.
POINTS = [1, 0x57A1E1A, 379, 100]


def spki_of(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> str:
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


@pytest.mark.parametrize("scalar", POINTS)
def test_jwk_of_a_curve_is_the_same_key(scalar: int) -> None:
    key = ec.derive_private_key(scalar, ec.SECP256R1()).public_key()

    read = jwt.PyJWK(jwk_of("k", "ES256", spki_of(key)))

    assert read.key == key
    assert (read.key_id, read.algorithm_name, read.public_key_use) == ("k", "ES256", "sig")


def test_jwk_of_rsa_is_the_same_key() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()

    read = jwt.PyJWK(jwk_of("k", "PS256", spki_of(key)))

    assert read.key == key
    assert jwk_of("k", "PS256", spki_of(key))["e"] == "AQAB"
