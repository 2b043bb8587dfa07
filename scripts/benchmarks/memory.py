"""Data API and rail from memory: what a function costs by itself.

The first request of each path goes through to the real one; every other gets that answer again, at
once. So nothing but the function is busy, and no other program takes its processor's caches.
"""

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

import aiohttp
import uvloop
from httptools import HttpRequestParser

from scripts.benchmarks.wire import HOST
from scripts.stack.probe import answers
from scripts.stack.process import Child, wait_until
from scripts.stack.stack import Stack
from scripts.stack.testing import free_block

_HEALTH: Final = "/healthz"
_NOT_PASSED_ON: Final = ("host", "content-length")


@dataclass(frozen=True, slots=True)
class Memory:
    """Where it listens."""

    port: int

    @property
    def data_api_url(self) -> str:
        return f"http://{HOST}:{self.port}/data"

    @property
    def rail_url(self) -> str:
        return f"http://{HOST}:{self.port}/rail"


@contextmanager
def memory(stack: Stack) -> Iterator[Memory]:
    """Run it before `stack`'s Data API and rail, in a process of its own."""
    port = free_block()
    wanted = {
        "PORT": str(port),
        "BEHIND": json.dumps({"data": stack.data_api_url, "rail": stack.daraja_url}),
    }
    command = [sys.executable, "-m", "scripts.benchmarks.memory"]
    child = Child("memory", command, log=lambda _name, _line: None, env=stack.env | wanted)
    child.start()
    try:
        wait_until("memory", lambda: answers(f"http://{HOST}:{port}{_HEALTH}"))
        yield Memory(port)
    finally:
        child.stop()


class _Connection(asyncio.Protocol):
    """One caller's. `known`: whole answers by path."""

    def __init__(self, known: dict[str, bytes], behind: Mapping[str, str]) -> None:
        self._known = known
        self._behind = behind
        self._parser: Any = None
        self._transport: asyncio.Transport | None = None
        self._asking: asyncio.Task[None] | None = None
        self.on_message_begin()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's derives from nothing
        self._parser = HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    # the parser calls these

    def on_message_begin(self) -> None:
        self._path, self._body = "", b""
        self._headers: dict[str, str] = {}

    def on_url(self, url: bytes) -> None:
        self._path += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        if answer := self._known.get(self._path):
            self._answer(answer)
        else:
            self._asking = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        _, place, path = self._path.split("/", 2)
        headers = {k: v for k, v in self._headers.items() if k not in _NOT_PASSED_ON}
        method = self._parser.get_method().decode()
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                method, f"{self._behind[place]}/{path}", data=self._body, headers=headers
            ) as told,
        ):
            body = await told.read()
        head = f"HTTP/1.1 {told.status} OK\r\nContent-Type: {told.content_type}\r\n"
        answer = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self._known[self._path] = answer
        self._answer(answer)

    def _answer(self, answer: bytes) -> None:
        if self._transport is not None:
            self._transport.write(answer)


async def _serve(port: int, behind: Mapping[str, str]) -> None:
    known = {_HEALTH: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(known, behind), HOST, port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(os.environ["PORT"]), json.loads(os.environ["BEHIND"])))
