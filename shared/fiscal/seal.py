"""What is signed, and how a person reads a signature (reference: fiscal 10)."""

import base64
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Final

from shared.canonical import canonical_bytes

_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_RFC4648: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_TO_CROCKFORD: Final = str.maketrans(_RFC4648, _CROCKFORD)


@dataclass(frozen=True, slots=True)
class Seal:
    """The seal object. It names previous_hash, so a signature commits to all that came before."""

    jurisdiction: str
    outlet_id: str
    fiscal_authority_id: str
    fiscal_number: str
    sequence: int
    canonical_payload_hash: str
    previous_hash: str
    sealed_at: str
    key_id: str
    v: int = 1

    def digest(self) -> bytes:
        """The 32 bytes a provider signs: SHA-256 of the canonical seal object."""
        return sha256(canonical_bytes(asdict(self))).digest()


def auth_code(signature: bytes) -> str:
    """Sixteen characters that a person can compare: `K56Y-BV6M-60QQ-5NM4`."""
    code = base64.b32encode(sha256(signature).digest()[:10]).decode().translate(_TO_CROCKFORD)
    return "-".join(code[at : at + 4] for at in range(0, len(code), 4))
