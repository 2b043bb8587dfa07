"""The Data API (PostgREST): one call is one SQL function, one round trip, one transaction.

    answer = await db.answer("payments.create_intent", {...}, caller)
    return answer.response()

What SQL refuses with `public.refuse` becomes the error of that code. Everything that says the
database is away, busy or slow becomes DependencyUnavailable; everything else is our defect.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Self

from starlette.responses import Response

from shared import log
from shared.config import Settings
from shared.errors import (
    DependencyUnavailable,
    InternalError,
    InvalidRequest,
    StalelaError,
    error_from_sql,
)
from shared.http.caller import Caller
from shared.http.metrics import count_data_api_call
from shared.http.timing import spent

if TYPE_CHECKING:
    from postgrest import APIError, AsyncPostgrestClient

_RETRY_AFTER_S: Final = 1
_PAUSE_S: Final = 0.1  # between the calls of a patient caller

# PostgREST: no connection, no schema cache, pool exhausted. Postgres: connection (08), resources
# (53), shutdown and recovery (57P), statement timeout, deadlock, serialisation, lock timeout.
# No code at all: the connection broke under a statement, and libpq has no SQLSTATE for that.
_AWAY: Final = ("PGRST000", "PGRST001", "PGRST002", "PGRST003", "08", "53", "57P")
_BUSY: Final = ("57014", "40P01", "40001", "55P03")
# A NUL character, or bytes that are no text: valid JSON that Postgres cannot store.
_UNSTORABLE: Final = ("22P05", "22021")
_TOKEN_REFUSED: Final = ("PGRST301", "PGRST302", "PGRST303")


@dataclass(frozen=True, slots=True)
class Answer:
    """A `public.answer`: what a handler sends back, byte for byte."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_row(cls, row: Any) -> Self | None:
        """The answer in a row of a result. None when SQL returned null (all members null)."""
        if row is None or row["status"] is None:
            return None
        body = row["body"]
        return cls(row["status"], b"" if body is None else body.encode(), row["headers"] or {})

    def with_headers(self, headers: Mapping[str, str]) -> Self:
        """The same answer with more headers; its own win."""
        return replace(self, headers={**headers, **self.headers})

    def response(self) -> Response:
        """The HTTP answer; JSON unless the headers say otherwise."""
        headers = {str(name): str(value) for name, value in self.headers.items()}
        named = any(name.lower() == "content-type" for name in headers)
        media_type = None if named or not self.body else "application/json"
        return Response(self.body, self.status, headers, media_type)


class _Unreachable(Exception):
    """The call may be made again at once: the connection it used was dead."""

    def __init__(self, error: DependencyUnavailable) -> None:
        self.error = error


