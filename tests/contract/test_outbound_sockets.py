"""What outbound requests do on real sockets: where they connect, what they keep, when they stop."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from shared.outbound import Address, Outbound
from tests.unit.shared.http.kit import settings

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def outbound(address: str = "127.0.0.1", total_s: float = 5.0) -> Outbound:
    """Local, so that loopback is allowed; every name resolves to `address`."""

    def resolve(_host: str, _port: int) -> list[Address]:
        return [ip_address(address)]

    return Outbound(settings(environment_name="local"), resolve, total_s)


@asynccontextmanager
async def serving(
    handle: Handle, address: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """The port of a server that treats every connection with `handle`."""
    connections = set[asyncio.Task[None]]()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await handle(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(accept, address, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def request(reader: asyncio.StreamReader) -> bytes:
    """One request with its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    )
    return head + await reader.readexactly(length)


def answering(*answers: bytes, seen: list[bytes] | None = None) -> Handle:
    """Answers the requests of a connection in turn, the last answer for ever."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = list(answers)
        while not reader.at_eof():
            got = await request(reader)
            if seen is not None:
                seen.append(got)
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()

    return handle


async def test_connection_goes_to_the_checked_address_and_keeps_the_name() -> None:
    seen = list[bytes]()
    async with serving(answering(OK, seen=seen), "127.0.0.2") as port:
        # localhost is 127.0.0.1 to the system; what was checked is what counts.
        sender = outbound("127.0.0.2")
        reply = await sender.post(f"http://localhost:{port}/hooks?a=b", b'{"a":1}', {"x-a": "b"})
        await sender.aclose()

    assert (reply.status, reply.excerpt, reply.error) == (200, "ok", None)
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /hooks?a=b HTTP/1.1\r\n")
    assert f"Host: localhost:{port}".encode() in head
    assert b"x-a: b" in head
    assert body == b'{"a":1}'
    assert not any(word in head.lower() for word in (b"cookie", b"gzip", b"deflate"))


async def test_redirect_is_an_answer_and_nothing_more() -> None:
    seen = list[bytes]()
    async with serving(answering(OK, seen=seen)) as elsewhere:
        redirect = (
            f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{elsewhere}/\r\n"
            "Set-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"
        ).encode()
        async with serving(answering(redirect)) as port:
            sender = outbound()
            reply = await sender.post(f"http://127.0.0.1:{port}/", b"{}", {})
            await sender.aclose()

    assert reply.status == 302
    assert seen == []


async def test_nobody_there_is_no_connection() -> None:
    async with serving(answering(OK)) as port:
        pass
    sender = outbound()

    reply = await sender.post(f"http://127.0.0.1:{port}/", b"{}", {})

    await sender.aclose()
    assert (reply.status, reply.error) == (None, "no connection")


async def test_silence_ends_with_the_time() -> None:
    async def never(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with serving(never) as port:
        sender = outbound(total_s=0.3)
        reply = await sender.post(f"http://127.0.0.1:{port}/", b"{}", {})
        await sender.aclose()

    assert (reply.status, reply.error) == (None, "timeout")
    assert 250 <= reply.duration_ms < 30_000


async def test_answer_that_drips_ends_with_the_time_and_its_status_counts() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with serving(drip) as port:
        sender = outbound(total_s=0.3)
        reply = await sender.post(f"http://127.0.0.1:{port}/", b"{}", {})
        await sender.aclose()

    assert (reply.status, reply.error) == (200, None)
    assert reply.duration_ms < 30_000


async def test_endless_answer_is_cut_at_its_first_two_kilobytes() -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.write(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1000\r\n" + b"y" * 4096 + b"\r\n")
            await writer.drain()

    async with serving(endless) as port:
        sender = outbound()
        reply = await sender.post(f"http://127.0.0.1:{port}/", b"{}", {})
        await sender.aclose()

    assert (reply.status, reply.excerpt) == (500, "y" * 2048)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("99999999999", 7 * 86_400),
        ("Sat, 01 Jan 2000 00:00:00 GMT", 0),
        ("-5", None),
        ("soon", None),
    ],
)
async def test_retry_after_is_read_as_seconds(header: str, seconds: int | None) -> None:
    answer = f"HTTP/1.1 503 No\r\nRetry-After: {header}\r\nContent-Length: 0\r\n\r\n".encode()
    async with serving(answering(answer)) as port:
        sender = outbound()
        reply = await sender.post(f"http://127.0.0.1:{port}/", b"{}", {})
        await sender.aclose()

    assert reply.retry_after_s == seconds


async def test_connection_that_died_in_the_pool_is_replaced_once() -> None:
    seen = list[bytes]()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await request(reader))
        writer.write(OK)
        await writer.drain()
        await reader.readexactly(1)  # the next request finds nobody
        writer.transport.abort()

    async with serving(once) as port:
        sender = outbound()
        url = f"http://127.0.0.1:{port}/"
        replies = [await sender.post(url, b"{}", {}) for _ in range(2)]
        await sender.aclose()

    assert [reply.status for reply in replies] == [200, 200]
    assert len(seen) == 2


async def test_server_that_hangs_up_each_time_is_said_to() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request(reader)
        writer.transport.abort()

    async with serving(hang_up) as port:
        sender = outbound()
        reply = await sender.post(f"http://127.0.0.1:{port}/", b"{}", {})
        await sender.aclose()

    assert (reply.status, reply.error) == (None, "disconnected")


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-x\r\n", b"HTTP/1.1 204 No\r\n\r\nbody", b"\x00\r\n\r\n"]
)
async def test_what_is_not_http_is_not_understood(answer: bytes) -> None:
    async with serving(answering(answer)) as port:
        sender = outbound()
        reply = await sender.post(f"http://127.0.0.1:{port}/", b"{}", {})
        await sender.aclose()

    assert reply.status is None
    assert (reply.error or "").startswith("not understood")


async def test_server_with_a_certificate_nobody_vouches_for_hears_nothing(tmp_path: Path) -> None:
    heard = list[bytes]()
    async with serving(answering(OK, seen=heard), tls=self_signed(tmp_path)) as port:
        sender = outbound()
        reply = await sender.post(f"https://127.0.0.1:{port}/", b"{}", {})
        await sender.aclose()

    assert (reply.status, reply.error) == (None, "TLS failed")
    assert heard == []


def self_signed(folder: Path) -> ssl.SSLContext:
    """A server's context for 127.0.0.1 whose certificate is its own word."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "both.pem"
    pem.write_bytes(
        certificate.public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    return context
