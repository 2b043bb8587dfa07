"""Who is calling: the dependencies of every route.

A handler never decides what a caller may do. It reads the credential, hashes or verifies it, and
hands it on as request headers of the Data API; `public.caller()` resolves them in the transaction
of the work. What is not sent cannot leak: API keys and client secrets travel as SHA-256.
"""

import hmac
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase

from shared.errors import (
    AuthenticationRequired,
    InvalidRequest,
    KeyInvalid,
    TokenInvalid,
)
from shared.http.tracing import continue_trace
from shared.http.user_token import TokenVerifier, User
from shared.ids import new_id

_KEY_PREFIXES: Final = ("sk_test_", "sk_live_", "pk_test_", "pk_live_")
_ENVIRONMENTS: Final = ("sandbox", "production")
_SECRET_LIMIT: Final = 256  # characters; every credential we issue is shorter


@dataclass(frozen=True, slots=True)
class Caller:
    """A credential on its way to `public.caller()`. Without one it is the function itself."""

    request_id: str
    traceparent: str
    key_hash: str | None = None
    user: User | None = None
    environment: str | None = None  # of a user; a key has its own
    client_secret_hash: str | None = None

    @property
    def is_anonymous(self) -> bool:
        """Whether nobody's credential is on its way."""
        return self.key_hash is None and self.user is None

    def headers(self) -> dict[str, str]:
        """The request headers of a Data API call made for this caller."""
        headers = {"x-request-id": self.request_id, "traceparent": self.traceparent}
        if self.key_hash:
            headers["x-stalela-key-hash"] = self.key_hash
        if self.user:
            headers["x-stalela-user-id"] = self.user.user_id
            if self.user.email:
                headers["x-stalela-user-email"] = self.user.email
            if self.user.tenant_id:
                headers["x-stalela-tenant-id"] = self.user.tenant_id
        if self.environment:
            headers["x-stalela-environment"] = self.environment
        if self.client_secret_hash:
            headers["x-stalela-client-secret-hash"] = self.client_secret_hash
        return headers


async def function_caller(request: Request) -> Caller:
    """The function on its own behalf, as for a callback: nobody else's credential."""
    return Caller(request.state.request_id, request.state.traceparent)


def background_caller() -> Caller:
    """The function on its own behalf, outside any request: work that a poke began."""
    return Caller(new_id("req"), continue_trace(None).traceparent)


class _Credential(SecurityBase):
    """A dependency that documents itself: `scheme_name` is what the OpenAPI document refers to."""

    def __init__(self, scheme_name: str) -> None:
        self.scheme_name = scheme_name
        self.model = HTTPBearer()


class _ApiCaller(_Credential):
    """`Authorization: Bearer` with an API key or the token of a signed-in user."""

    async def __call__(self, request: Request) -> Caller:
        bearer = _require_bearer(request)
        if bearer.startswith(_KEY_PREFIXES):
            _environment(request)  # a key has its own; what no environment is called is refused
            return Caller(
                request.state.request_id, request.state.traceparent, key_hash=digest(bearer)
            )
        if bearer.count(".") == 2:
            return await _user(request, bearer)
        raise KeyInvalid("the Authorization header holds neither an API key nor a user token")


class _UserCaller(_Credential):
    """`Authorization: Bearer` with the token of a signed-in user, and nothing else."""

    async def __call__(self, request: Request) -> Caller:
        bearer = _require_bearer(request)
        if bearer.startswith(_KEY_PREFIXES):
            raise TokenInvalid("this route takes the token of a signed-in user, not an API key")
        return await _user(request, bearer)


class _PayerCaller(_ApiCaller):
    """As the API caller; a publishable key needs the intent's `x-client-secret` beside it."""

    async def __call__(self, request: Request) -> Caller:
        secret = request.headers.get("x-client-secret")
        caller = await super().__call__(request)
        if secret is None:
            return caller
        if not _is_credential(secret):
            raise KeyInvalid("x-client-secret is not a client secret")
        return replace(caller, client_secret_hash=digest(secret))


