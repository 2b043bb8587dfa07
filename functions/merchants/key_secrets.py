"""The text of an API key: a prefix that says what it opens, then 256 random bits."""

import secrets
from dataclasses import dataclass, field
from typing import Final

from shared.http.caller import digest

_PREFIXES: Final = {
    ("secret", "sandbox"): "sk_test_",
    ("secret", "production"): "sk_live_",
    ("publishable", "sandbox"): "pk_test_",
    ("publishable", "production"): "pk_live_",
}
_RANDOM_BYTES: Final = 32  # 43 characters of base64url


@dataclass(frozen=True, slots=True)
class KeySecret:
    """A secret, and what may be kept of it."""

    text: str = field(repr=False)

    @property
    def hash(self) -> str:
        return digest(self.text)

    @property
    def last4(self) -> str:
        return self.text[-4:]


def make_key_secret(kind: str, environment: str) -> KeySecret:
    """A fresh secret of a `secret` or `publishable` key of `sandbox` or `production`."""
    return KeySecret(_PREFIXES[kind, environment] + secrets.token_urlsafe(_RANDOM_BYTES))
