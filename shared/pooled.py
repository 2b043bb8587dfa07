"""httpx as the Data API's client calls it, over aiohttp's connections.

postgrest builds a call and reads its answer; what lies between costs twice as much as both in httpx
alone: it builds URL, cookies, authentication and redirects anew for each call to one same address.
"""

import json
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

import aiohttp
import httpx

# Headers of the call that is made now. Given to postgrest, httpx would copy each of them thrice.
sent_along: Final[ContextVar[Mapping[str, str]]] = ContextVar("sent_along", default={})  # noqa: B039  never mutated

_CONNECT_S: Final = 2.0
_READ_S: Final = 9.0  # one more than the statement timeout of 8 s, so the database speaks first
_CONNECTIONS: Final = 32  # PostgREST queues what its pool of 10 cannot take at once
_WAIT_S: Final = 9.0  # until one of them is free
_KEEPALIVE_S: Final = 30.0


class PooledClient(httpx.AsyncClient):
    """Sends as it is told: nothing repeated or redirected, no cookies, no environment.

    Raises httpx's errors: ConnectTimeout when no connection was had, ReadTimeout when no answer
    came, NetworkError when the connection broke.
    """

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        """`headers` go with every request."""
        super().__init__(transport=httpx.AsyncBaseTransport(), trust_env=False)
        self._always = headers
        self._pool: aiohttp.ClientSession | None = None

    async def request(
        self,
        method: str,
        url: httpx.URL | str,
        *,
        content: Any = None,
        headers: Any = None,
        params: Any = None,
        **_: Any,
    ) -> httpx.Response:
        assert not params, "calls have no filters, and one that is left out would show every row"
        try:
            async with self._connections().request(
                method,
                str(url),
                data=content,
                headers={**_as_text(headers), **sent_along.get()},
                allow_redirects=False,
            ) as answer:
                body = await answer.read()
        except aiohttp.ConnectionTimeoutError as late:
            raise httpx.ConnectTimeout(str(late)) from late
        except TimeoutError as late:
            raise httpx.ReadTimeout(str(late)) from late
        except (aiohttp.ClientError, OSError) as broken:
            raise httpx.NetworkError(str(broken)) from broken
        return _Response(answer.status, body)

    async def aclose(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()

    def _connections(self) -> aiohttp.ClientSession:
        if self._pool is None:
            self._pool = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_KEEPALIVE_S),
                headers=self._always,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(
                    connect=_WAIT_S, sock_connect=_CONNECT_S, sock_read=_READ_S
                ),
                trust_env=False,
            )
        return self._pool


class _Response(httpx.Response):
    """What postgrest reads of an answer: its status and its body, all of which is here.

    httpx would stream the body from itself, and look into its headers for how to decode it.
    """

    def __init__(self, status: int, body: bytes) -> None:
        self.status_code = status
        self.headers, self.request = _NO_HEADERS, _REQUEST
        self.body = body

    @property
    def content(self) -> bytes:
        return self.body

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    def json(self, **_: Any) -> Any:
        return json.loads(self.text)


# An answer must know these, and nobody reads them: one of each serves all.
_REQUEST: Final = httpx.Request("POST", "http://data.api/")
_NO_HEADERS: Final = httpx.Headers()


def _as_text(headers: httpx.Headers | None) -> dict[str, str]:
    # As a mapping, httpx would look for each name among all of them.
    return {name.decode(): value.decode() for name, value in headers.raw} if headers else {}
