"""Daraja over HTTP: tokens, and what its answers to them mean."""

import base64
import hashlib
import json
from collections.abc import Mapping

from shared.errors import CredentialsRefused
from shared.rails.base import Outcome, RailUnavailable
from shared.rails.mpesa import codes, stk, wire
from shared.rails.mpesa.credentials import MpesaCredentials
from shared.rails.mpesa.tokens import Token, Tokens
from shared.transport import Answer, HttpTransport, NothingSent, Request, Transport

TOKEN_PATH = "/oauth/v1/generate?grant_type=client_credentials"  # noqa: S105 (a path)
RETRY_AFTER_S = 10
_REFUSALS = frozenset({400, 401, 403})


class DarajaClient:
    """Calls Daraja. Never retries, except once on a fresh token after a refused one."""

    def __init__(
        self,
        base_urls: Mapping[str, str],
        *,
        transport: Transport | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        """`base_urls`: environment to host. `transport` replaces the network in tests."""
        self._base_urls = base_urls
        self._tokens = tokens or Tokens()
        self._transport = transport or HttpTransport()

    async def post(
        self,
        environment: str,
        credentials: MpesaCredentials,
        path: str,
        body: wire.Body,
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
        await self._transport.aclose()

    async def _token(
        self, environment: str, credentials: MpesaCredentials, stale: str | None = None
    ) -> str:
        key = _credential_set(self._base_urls[environment], credentials)
        return await self._tokens.get(
            key, lambda: self._fetch_token(environment, credentials), stale
        )

    async def _fetch_token(self, environment: str, credentials: MpesaCredentials) -> Token:
        login = (
            f"{credentials.consumer_key.get_secret_value()}"
            f":{credentials.consumer_secret.get_secret_value()}"
        )
        headers = {"authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
        answer = await self._send(
            Request("GET", self._base_urls[environment] + TOKEN_PATH, headers)
        )
        if answer is None:
            raise RailUnavailable("M-Pesa gave no token in time", retry_after_s=RETRY_AFTER_S)
        return read_token(answer.status, answer.body)

    async def _post(
        self, environment: str, token: str, path: str, body: wire.Body, traceparent: str | None
    ) -> Answer | None:
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        if traceparent:
            headers["traceparent"] = traceparent
        written = json.dumps(body, separators=(",", ":")).encode()
        return await self._send(
            Request("POST", self._base_urls[environment] + path, headers, written)
        )

    async def _send(self, request: Request) -> Answer | None:
        try:
            return await self._transport.send(request)
        except NothingSent as problem:
            raise RailUnavailable(
                "M-Pesa cannot be reached", retry_after_s=RETRY_AFTER_S
            ) from problem


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


def _credential_set(base_url: str, credentials: MpesaCredentials) -> str:
    parts = (
        base_url,
        credentials.consumer_key.get_secret_value(),
        credentials.consumer_secret.get_secret_value(),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
