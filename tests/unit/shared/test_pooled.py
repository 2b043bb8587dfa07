"""shared/pooled.py against a server that really answers, stalls and breaks off."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import httpx
import pytest

from shared.pooled import (
    PooledClient,
    _Response,
)  # before the fixture of all unit tests replaces it

ANSWER: Final = (
    b'HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"says":"so"}'
)


class Server:
    """Answers each request by the path it is for, and keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.connections = 0
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (
                        int(line[15:])
                        for line in head.split(b"\r\n")
                        if line.lower().startswith(b"content-length:")
                    ),
                    0,
                )
                self.sent.append(head + await reader.readexactly(length))
                path = head.split(b" ")[1]
                if path == b"/hangs":
                    await asyncio.sleep(3600)
                if path == b"/breaks":
                    return
                if path == b"/half":
                    writer.write((ANSWER % b"200 OK")[:-5])
                    return
                moved = path == b"/moved"
                writer.write(ANSWER % (b"307 x\r\nLocation: /" if moved else b"409 Conflict"))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    served = Server()
    listening = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    yield served
    listening.close()


@pytest.fixture
async def client() -> AsyncIterator[PooledClient]:
    opened = PooledClient()
    yield opened
    await opened.aclose()


async def test_sends_what_it_is_given_and_gives_what_came(
    client: PooledClient, server: Server
) -> None:
    answer = await client.request(
        "POST", f"{server.url}/rpc/pay", content=b'{"a":1}', headers=httpx.Headers({"X-Who": "me"})
    )

    assert (answer.status_code, answer.json(), answer.is_success) == (409, {"says": "so"}, False)
    head, _, body = server.sent[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /rpc/pay HTTP/1.1")
    assert b"x-who: me" in head.lower()
    assert body == b'{"a":1}'


async def test_a_filter_is_not_left_out_in_silence(client: PooledClient, server: Server) -> None:
    with pytest.raises(AssertionError):
        await client.request("GET", f"{server.url}/people", params={"id": "eq.1"})

    assert server.sent == []


async def test_follows_nobody_elsewhere(client: PooledClient, server: Server) -> None:
    answer = await client.request("POST", f"{server.url}/moved", content=b"{}")

    assert (answer.status_code, len(server.sent)) == (307, 1)


async def test_a_connection_is_used_again(client: PooledClient, server: Server) -> None:
    for _ in range(3):
        await client.request("POST", f"{server.url}/", content=b"{}")

    assert (server.connections, len(server.sent)) == (1, 3)


@pytest.mark.parametrize("path", ["/breaks", "/half"])
async def test_what_breaks_off_is_sent_once(
    path: str, client: PooledClient, server: Server
) -> None:
    with pytest.raises(httpx.NetworkError):
        await client.request("POST", f"{server.url}{path}", content=b"{}")

    assert len(server.sent) == 1


async def test_nobody_listening_is_no_timeout(client: PooledClient) -> None:
    with pytest.raises(httpx.NetworkError):
        await client.request("POST", "http://127.0.0.1:9/", content=b"{}")


async def test_no_answer_in_time_is_a_timeout_of_reading(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.pooled._READ_S", 0.2)
    client = PooledClient()

    with pytest.raises(httpx.ReadTimeout):
        await client.request("POST", f"{server.url}/hangs", content=b"{}")

    assert len(server.sent) == 1
    await client.aclose()


async def test_no_connection_in_time_is_a_timeout_of_connecting(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.pooled._CONNECTIONS", 1)
    monkeypatch.setattr("shared.pooled._WAIT_S", 0.2)
    client = PooledClient()

    first = asyncio.create_task(client.request("POST", f"{server.url}/hangs", content=b"{}"))
    while not server.sent:
        await asyncio.sleep(0.01)
    with pytest.raises(httpx.ConnectTimeout):
        await client.request("POST", f"{server.url}/", content=b"{}")

    assert len(server.sent) == 1
    first.cancel()
    await client.aclose()


def test_a_page_of_some_proxy_in_other_letters_is_still_text() -> None:
    assert _Response(502, b"<h1>\xdcberlastet</h1>").text == "<h1>\ufffdberlastet</h1>"
