"""What signs digests: a key in a file here, a key in an HSM in production.

A provider is given the 32 bytes of a SHA-256, never the message, and must not hash them again.
"""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half: `alg` is ES256, PS256 or RS256, `spki` base64 of the DER."""

    provider: str
    key_ref: str
    key_version: str
    alg: str
    spki: str


@dataclass(frozen=True, slots=True)
class Signature:
    """`value` as published: base64url without padding; ES256 is 64 bytes r and s."""

    value: str
    request_id: str | None = None


class Signer(Protocol):
    """One key. SignerUnavailable: nothing is known about the digest, ask again."""

    async def public_key(self) -> PublicKey:
        """The public half of the key that signs now."""
        ...

    async def sign(self, digest: bytes) -> Signature:
        """Sign 32 bytes."""
        ...


class SignerUnavailable(Exception):
    """The provider did not sign. `reason` is for operators and holds no secret."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
