"""Asking whether somebody serves a port, without becoming the one who does."""

import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from scripts.stack.probe import answers, taken


class _Healthy(BaseHTTPRequestHandler):
    callers: list[str]

    def do_GET(self) -> None:
        self.callers.append(self.client_address[0])
        self.send_response(200 if self.path == "/health" else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    _Healthy.callers = []
    with ThreadingHTTPServer(("127.0.0.1", 0), _Healthy) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_server_answers_or_is_not_ready(server: ThreadingHTTPServer) -> None:
    url = f"http://127.0.0.1:{server.server_port}"

    assert answers(f"{url}/health")
    assert not answers(f"{url}/starting")


def test_a_probe_cannot_be_given_the_port_that_it_asks_for(server: ThreadingHTTPServer) -> None:
    answers(f"http://127.0.0.1:{server.server_port}/health")

    assert _Healthy.callers == ["127.0.0.2"]


def test_nobody_answers_at_a_free_port() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    assert not answers(f"http://127.0.0.1:{port}/health")
    assert taken([port]) == []


def test_ports_of_servers_and_of_outgoing_connections_are_taken(
    server: ThreadingHTTPServer,
) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port)) as ours:
        ports = [server.server_port, ours.getsockname()[1]]

        assert taken(ports) == ports