class Database:
    """One function's access to the Data API. Connections are opened by the first call."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.data_api_url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {settings.data_api_token.get_secret_value()}"}
        if key := settings.data_api_key.get_secret_value():
            self._headers["apikey"] = key
        self._clients: dict[str, AsyncPostgrestClient] = {}

    async def call(
        self,
        function: str,
        args: Mapping[str, Any],
        caller: Caller,
        *,
        idempotent: bool = False,
        patience_s: float = 0.0,
    ) -> Any:
        """The result of `function` ("payments.create_intent") as decoded JSON; void is [].

        Numbers with a decimal point arrive as floats, so money comes as bigint or text. Raises
        StalelaError. After DependencyUnavailable it is unknown whether the effect happened;
        idempotent: a second call is harmless, so a dead connection is retried once. patience_s: and
        a database that is away (restarted, failed over) is waited for, that long.
        """
        assert idempotent or not patience_s, "what is not harmless to repeat is not repeated"
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + patience_s
        while True:
            try:
                return await self._twice(function, args, caller, idempotent=idempotent)
            except DependencyUnavailable:
                if clock() + _PAUSE_S > give_up_at:
                    raise
            await asyncio.sleep(_PAUSE_S)

    async def _twice(
        self, function: str, args: Mapping[str, Any], caller: Caller, *, idempotent: bool
    ) -> Any:
        try:
            return await self._once(function, args, caller)
        except _Unreachable as first:
            if not idempotent:
                raise first.error from first.__cause__
        try:
            return await self._once(function, args, caller)
        except _Unreachable as second:
            raise second.error from second.__cause__

    async def answer(
        self,
        function: str,
        args: Mapping[str, Any],
        caller: Caller,
        *,
        idempotent: bool = False,
        patience_s: float = 0.0,
    ) -> Answer:
        """The `public.answer` that `function` returns. Raises like `call`."""
        row = await self.call(function, args, caller, idempotent=idempotent, patience_s=patience_s)
        answer = Answer.from_row(row)
        assert answer is not None, f"{function} answers"
        return answer

    def load(self) -> None:
        """Import what calls are made with: a fifth of a second, before somebody waits for it."""
        import postgrest  # noqa: F401

        import shared.pooled  # noqa: F401

    async def is_ready(self) -> bool:
        """Whether the Data API answers and has its database. Never raises."""
        import httpx

        try:
            # Without a schema cache, that is without a database, even the root is a 503.
            answer = await self._client("public").session.head(f"{self._url}/")
        except httpx.HTTPError:
            return False
        return not answer.is_server_error

    async def aclose(self) -> None:
        """Close the connections. The next call opens new ones."""
        clients, self._clients = self._clients, {}
        for client in clients.values():
            await client.session.aclose()

    async def _once(self, function: str, args: Mapping[str, Any], caller: Caller) -> Any:
        import httpx
        from postgrest import APIError

        from shared.pooled import sent_along

        schema, _, name = function.partition(".")
        query = self._client(schema).rpc(name, dict(args))
        sent_along.set(caller.headers())
        started = perf_counter()
        try:
            result = await query.execute()
        except APIError as refused:
            error, outcome = _translate(refused, function)
            count_data_api_call(function, outcome)
            if outcome == "unreachable" and isinstance(error, DependencyUnavailable):
                raise _Unreachable(error) from refused
            raise error from refused
        except httpx.HTTPError as broken:
            count_data_api_call(function, "unreachable")
            log.error("data_api_unreachable", broken, rpc=function)
            unavailable = _unavailable()
            # A timeout has used up the caller's patience, and the first call may still be running.
            if isinstance(broken, httpx.TimeoutException) and not isinstance(
                broken, httpx.ConnectTimeout
            ):
                raise unavailable from broken
            raise _Unreachable(unavailable) from broken
        finally:
            spent("db", perf_counter() - started)
        count_data_api_call(function, "ok")
        return result.data

    def _client(self, schema: str) -> "AsyncPostgrestClient":
        client = self._clients.get(schema)
        if client is None:
            import httpx
            from postgrest import AsyncPostgrestClient

            from shared.pooled import PooledClient

            profile = {"Accept-Profile": schema, "Content-Profile": schema}
            client = self._clients[schema] = AsyncPostgrestClient(
                self._url,
                http_client=PooledClient(self._headers | profile),
                retry_enabled=False,  # it would sleep 1, 2 and 4 s; a caller waits for us
            )
            client.headers = httpx.Headers()  # the connections send what is always the same
        return client


def _translate(refused: "APIError", function: str) -> tuple[StalelaError, str]:
    """Our error for PostgREST's, and the outcome to count it under."""
    code = refused.code or ""
    if code.startswith("PT"):
        return _from_sql(refused, function)
    if not code or code.startswith(_AWAY) or _is_bare_fault(code):
        log.error("data_api_unavailable", rpc=function, sqlstate=code)
        return _unavailable(), "unavailable" if code == "PGRST003" else "unreachable"
    if code in _BUSY:
        log.warning("data_api_gave_up", rpc=function, sqlstate=code)
        return _unavailable(), "unavailable"
    if code in _UNSTORABLE:
        return InvalidRequest("text may not contain the NUL character"), "refused"
    name = "data_api_token_refused" if code in _TOKEN_REFUSED else "data_api_failed"
    log.error(name, rpc=function, sqlstate=code)
    return InternalError(), "failed"


def _from_sql(refused: "APIError", function: str) -> tuple[StalelaError, str]:
    error = error_from_sql(refused.details, refused.message, refused.hint)
    if isinstance(error, InternalError):
        log.error("sql_code_unknown", rpc=function, sqlstate=refused.code)
        return error, "failed"
    return error, "refused"


def _is_bare_fault(code: str) -> bool:
    # An answer that is not PostgREST's JSON has its HTTP status as code: a proxy's error page.
    return len(code) == 3 and code.startswith("5")


def _unavailable() -> DependencyUnavailable:
    return DependencyUnavailable(
        "the database did not answer; repeat with the same Idempotency-Key",
        retry_after=_RETRY_AFTER_S,
    )
