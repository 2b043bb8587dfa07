"""The transport against real sockets: what counts as sent, and what certainly was not."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from shared import transport
from shared.transport import Answer, Budgets, HttpTransport, NothingSent, Request
from tests.support import peer as wire
from tests.support.peer import HOST, Behaviour, Line, Peer, saying

PATIENT = Budgets(connect_s=10.0, read_s=10.0, total_s=30.0)
CHARGE = "/charge"


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    running = await Peer().start()
    yield running
    await running.stop()


@pytest.fixture
async def http() -> AsyncIterator[HttpTransport]:
    made = HttpTransport(PATIENT)
    yield made
    await made.aclose()


@pytest.fixture
async def hasty() -> AsyncIterator[HttpTransport]:
    """For those who answer nothing, late, or never to the end."""
    made = HttpTransport(Budgets(connect_s=2.0, read_s=0.3, total_s=2.0))
    yield made
    await made.aclose()


def charge(url: str) -> Request:
    return Request("POST", url + CHARGE, {"content-type": "application/json"}, b'{"Amount":1}')


@contextmanager
def full_backlog() -> Iterator[str]:
    """An address whose connections are never completed: its queue is full and nobody accepts."""
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        listening.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(listening.getsockname())
        yield f"http://{HOST}:{listening.getsockname()[1]}"
        for each in waiting:
            each.close()


async def test_an_answer_comes_back_whole(peer: Peer, http: HttpTransport) -> None:
    peer.otherwise = saying(429, b'{"errorCode":"500.003.02"}')

    answer = await http.send(charge(peer.url))

    assert answer == Answer(429, b'{"errorCode":"500.003.02"}')
    [heard] = peer.heard
    assert (heard.method, heard.path, heard.body) == ("POST", CHARGE, b'{"Amount":1}')


async def test_a_refused_connection_sent_nothing(peer: Peer, http: HttpTransport) -> None:
    peer.stop_listening()

    with pytest.raises(NothingSent):
        await http.send(charge(peer.url))


async def test_a_host_without_an_address_was_sent_nothing(http: HttpTransport) -> None:
    with pytest.raises(NothingSent):
        await http.send(charge("http://no-such-host.invalid"))


async def test_an_address_that_is_none_was_sent_nothing(http: HttpTransport) -> None:
    with pytest.raises(NothingSent):
        await http.send(charge("ftp://127.0.0.1"))


async def test_a_connection_that_is_not_completed_in_time_sent_nothing() -> None:
    hasty = HttpTransport(Budgets(connect_s=0.3, read_s=0.3, total_s=2.0))
    with full_backlog() as url, pytest.raises(NothingSent):
        await hasty.send(charge(url))
    await hasty.aclose()


async def test_a_host_that_speaks_no_tls_was_sent_nothing(peer: Peer, http: HttpTransport) -> None:
    def answer_in_plain(line: Line) -> None:
        line.writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    peer.on_connect = answer_in_plain

    with pytest.raises(NothingSent):
        await http.send(charge(peer.url.replace("http:", "https:")))

    assert peer.heard == []


async def test_no_free_connection_in_time_sent_nothing(
    peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "_CONNECTIONS", 1)
    peer.otherwise = wire.silence
    held = HttpTransport(Budgets(connect_s=0.2, read_s=60.0, total_s=70.0))
    first = asyncio.create_task(held.send(charge(peer.url)))
    while not peer.heard:
        await asyncio.sleep(0.01)

    with pytest.raises(NothingSent):
        await held.send(charge(peer.url))

    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await held.aclose()
    assert len(peer.heard) == 1


@pytest.mark.parametrize(
    "behaviour",
    [
        wire.reset,
        wire.hang_up,
        wire.half_an_answer,
        wire.half_a_head,
        wire.nonsense,
        wire.silence,
        wire.drip,
    ],
)
async def test_whatever_goes_wrong_after_sending_is_silence_and_not_repeated(
    peer: Peer, hasty: HttpTransport, behaviour: Behaviour
) -> None:
    peer.otherwise = behaviour

    answer = await hasty.send(charge(peer.url))

    assert answer is None
    assert len(peer.heard) == 1


async def test_a_connection_reset_before_the_request_was_read_is_silence(
    peer: Peer, http: HttpTransport
) -> None:
    """We cannot know how much of it arrived before the reset did."""
    peer.on_connect = Line.reset

    assert await http.send(charge(peer.url)) is None


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_kept_connection_that_dies_under_a_charge_is_silence_and_not_repeated(
    method: str, peer: Peer, http: HttpTransport
) -> None:
    async def once(line: Line, heard: wire.Heard) -> None:
        await (wire.reset if line.count > 1 else saying(200, keep=True))(line, heard)

    peer.otherwise = once
    request = replace(charge(peer.url), method=method)

    first, second = await http.send(request), await http.send(request)

    assert (first, second) == (Answer(200, b"{}"), None)
    assert (peer.connections, len(peer.heard)) == (1, 2)


async def test_a_kept_connection_that_was_closed_is_not_used(
    peer: Peer, http: HttpTransport
) -> None:
    async def once(line: Line, heard: wire.Heard) -> None:
        await saying(200, keep=True)(line, heard)
        line.writer.close()

    peer.otherwise = once
    await http.send(charge(peer.url))
    for _ in range(20):  # turns of the loop, in which we hear of it
        await asyncio.sleep(0.01)

    assert await http.send(charge(peer.url)) == Answer(200, b"{}")
    assert peer.connections == 2


async def test_an_answer_too_large_for_a_rail_is_garbage(peer: Peer, http: HttpTransport) -> None:
    peer.otherwise = saying(200, b" " * 1_000_000)

    assert await http.send(charge(peer.url)) == Answer(200, b"")


async def test_a_redirect_is_not_followed(peer: Peer, http: HttpTransport) -> None:
    peer.otherwise = saying(302, headers=f"location: {peer.url}/elsewhere\r\n")

    answer = await http.send(charge(peer.url))

    assert answer is not None
    assert (answer.status, len(peer.heard)) == (302, 1)


async def test_no_cookie_of_one_tenant_travels_with_another(
    peer: Peer, http: HttpTransport
) -> None:
    peer.otherwise = saying(200, headers="set-cookie: visid=1; Path=/\r\n")

    await http.send(charge(peer.url))
    await http.send(charge(peer.url))

    assert [heard for heard in peer.heard if "cookie" in heard.headers] == []


async def test_a_get_may_be_repeated_on_a_connection_that_had_died(
    peer: Peer, http: HttpTransport
) -> None:
    async def once(line: Line, heard: wire.Heard) -> None:
        await (wire.reset if line.count > 1 else saying(200, keep=True))(line, heard)

    peer.otherwise = once
    await http.send(charge(peer.url))

    assert await http.send(Request("GET", f"{peer.url}/token")) == Answer(200, b"{}")
    assert (peer.count("GET", "/token"), peer.count("POST", CHARGE)) == (2, 1)
