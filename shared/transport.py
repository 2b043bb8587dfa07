"""HTTP to rails and tax authorities, exact about one thing: whether a request left us or not.

Decided by aiohttp's own exceptions and proved with real sockets. aiohttp raises those of
`_NOTHING_SENT` before the first byte of a request is written; after any other it may have arrived.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

import aiohttp

ANSWER_BYTES_MAX: Final = 64 * 1024
_CONNECTIONS: Final = 100
# Short, because a connection that dies as we write turns a charge into UNKNOWN.
_KEEPALIVE_S: Final = 4.0

_NOTHING_SENT: Final = (
    aiohttp.ClientConnectorError,  # refused, no route, no such host, no TLS
    aiohttp.ConnectionTimeoutError,  # no connection in time, whether waited for or opened
    aiohttp.InvalidURL,
    aiohttp.NonHttpUrlClientError,
)


@dataclass(frozen=True, slots=True)
class Budgets:
    """Seconds allowed. `total_s` bounds an answer that drips; it exceeds the others' sum."""

    connect_s: float = 3.0
    read_s: float = 20.0
    total_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent, once. `tls`: our certificate there and what we trust; None: the system's."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whole. The body of one that is too large is empty: garbage."""

    status: int
    body: bytes = field(repr=False)


class NothingSent(Exception):
    """No byte of the request has left."""


class Transport(Protocol):
    """Sends one request; whatever may move money never twice."""

    async def send(self, request: Request) -> Answer | None:
        """Give the answer; None when it was sent and no whole answer came. Raises NothingSent."""
        ...

    async def aclose(self) -> None:
        """Close the connections. The next request opens new ones."""
        ...


class HttpTransport:
    """Over aiohttp: no redirects, no cookies, no proxies of the environment, nothing repeated.

    (But a GET, which never moves anything: aiohttp repeats it when a kept connection had died.)
    """

    def __init__(
        self, budgets: Budgets | None = None, answer_bytes_max: int = ANSWER_BYTES_MAX
    ) -> None:
        self._budgets = budgets or Budgets()
        self._answer_bytes_max = answer_bytes_max
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: Request) -> Answer | None:
        try:
            return await self._exchange(request)
        except _NOTHING_SENT as problem:
            raise NothingSent from problem
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _exchange(self, request: Request) -> Answer:
        async with self._connected().request(
            request.method,
            request.url,
            data=request.body,
            headers=request.headers,
            allow_redirects=False,
            ssl=request.tls or True,
            middlewares=() if request.method == "POST" else (_send_once,),
        ) as response:
            most = self._answer_bytes_max
            body = await response.content.read(most + 1)
            while len(body) <= most and not response.content.at_eof():
                body += await response.content.read(most + 1 - len(body))
            if len(body) > most:
                response.close()
                body = b""
            return Answer(response.status, body)

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            # One session serves all tenants: no cookie of one may travel with another.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_KEEPALIVE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(
                    total=self._budgets.total_s,
                    connect=self._budgets.connect_s,
                    sock_read=self._budgets.read_s,
                ),
                trust_env=False,
            )
        return self._session


class _Broken(aiohttp.ClientError):
    """The connection broke under a request."""


async def _send_once(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from repeating a PUT or DELETE, as it never does a POST: it may seal a fate."""
    try:
        return await handler(request)
    except _NOTHING_SENT:
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as broken:
        if request.method == "GET":
            raise
        raise _Broken from broken
