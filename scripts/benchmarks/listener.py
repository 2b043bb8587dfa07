"""A merchant's server that costs little: answers 200 and notes when each webhook came.

POST /fast/…  at once      POST /slow/…  after 100 ms      POST /hang/…  never
GET /seen     what came since the last time: [[path, webhook-id, unix seconds], …]
"""

import asyncio
import json
import sys
import time
from typing import Final, cast

SLOW_S: Final = 0.1
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Seen = list[tuple[str, str, float]]


class Connection(asyncio.Protocol):
    """One kept-alive connection; requests come one after the other."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.buffer = b""
        self.transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.WriteTransport, transport)  # uvloop's own class

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            lines = self.buffer[:end].decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines[1:])
            size = end + 4 + int(headers.get("content-length", 0))
            if len(self.buffer) < size:
                return
            self.buffer = self.buffer[size:]
            self.answer(lines[0].split(" ")[1], headers.get("webhook-id", ""))

    def answer(self, path: str, event_id: str) -> None:
        """Note it, and answer as the path asks."""
        assert self.transport is not None
        if path == "/seen":
            body = json.dumps(self.seen).encode()
            self.seen.clear()
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
            self.transport.write(head.encode() + body)
            return
        self.seen.append((path, event_id, time.time()))
        if path.startswith("/slow"):
            asyncio.get_running_loop().call_later(SLOW_S, self.transport.write, OK)
        elif not path.startswith("/hang"):
            self.transport.write(OK)


async def serve(port: int) -> None:
    """Listen until killed."""
    seen: Seen = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(seen), "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve(int(sys.argv[1])))
