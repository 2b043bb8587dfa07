"""Daraja over HTTP: budgets, tokens, and whether a request left or not."""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from shared.errors import CredentialsRefused
from shared.rails.base import Outcome, RailUnavailable
from shared.rails.mpesa import codes, stk, wire
from shared.rails.mpesa.credentials import MpesaCredentials
from shared.rails.mpesa.tokens import Token, Tokens

TOKEN_PATH = "/oauth/v1/generate"  # noqa: S105 (a path)
RETRY_AFTER_S = 10
_ANSWER_BYTES_MAX = 64 * 1024
_REFUSALS = frozenset({400, 401, 403})

# Raised by httpx before the first byte of a request is written. Everything else may have arrived.
_NOTHING_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
)


@dataclass(frozen=True, slots=True)
class Budgets:
    """Seconds allowed. `total_s` bounds an answer that drips; it exceeds the others' sum."""

    connect_s: float = 3.0
    read_s: float = 20.0
    total_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole."""

    status: int
    body: bytes = field(repr=False)


class DarajaClient:
    """Calls Daraja. Never retries, except once on a fresh token after a refused one."""

    def __init__(
        self,
        base_urls: Mapping[str, str],
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        tokens: Tokens | None = None,
        budgets: Budgets | None = None,
    ) -> None:
        """`base_urls`: environment to host. `transport` replaces the network in tests."""
        self._base_urls = base_urls
        self._tokens = tokens or Tokens()
        self._budgets = budgets or Budgets()
        self._http = _http(self._budgets, transport)

    async def post(
        self,
        environment: str,
        credentials: MpesaCredentials,
        path: str,
        body: stk.Body,
        traceparent: str | None = None,
    ) -> Answer | None:
        """Send once and give the answer; None when it was sent and no whole answer came.

        RailUnavailable: nothing was sent. CredentialsRefused: Daraja gave no token, so neither.
        """
        token = await self._token(environment, credentials)
        answer = await self._post(environment, token, path, body, traceparent)
        if answer is None or not stk.is_token_error(answer.status, answer.body):
            return answer
        token = await self._token(environment, credentials, stale=token)
        return await self._post(environment, token, path, body, traceparent)

    async def check(self, environment: str, credentials: MpesaCredentials) -> None:
        """Ask for a new token, whatever is held. CredentialsRefused says why there is none."""
        await self._fetch_token(environment, credentials)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _token(
        self, environment: str, credentials: MpesaCredentials, stale: str | None = None
    ) -> str:
        key = _credential_set(self._base_urls[environment], credentials)
        return await self._tokens.get(
            key, lambda: self._fetch_token(environment, credentials), stale
        )

    async def _fetch_token(self, environment: str, credentials: MpesaCredentials) -> Token:
        request = self._http.build_request(
            "GET",
            self._base_urls[environment] + TOKEN_PATH,
            params={"grant_type": "client_credentials"},
        )
        login = httpx.BasicAuth(
            credentials.consumer_key.get_secret_value(),
            credentials.consumer_secret.get_secret_value(),
        )
        answer = await self._exchange(request, login)
        if answer is None:
            raise RailUnavailable("M-Pesa gave no token in time", retry_after_s=RETRY_AFTER_S)
        return read_token(answer.status, answer.body)

    async def _post(
        self, environment: str, token: str, path: str, body: stk.Body, traceparent: str | None
    ) -> Answer | None:
        headers = {"authorization": f"Bearer {token}"}
        if traceparent:
            headers["traceparent"] = traceparent
        request = self._http.build_request(
            "POST", self._base_urls[environment] + path, json=body, headers=headers
        )
        return await self._exchange(request)

    async def _exchange(
        self, request: httpx.Request, login: httpx.Auth | None = None
    ) -> Answer | None:
        try:
            async with asyncio.timeout(self._budgets.total_s):
                response = await self._http.send(request, auth=login, stream=True)
                return Answer(response.status_code, await _read(response))
        except _NOTHING_SENT as problem:
            raise RailUnavailable(
                "M-Pesa cannot be reached", retry_after_s=RETRY_AFTER_S
            ) from problem
        except (httpx.HTTPError, TimeoutError):
            return None


def read_token(status: int, body: bytes) -> Token:
    """Read the OAuth answer. `expires_in` is text in some answers and a number in others.

    CredentialsRefused when Daraja refused the app; RailUnavailable when it did not say.
    """
    try:
        answer = wire.read_object(body)
        value = wire.text(answer.get("access_token"), 4096)
        lifetime = wire.code(answer.get("expires_in"), "expires_in")
    except wire.NotReadable:
        answer, value, lifetime = {}, "", ""
    if value:
        return Token(value, float(lifetime) if lifetime.isdecimal() else 0.0)
    code = wire.text(answer.get("errorcode"))
    known = codes.meaning("api", code, wire.text(answer.get("errormessage")))
    is_temporary = known is not None and known.outcome is not Outcome.FAILED_FINAL
    if is_temporary or status not in _REFUSALS:
        wait_s = known.retry_after_s if known else None
        raise RailUnavailable("M-Pesa gave no token", retry_after_s=wait_s or RETRY_AFTER_S)
    raise CredentialsRefused(
        f"M-Pesa refused the consumer key or secret ({code or f'HTTP {status}'})",
        extras={"rail_code": code or str(status)},
    )


async def _read(response: httpx.Response) -> bytes:
    """Give the body, or nothing of one too large to be Daraja's: then it is garbage."""
    try:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > _ANSWER_BYTES_MAX:
                return b""
        return bytes(body)
    finally:
        await response.aclose()


def _http(budgets: Budgets, transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=transport,
        timeout=httpx.Timeout(budgets.read_s, connect=budgets.connect_s, pool=budgets.connect_s),
        # Short, because a connection that dies as we write turns a charge into UNKNOWN.
        limits=httpx.Limits(max_connections=100, keepalive_expiry=4.0),
        # One client serves all tenants: no cookie of one may travel with another.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
        trust_env=False,
    )


def _credential_set(base_url: str, credentials: MpesaCredentials) -> str:
    parts = (
        base_url,
        credentials.consumer_key.get_secret_value(),
        credentials.consumer_secret.get_secret_value(),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
