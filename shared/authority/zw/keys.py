"""The device's key and certificate, and the certificates of FDMS."""

import base64
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

from shared.authority.zw.texts import hash_of
from shared.authority.zw.wire import DeviceSignature

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

DEVICE_ID_DIGITS: Final = 10


def common_name(serial_no: str, device_id: int) -> str:
    """The subject that FDMS expects in a request: ZIMRA-SN0001-0000000042."""
    return f"ZIMRA-{serial_no}-{device_id:0{DEVICE_ID_DIGITS}d}"


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """A P-256 key. Its PEM exists in memory, and sealed by the vault."""

    private: "EllipticCurvePrivateKey"

    @classmethod
    def generate(cls) -> Self:
        from cryptography.hazmat.primitives.asymmetric import ec

        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def read(cls, pem: str) -> Self:
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        key = load_pem_private_key(pem.encode(), password=None)
        assert isinstance(key, EllipticCurvePrivateKey), "we made it"
        return cls(key)

    @property
    def pem(self) -> str:
        """PKCS #8, not encrypted."""
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            NoEncryption,
            PrivateFormat,
        )

        return self.private.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ).decode()

    def request(self, serial_no: str, device_id: int) -> str:
        """A certificate request, PEM."""
        from cryptography import x509
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.serialization import Encoding
        from cryptography.x509.oid import NameOID

        name = x509.NameAttribute(NameOID.COMMON_NAME, common_name(serial_no, device_id))
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([name]))
        return request.sign(self.private, SHA256()).public_bytes(Encoding.PEM).decode()

    def sign(self, text: str) -> DeviceSignature:
        """ES256 as DER: raw r and s are refused there (RCPT020)."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
        from cryptography.hazmat.primitives.hashes import SHA256

        signature = self.private.sign(text.encode(), ECDSA(SHA256()))
        return DeviceSignature(hash_of(text), base64.b64encode(signature).decode())


def valid_till(certificate: str) -> datetime:
    """The last instant of a certificate, PEM."""
    from cryptography.x509 import load_pem_x509_certificate

    return load_pem_x509_certificate(certificate.encode()).not_valid_after_utc.astimezone(UTC)


def is_signed_by(certificate: str, text: str, signature: str) -> bool:
    """Whether the key of a certificate (P-256 or RSA, PEM) signed `text`. signature: base64."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509 import load_pem_x509_certificate

    try:
        raw = base64.b64decode(signature, validate=True)
        key = load_pem_x509_certificate(certificate.encode()).public_key()
        if isinstance(key, EllipticCurvePublicKey):
            key.verify(raw, text.encode(), ECDSA(SHA256()))
        elif isinstance(key, RSAPublicKey):
            key.verify(raw, text.encode(), PKCS1v15(), SHA256())
        else:
            return False
    except (InvalidSignature, ValueError):
        return False
    return True
