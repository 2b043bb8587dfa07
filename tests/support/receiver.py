"""A merchant's server: verifies what it is sent with the library its author would use."""

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

from tests.support.simulator import held_port

Json = dict[str, Any]


@dataclass(frozen=True)
class Received:
    """One request as it came in."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event_id(self) -> str:
        return self.headers["webhook-id"]

    def verified(self, secret: str) -> Json:
        """The event. Raises WebhookVerificationError when the signature is not by `secret`."""
        return dict(Webhook(secret).verify(self.body, self.headers))

    def is_signed_by(self, secret: str) -> bool:
        """Whether `secret` signed it, however long ago; `verified` takes what is fresh alone."""
        at = datetime.fromtimestamp(int(self.headers["webhook-timestamp"]), UTC)
        signature = Webhook(secret).sign(self.event_id, at, self.body.decode())
        return signature in self.headers["webhook-signature"].split()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        # A dispatcher that is killed hangs up; anything else is shown as ever.
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Receiver:
    """Answers with `status` and keeps what it got; `down()` and `up()` close and open the port."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.status = 204
        self.headers: dict[str, str] = {}
        self.answer = b""
        self.on_first: Callable[[], None] | None = None  # between the first request and its answer
        self._server: ThreadingHTTPServer | None = None
        self._seat: socket.socket | None = None
        self.port = 0
        self.up()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    def up(self) -> None:
        """Listen, on the same port as before."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append(Received(self.path, headers, body))
                receiver.act_once()
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(receiver.answer)))
                self.end_headers()
                self.wfile.write(receiver.answer)

            def log_message(self, *_: object) -> None:
                """Tests say what they need to say."""

        if self._seat is not None:
            self._seat.close()
        self._server = _Server(("127.0.0.1", self.port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def down(self) -> None:
        """Close the port: nobody is there, and nobody else gets it."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
            self._seat = held_port(self.port)

    def close(self) -> None:
        """For good."""
        self.down()
        if self._seat is not None:
            self._seat.close()

    def act_once(self) -> None:
        """Whatever a test wants to happen before the first answer."""
        action, self.on_first = self.on_first, None
        if action is not None:
            action()

    def types(self, secret: str) -> list[str]:
        """What was heard, in order, all of it verified."""
        return [str(one.verified(secret)["type"]) for one in self.received]


@contextmanager
def listening() -> Iterator[Receiver]:
    """A receiver that is up, and gone afterwards."""
    receiver = Receiver()
    try:
        yield receiver
    finally:
        receiver.close()
