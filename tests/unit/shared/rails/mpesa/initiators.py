"""An invented initiator with a certificate of its own, so that a test can read what it sealed."""

import json
from base64 import b64decode
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.x509.oid import NameOID

PASSWORD = "Invented#2026"


@cache
def key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


@cache
def certificate() -> str:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "invented rail")])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key().public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=3650))
        .sign(key(), hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def document(**changes: object) -> bytes:
    """Credentials of a merchant who may also pay out; None leaves a field out."""
    fields = {
        "consumer_key": "key",
        "consumer_secret": "secret",
        "passkey": "pass",
        "shortcode": "600123",
        "initiator_name": "acaciaapi",
        "initiator_password": PASSWORD,
        "certificate": certificate(),
    } | changes
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def opened(security_credential: object) -> str:
    """The password in a SecurityCredential, as Daraja reads it."""
    return key().decrypt(b64decode(str(security_credential)), PKCS1v15()).decode()
