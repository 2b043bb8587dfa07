"""Verification of Supabase user tokens: signature by JWKS, issuer, audience, life.

Only ES256 and RS256: a symmetric or absent algorithm would let a holder of the public key sign.
"""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from anyio import to_thread

from shared.errors import DependencyUnavailable, TokenInvalid

if TYPE_CHECKING:
    from jwt import PyJWKClient

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_TENANT_ID: Final = re.compile(r"[a-z]+_[0-9a-z]{1,40}", re.ASCII)
_TOKEN_LIMIT: Final = 8192  # characters; a header is limited to 64 KiB before it gets here


@dataclass(frozen=True, slots=True)
class User:
    """Claims of a verified token. tenant_id is "" before sign-up; email "" when not ASCII."""

    user_id: str
    email: str
    tenant_id: str


class TokenVerifier:
    """Holds the key set of one Auth server. Keys are fetched when first needed, then cached."""

    def __init__(self, supabase_url: str) -> None:
        self._issuer = f"{supabase_url.rstrip('/')}/auth/v1"
        self._keys: PyJWKClient | None = None

    async def verify(self, token: str) -> User:
        """The user of `token`. Raises TokenInvalid, or DependencyUnavailable without a key set."""
        if len(token) > _TOKEN_LIMIT:
            raise TokenInvalid("the token is longer than any we issue")
        # Fetching the key set blocks, so all of it happens in a thread.
        return _user_of(await to_thread.run_sync(self._claims, token))

    def _claims(self, token: str) -> dict[str, Any]:
        import jwt

        try:
            key = self._key_set().get_signing_key_from_jwt(token).key
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=["ES256", "RS256"],
                audience="authenticated",
                issuer=self._issuer,
                leeway=30,  # seconds; what the Data API allows too
                options={"require": ["exp", "sub", "role"]},
            )
        except jwt.PyJWKClientConnectionError as unreachable:
            raise DependencyUnavailable(
                "the key set of Auth cannot be read", retry_after=2
            ) from unreachable
        except jwt.ExpiredSignatureError as expired:
            raise TokenInvalid("the token has expired") from expired
        except jwt.PyJWTError as refused:
            raise TokenInvalid("the token is malformed or was not issued by Auth") from refused
        return claims

    def _key_set(self) -> "PyJWKClient":
        if self._keys is None:
            from jwt import PyJWKClient

            # cooldown: an unknown key id may cause one fetch in 5 s, however many forgers try.
            self._keys = PyJWKClient(
                f"{self._issuer}/.well-known/jwks.json",
                lifespan=300,
                timeout=3,
                cooldown_duration=5,
            )
        return self._keys


def _user_of(claims: dict[str, Any]) -> User:
    user_id, tenant_id = claims.get("sub"), claims.get("tenant_id") or ""
    if claims.get("role") != "authenticated" or claims.get("is_anonymous"):
        raise TokenInvalid("the token is not of a signed-in user")
    if not isinstance(user_id, str) or not _UUID.fullmatch(user_id):
        raise TokenInvalid("the token names no user")
    if not isinstance(tenant_id, str) or (tenant_id and not _TENANT_ID.fullmatch(tenant_id)):
        raise TokenInvalid("the token names no tenant of ours")
    email = claims.get("email")
    # A header carries ASCII. An address beyond it is known to Auth and to SQL by the user id.
    sendable = isinstance(email, str) and email.isascii() and email.isprintable()
    return User(user_id, str(email) if sendable else "", tenant_id)
