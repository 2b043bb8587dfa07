"""HTTP/1.1 at the least cost: bytes prepared before, one request in flight per connection."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final, Self, cast

from httptools import HttpResponseParser

HOST: Final = "127.0.0.1"


def request(method: str, path: str, headers: Mapping[str, str], body: object = None) -> bytes:
    """A whole request. body: sent as JSON."""
    sent = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", f"Host: {HOST}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(sent)}"]
    return "\r\n".join([*lines, "", ""]).encode() + sent


class Answer:
    """What came back. From Server-Timing, 0 without it: server_ms, all of it; rail_ms, its wait."""

    __slots__ = ("body", "rail_ms", "server_ms", "status")

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.server_ms = 0.0
        self.rail_ms = 0.0


class Connection(asyncio.Protocol):
    """One keep-alive connection. A broken one raises ConnectionError from `ask`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._answer = Answer()
        self._waiting: asyncio.Future[Answer] | None = None

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connect to a port of this machine."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, HOST, port)
        return connection

    async def ask(self, sent: bytes) -> Answer:
        """Send one request, wait for the whole answer."""
        if self._transport is None:
            raise ConnectionError("closed")
        self._answer = Answer()
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(sent)
        return await self._waiting

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's derives from nothing
        self._parser = HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._waiting and not self._waiting.done():
            self._waiting.set_exception(ConnectionError(f"lost: {exc}"))

    # the parser calls these

    def on_header(self, name: bytes, value: bytes) -> None:
        if name == b"server-timing":
            for part in value.split(b", "):
                if part.startswith(b"rail;dur="):
                    self._answer.rail_ms = float(part[9:])
                elif part.startswith(b"total;dur="):
                    self._answer.server_ms = float(part[10:])

    def on_body(self, body: bytes) -> None:
        self._answer.body += body

    def on_message_complete(self) -> None:
        self._answer.status = self._parser.get_status_code()
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(self._answer)
