"""Webhook signatures as in the Standard Webhooks specification, and the secrets they are made with.

A secret is `whsec_` and the base64 of 32 random bytes. Receivers verify `webhook-signature`, a list
of one signature per valid secret, over `webhook-id`, `webhook-timestamp` and the body.
"""

import base64
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook

from shared.vault import Vault

_PREFIX: Final = "whsec_"
_RANDOM_BYTES: Final = 32


def new_secret() -> str:
    """A fresh secret, to be shown once."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_RANDOM_BYTES)).decode()


def seal_secret(vault: Vault, secret: str, endpoint_id: str) -> str:
    """The secret as it is stored: it opens for this endpoint and no other."""
    return vault.seal(secret.encode(), _context(endpoint_id))


def reseal_secret(vault: Vault, sealed: str, endpoint_id: str) -> str:
    """The same secret under the current master key. Raises VaultError."""
    return vault.reseal(sealed, _context(endpoint_id))


def signed_headers(
    vault: Vault, secrets_sealed: Sequence[str], endpoint_id: str, event_id: str, payload: str
) -> dict[str, str]:
    """The headers of one attempt, now. Raises VaultError when a secret does not open."""
    now = datetime.now(UTC)
    signatures = [
        Webhook(vault.open(sealed, _context(endpoint_id)).decode()).sign(event_id, now, payload)
        for sealed in secrets_sealed
    ]
    return {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def _context(endpoint_id: str) -> str:
    return f"webhook secret of {endpoint_id}"
