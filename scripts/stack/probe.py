"""Who is at a port of this machine."""

import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import httpx

# A port that nobody serves yet may lie in the range the kernel gives to outgoing connections. One
# that asks for it from its own address can be given this very port: it then talks to itself, and
# the program we wait for finds its port taken.
FROM = "127.0.0.2"


def answers(url: str, trust: Path | None = None) -> bool:
    """Whether a GET of `url` succeeds within two seconds. trust: the roots of its certificate."""
    # Every other probe is plain HTTP: reading all the world's roots would be most of its cost.
    tls = ssl.create_default_context(cafile=str(trust)) if trust else False
    way = httpx.HTTPTransport(verify=tls, trust_env=False, local_address=FROM)
    with httpx.Client(transport=way, timeout=2) as client:
        try:
            return client.get(url).is_success
        except httpx.TransportError:
            return False


def taken(ports: Iterable[int]) -> list[int]:
    """Those of `ports` where no server could listen."""
    return [port for port in ports if not _is_free(port)]


def _is_free(port: int) -> bool:
    with socket.socket() as server, suppress(OSError):
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        server.bind(("127.0.0.1", port))
        server.listen()
        return True
    return False
