"""A terminal that sells without a connection: its own key, its own clock, its own chain."""

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.canonical import canonical_bytes, canonical_hash
from shared.fiscal.chain import entry_hash
from shared.fiscal.document import Document
from shared.fiscal.engine import price
from shared.fiscal.proof import PublishedKey
from shared.fiscal.seal import Seal
from shared.fiscal.statements import Statement
from shared.signing.encoding import publish

Json = dict[str, Any]


@dataclass
class Terminal:
    """What a till does. Its private key never leaves it; its queue holds what it sealed."""

    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    credential: Json = field(default_factory=dict)
    previous_hash: str = ""
    next_number: int = 0
    queue: list[Json] = field(default_factory=list)

    @property
    def public_key(self) -> str:
        der = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(der).decode()

    def provision(self, resource: Json, keys: dict[str, PublishedKey]) -> None:
        """Begin with a credential, once it is seen to be signed by a published key."""
        signed = resource["credential"]
        statement = Statement(signed["statement"], signed["key_id"], signed["signature"])
        root = keys[signed["key_id"]]
        assert statement.is_signed_by(root.alg, root.public_key.spki), "signed by us"
        assert statement.body["public_key"] == self.public_key, "for this terminal"
        self.credential = dict(statement.body)
        self.previous_hash = sha256(canonical_bytes(self.credential)).hexdigest()
        self.next_number = self.credential["block_start"]

    def seal(self, document: Json, sealed_at: str | None = None, **changes: Any) -> Json:
        """Number, sign and chain a document; what is queued for the day the line is back."""
        number, at = self.next_number, sealed_at or f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        assert number <= self.credential["block_end"], "the block is used up: sales stop"
        canonical = price(Document.model_validate(document)).canonical
        payload_hash = canonical_hash(canonical)
        name = f"{self.credential['number_prefix']}-{number:06d}"
        seal = Seal(
            jurisdiction=self.credential["jurisdiction"],
            outlet_id=self.credential["outlet_id"],
            fiscal_authority_id=self.credential["fiscal_authority_id"],
            fiscal_number=name,
            sequence=number,
            canonical_payload_hash=payload_hash,
            previous_hash=self.previous_hash,
            sealed_at=at,
            key_id=self.credential["credential_id"],
        )
        sealed = {
            "document": document,
            "sequence": number,
            "sealed_at": at,
            "canonical_payload_hash": payload_hash,
            "local_previous_hash": self.previous_hash,
            "signature": self.sign(seal.digest()),
        } | changes
        self.previous_hash = entry_hash(name, payload_hash, at, self.previous_hash)
        self.next_number += 1
        self.queue.append(sealed)
        return sealed

    def sign(self, digest: bytes) -> str:
        """With the terminal's key, as published."""
        return publish(self.key.sign(digest, ec.ECDSA(Prehashed(SHA256()))), "ES256")
