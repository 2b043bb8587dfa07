"""The SecurityCredential of the initiator APIs: the initiator's password for Daraja's eyes only."""

from base64 import b64encode
from functools import lru_cache
from typing import TYPE_CHECKING

from shared.errors import FieldError, InvalidRequest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey


def security_credential(password: str, certificate: str) -> str:
    """Encrypt with the rail's certificate (PEM), RSA PKCS#1 v1.5 as Daraja asks, base64.

    Differs each time. InvalidRequest when the certificate is none, or not of an RSA key.
    """
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    return b64encode(_public_key(certificate).encrypt(password.encode(), PKCS1v15())).decode()


def check_certificate(certificate: str) -> None:
    """InvalidRequest when nothing could be encrypted with it."""
    _public_key(certificate)


@lru_cache(maxsize=16)  # the environments of the merchants that one instance serves
def _public_key(certificate: str) -> "RSAPublicKey":
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.x509 import load_pem_x509_certificate

    try:
        key = load_pem_x509_certificate(certificate.encode()).public_key()
    except ValueError:
        raise _refused("is not a PEM certificate") from None
    if not isinstance(key, RSAPublicKey):
        raise _refused("is not the certificate of an RSA key")
    return key


def _refused(rule: str) -> InvalidRequest:
    return InvalidRequest(
        "The M-Pesa credentials are malformed",
        errors=[FieldError(pointer="/certificate", detail=f"certificate {rule}")],
    )
