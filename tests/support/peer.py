"""A rail's end of the wire on a loopback port: raw sockets, because mocks agree with anything."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

HOST = "127.0.0.1"


@dataclass
class Heard:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Line:
    """An open connection to whoever called; `count` requests came over it so far."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    count: int = 0

    def reset(self) -> None:
        """End it without a goodbye: the other side gets an RST."""
        linger = struct.pack("ii", 1, 0)
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()


Behaviour = Callable[[Line, Heard], Awaitable[None]]


def saying(
    status: int = 200, body: bytes = b"{}", *, keep: bool = False, headers: str = ""
) -> Behaviour:
    """Answer in full; keep: the connection may be used again."""
    connection = "keep-alive" if keep else "close"
    head = (
        f"HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\n{headers}"
        f"content-length: {len(body)}\r\nconnection: {connection}\r\n\r\n"
    )

    async def answer(line: Line, _: Heard) -> None:
        await line.say(head.encode() + body)
        if not keep:
            line.writer.close()

    return answer


async def reset(line: Line, _: Heard) -> None:
    line.reset()


async def hang_up(line: Line, _: Heard) -> None:
    line.writer.close()


async def half_an_answer(line: Line, _: Heard) -> None:
    await line.say(b'HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"ResponseCode":')
    line.writer.close()


async def half_a_head(line: Line, _: Heard) -> None:
    await line.say(b"HTTP/1.1 200 O")
    line.reset()


async def nonsense(line: Line, _: Heard) -> None:
    await line.say(b"220 mail.example ESMTP ready\r\n\r\n")
    line.writer.close()


async def silence(line: Line, _: Heard) -> None:
    await line.reader.read()  # until the other side gives up


async def drip(line: Line, _: Heard) -> None:
    await line.say(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while not line.reader.at_eof():
        await line.say(b" ")
        await asyncio.sleep(0.01)


@dataclass
class Peer:
    """Listens until `stop`; hears every request and does with it what its path was told.

    `on_connect` is done with a connection before anything was read from it.
    """

    port: int = 0
    routes: dict[tuple[str, str], Behaviour] = field(default_factory=dict)
    otherwise: Behaviour = field(default_factory=lambda: saying(404))
    on_connect: Callable[[Line], None] | None = None
    heard: list[Heard] = field(default_factory=list)
    connections: int = 0
    _server: asyncio.Server | None = None
    _lines: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    async def start(self) -> "Peer":
        self._server = await asyncio.start_server(self._accept, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def stop_listening(self) -> None:
        """From now on connections are refused."""
        if self._server is not None:
            self._server.close()

    async def stop(self) -> None:
        self.stop_listening()
        for line in self._lines:
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)

    def count(self, method: str, path: str) -> int:
        return len([each for each in self.heard if (each.method, each.path) == (method, path)])

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a connection is served by a task"
        self._lines.add(task)
        self.connections += 1
        line = Line(reader, writer)
        try:
            if self.on_connect is not None:
                self.on_connect(line)
            await self._serve(line)
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the other side went away, which some tests are about
        finally:
            self._lines.discard(task)
            writer.close()

    async def _serve(self, line: Line) -> None:
        while not line.writer.is_closing():
            heard = await _read(line.reader)
            line.count += 1
            self.heard.append(heard)
            behave = self.routes.get((heard.method, heard.path), self.otherwise)
            await behave(line, heard)


async def _read(reader: asyncio.StreamReader) -> Heard:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    start, *lines = head.rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    method, target, _ = start.split(" ")
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Heard(method, target.partition("?")[0], headers, body)
