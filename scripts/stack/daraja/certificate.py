"""The simulator's certificate: what a merchant seals the initiator's password with, and its key.

Made once per state folder; a reset keeps it, as merchants hold the certificate.
"""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.x509.oid import NameOID

NAME = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Daraja simulator")])
LIFE = timedelta(days=3650)


class Certificate:
    """A key of 2048 bits, as theirs. Nothing is made before it is asked for."""

    def __init__(self, state: Path) -> None:
        self._path = state / "daraja-key.pem"

    @cached_property
    def pem(self) -> str:
        """What merchants download."""
        now = datetime.now(UTC)
        signed = (
            x509.CertificateBuilder()
            .subject_name(NAME)
            .issuer_name(NAME)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + LIFE)
            .sign(self._key, hashes.SHA256())
        )
        return signed.public_bytes(serialization.Encoding.PEM).decode()

    def open(self, security_credential: str) -> str | None:
        """The password in it; something else when it was sealed for another key.

        None: this is no RSA PKCS#1 v1.5 ciphertext of 2048 bits in base64.
        """
        try:
            sealed = base64.b64decode(security_credential, validate=True)
            return self._key.decrypt(sealed, PKCS1v15()).decode("utf-8", "replace")
        except (binascii.Error, ValueError):
            return None

    @cached_property
    def _key(self) -> RSAPrivateKey:
        if not self._path.exists():
            made = generate_private_key(65537, 2048)
            self._path.write_bytes(
                made.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
        key = serialization.load_pem_private_key(self._path.read_bytes(), None)
        assert isinstance(key, RSAPrivateKey), "we wrote it"
        return key
