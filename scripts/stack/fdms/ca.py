"""The authority's certificates: its root, its web server, the key it signs with, the devices'.

Made once per state folder: devices keep what they were issued.
"""

import base64
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ROOT_LIFE = timedelta(days=3650)


class Authority:
    """The root and what it signs."""

    def __init__(self, state: Path) -> None:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._state = state
        self._key = self._kept_key("root")
        self.root = self._kept("root", self._self_signed)
        self.signing_key = self._kept_key("signing")
        self.signing = self._kept("signing", lambda: self._issued("FDMS", self.signing_key))
        web_key = self._kept_key("web")
        self._kept("web", lambda: self._issued("localhost", web_key, _LOCAL))

    @property
    def root_file(self) -> Path:
        """What clients trust."""
        return self._state / "root.pem"

    @property
    def chain(self) -> list[str]:
        """The signing certificate and the root, as GetServerCertificate gives them."""
        return [pem(self.signing), pem(self.root)]

    @property
    def thumbprint(self) -> str:
        """SHA-1 of the signing certificate, as answers name it."""
        return self.signing.fingerprint(hashes.SHA1()).hex()  # noqa: S303  their wire's

    def tls(self) -> ssl.SSLContext:
        """Mutual: who shows a certificate shows one of ours."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._state / "web.pem", self._state / "web.key")
        context.load_verify_locations(self.root_file)
        context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def issue(self, request_pem: str, common_name: str, days: int) -> x509.Certificate | None:
        """A device's certificate; None: the request is not one we sign."""
        try:
            request = x509.load_pem_x509_csr(request_pem.encode())
            valid = request.is_signature_valid
        except ValueError:
            return None
        names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        key = request.public_key()
        strong = (isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == "secp256r1") or (
            isinstance(key, rsa.RSAPublicKey) and key.key_size == 2048
        )
        if not (valid and strong and [name.value for name in names] == [common_name]):
            return None
        assert isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey), "checked above"
        return self._sign(common_name, key, timedelta(days=days), client=True)

    def sign(self, text: str) -> str:
        """ES256 as DER in base64, under the signing certificate."""
        signed = self.signing_key.sign(text.encode(), ec.ECDSA(hashes.SHA256()))
        return base64.b64encode(signed).decode()

    def _self_signed(self) -> x509.Certificate:
        return self._sign("ZIMRA simulator root", self._key.public_key(), ROOT_LIFE, is_root=True)

    def _issued(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        places: Sequence[x509.GeneralName] = (),
    ) -> x509.Certificate:
        return self._sign(name, key.public_key(), ROOT_LIFE, places)

    def _sign(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
        life: timedelta,
        places: Sequence[x509.GeneralName] = (),
        *,
        is_root: bool = False,
        client: bool = False,
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        subject = _name(name)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if is_root else _name("ZIMRA simulator root"))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + life)
            .add_extension(x509.BasicConstraints(ca=is_root, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if is_root:
            builder = builder.add_extension(_ROOT_USAGE, critical=True)
        if client:
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
            builder = builder.add_extension(usage, critical=False)
        if places:
            names = x509.SubjectAlternativeName(places)
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def _kept_key(self, name: str) -> ec.EllipticCurvePrivateKey:
        path = self._state / f"{name}.key"
        if not path.exists():
            made = ec.generate_private_key(ec.SECP256R1())
            path.write_bytes(
                made.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
        key = serialization.load_pem_private_key(path.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey), "we wrote it"
        return key

    def _kept(self, name: str, make: Callable[[], x509.Certificate]) -> x509.Certificate:
        path = self._state / f"{name}.pem"
        if not path.exists():
            # Whole or not there: clients wait for the root's file.
            draft = path.with_suffix(".new")
            draft.write_text(pem(make()))
            draft.replace(path)
        return x509.load_pem_x509_certificate(path.read_bytes())


def pem(certificate: x509.Certificate) -> str:
    """As text."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def is_signed(certificate_pem: str, text: str, signature: str) -> bool:
    """Whether a device signed `text`: ES256 as DER, or RSA PKCS #1 v1.5, in base64."""
    key = x509.load_pem_x509_certificate(certificate_pem.encode()).public_key()
    try:
        raw = base64.b64decode(signature, validate=True)
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(raw, text.encode(), ec.ECDSA(hashes.SHA256()))
        else:
            assert isinstance(key, rsa.RSAPublicKey), "no other is issued"
            key.verify(raw, text.encode(), padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError):
        return False
    return True


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


_LOCAL = (x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1")))
_ROOT_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)