class _StreamCaller(_Credential):
    """As the payer; or nobody, when the query brings a stream token, which speaks for itself."""

    async def __call__(self, request: Request) -> Caller:
        if "token" in request.query_params:
            _environment(request)
            return await function_caller(request)
        return await payer_caller(request)


class _VisitorCaller(_Credential):
    """As the API caller; or nobody, without an Authorization header."""

    async def __call__(self, request: Request) -> Caller:
        if "authorization" in request.headers:
            return await api_caller(request)
        return await function_caller(request)


class _InternalCaller(_Credential):
    """`Authorization: Bearer` with a token of `internal_tokens`: pg_net and pg_cron."""

    async def __call__(self, request: Request) -> Caller:
        bearer = _require_bearer(request).encode()
        # Every token is compared, so the time tells nothing about which one was close.
        equal = [
            hmac.compare_digest(bearer, token.get_secret_value().encode())
            for token in request.app.state.settings.internal_tokens
        ]
        if not any(equal):
            raise KeyInvalid("this route takes the platform's own token")
        return await function_caller(request)


class _StaffCaller(_Credential):
    """A signed-in user, whom SQL must know for an operator, or the platform itself."""

    async def __call__(self, request: Request) -> Caller:
        if _require_bearer(request).count(".") == 2:
            return await user_caller(request)
        return await internal_caller(request)


api_caller: Final = _ApiCaller("ApiCaller")
user_caller: Final = _UserCaller("UserCaller")
payer_caller: Final[_PayerCaller] = _PayerCaller("PayerCaller")
stream_caller: Final = _StreamCaller("StreamCaller")
visitor_caller: Final = _VisitorCaller("VisitorCaller")
internal_caller: Final = _InternalCaller("InternalCaller")
staff_caller: Final = _StaffCaller("StaffCaller")

ApiCaller = Annotated[Caller, Depends(api_caller)]
UserCaller = Annotated[Caller, Depends(user_caller)]
PayerCaller = Annotated[Caller, Depends(payer_caller)]
StreamCaller = Annotated[Caller, Depends(stream_caller)]
VisitorCaller = Annotated[Caller, Depends(visitor_caller)]
InternalCaller = Annotated[Caller, Depends(internal_caller)]
StaffCaller = Annotated[Caller, Depends(staff_caller)]
FunctionCaller = Annotated[Caller, Depends(function_caller)]


def digest(secret: str) -> str:
    """SHA-256 as hex, the form in which SQL knows keys, client secrets and callback tokens."""
    return sha256(secret.encode()).hexdigest()


def _bearer(request: Request) -> str | None:
    header = request.headers.get("authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise AuthenticationRequired("the Authorization header must read: Bearer <key or token>")
    return token


def _require_bearer(request: Request) -> str:
    bearer = _bearer(request)
    if bearer is None:
        raise AuthenticationRequired("send an Authorization header: Bearer <key or token>")
    return bearer


def _is_credential(text: str) -> bool:
    return 16 <= len(text) <= _SECRET_LIMIT and text.isascii() and text.isprintable()


async def _user(request: Request, token: str) -> Caller:
    environment = _environment(request)
    verifier: TokenVerifier = request.app.state.token_verifier
    user = await verifier.verify(token)
    return Caller(
        request.state.request_id, request.state.traceparent, user=user, environment=environment
    )


def _environment(request: Request) -> str:
    environment = request.headers.get("x-stalela-environment", "sandbox")
    if environment not in _ENVIRONMENTS:
        raise InvalidRequest(
            "x-stalela-environment: must be sandbox or production",
            errors=[
                {
                    "pointer": "/x-stalela-environment",
                    "detail": "must be sandbox or production",
                    "in": "header",
                }
            ],
        )
    return environment
