"""The chain of an outlet's ledger: each entry commits to the one before (reference: fiscal 9)."""

from hashlib import sha256
from typing import Final

GENESIS: Final = "0" * 64


def entry_hash(
    fiscal_number: str, canonical_payload_hash: str, sealed_at: str, previous_hash: str
) -> str:
    """Hex SHA-256 of the four texts joined by line feeds, which none of them can contain."""
    fields = (fiscal_number, canonical_payload_hash, sealed_at, previous_hash)
    return sha256("\n".join(fields).encode()).hexdigest()
