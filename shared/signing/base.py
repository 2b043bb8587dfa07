"""What signs digests: a key in a file here, a key in an HSM in production.

A provider is given the 32 bytes of a SHA-256, never the message, and must not hash them again.
Which key signs which entry is the database's decision; a provider only uses the key it is told.
"""

from dataclasses import dataclass
from typing import Final, Protocol

DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The public half of a key, and where its provider finds the other one.

    alg: ES256, PS256 or RS256. spki: base64 of the DER.
    """

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
    """One provider. Each verb raises SignerUnavailable or SignerRefused when it has no answer."""

    async def newest(self) -> PublicKey:
        """The newest key there is; a provider that had none makes one."""
        ...

    async def create(self) -> PublicKey:
        """A key that was not there before, for a rotation. Older keys go on signing."""
        ...

    async def sign(self, key: PublicKey, digest: bytes) -> Signature:
        """Sign 32 bytes with this key and no other."""
        ...


class NotSigned(Exception):
    """There is no signature. `reason` is for operators and holds no secret."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SignerUnavailable(NotSigned):
    """Not now: silence, throttling, an outage, a key that another instance may hold. Ask again."""


class SignerResting(SignerUnavailable):
    """Nobody was asked, because the provider failed too often a moment ago."""


class SignerRefused(NotSigned):
    """Not ever, until somebody changes something: a disabled key, a missing permission."""
