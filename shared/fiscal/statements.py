"""What our keys say to people outside, beside seals: signed statements (anchors, credentials)."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from shared.canonical import canonical_bytes
from shared.signing.verification import is_signed


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement beside its signature, as published."""

    body: Mapping[str, Any]
    key_id: str
    signature: str

    def is_signed_by(self, alg: str, spki: str) -> bool:
        """Whether the key (base64 DER) made the signature over this body and its own name."""
        return is_signed(statement_digest(self.body, self.key_id), self.signature, alg, spki)


def statement_digest(body: Mapping[str, Any], key_id: str) -> bytes:
    """The 32 bytes a provider signs: SHA-256 of the canonical statement with its key's name."""
    return sha256(canonical_bytes({"key_id": key_id, "statement": body, "v": 1})).digest()
