"""The stack's Daraja simulator as tests use it: phones of their own, prompts, bodies, a tap."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any, TypeVar

import httpx

from scripts.stack.daraja.testing import Simulator

Json = dict[str, Any]
T = TypeVar("T")

PATIENCE_S = 60.0  # what a claim does not bound: a busy machine takes ten times as long
_numbers = count(120_001)  # one phone per test, so that nobody meets another test's prompt


def new_phone(suffix: str = "99") -> str:
    """A number of its own, 07…; the last two digits choose the simulator's scenario (99: none)."""
    return f"07{next(_numbers):06d}{suffix}"


def msisdn(phone: str) -> str:
    """As Daraja writes it: 2547…."""
    return "254" + phone.removeprefix("0")


def masked(phone: str) -> str:
    """As we show it: +2547******78."""
    return f"+{msisdn(phone)[:4]}******{phone[-2:]}"


class Daraja(Simulator):
    """The stack's simulator, whose process belongs to the stack."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=15, transport=_Patient())

    def prompts(self, phone: str) -> list[Json]:
        """All prompts a phone was shown, newest first."""
        answer = self.http.get("/control/prompts", params={"phone": msisdn(phone)})
        return list(answer.raise_for_status().json())

    def prompted(self, phone: str) -> Json:
        """The prompt on a phone, as soon as there is one."""
        return until(lambda: next(iter(self.prompts(phone)), None), "a prompt")

    def act(self, phone: str, action: str) -> None:
        """The payer pays, cancels, … at the newest prompt."""
        prompt = self.prompted(phone)
        self.control("POST", f"prompts/{prompt['checkout_request_id']}", {"action": action})

    def callbacks(self, phone: str) -> list[Json]:
        """What was called back for a phone, forged ones too, attempted or not."""
        return list(self.log(phone=msisdn(phone))["callbacks"])

    def delivered(self, phone: str, wanted: int = 1) -> list[Json]:
        """The callbacks for a phone that were answered, once there are `wanted`."""

        def found() -> list[Json] | None:
            done = [c for c in self.callbacks(phone) if c["status"] or c["error"]]
            return done if len(done) >= wanted else None

        return until(found, f"{wanted} callbacks")

    def requests(self, endpoint: str) -> int:
        """How often push, query or token was asked for."""
        return int(self.counts()["requests"].get(endpoint, 0))

    def counts(self) -> Json:
        """Requests, prompts and charges so far; without the log itself, which grows long."""
        return dict(self.log(phone="nobody")["counts"])

    def disarm(self) -> None:
        """No fault is armed, and no merchant of another test is told of payments (C2B)."""
        self.control("DELETE", "faults")
        self.control("DELETE", "c2b")


class _Patient(httpx.BaseTransport):
    """It may be restarted under us: each request on a connection of its own, tried again."""

    def __init__(self) -> None:
        limits = httpx.Limits(max_keepalive_connections=0)
        self._inner = httpx.HTTPTransport(trust_env=False, limits=limits)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        def answered() -> httpx.Response | None:
            try:
                return self._inner.handle_request(request)
            except httpx.TransportError:
                return None

        return until(answered, "an answer of the simulator")

    def close(self) -> None:
        self._inner.close()


@dataclass
class Tap:
    """Between our production rail and the simulator: hears every request, and can be shut.

    `heard` holds path and lower-case headers. Shut, it keeps its port and refuses connections.
    """

    heard: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    seat: socket.socket = field(default_factory=lambda: held_port(0))
    port: int = 0

    def __post_init__(self) -> None:
        self.port = self.seat.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def open_to(self, target: str) -> Iterator["Tap"]:
        """Pass everything on to `target` until the block ends."""
        tap = self
        upstream = httpx.Client(base_url=target, timeout=30, trust_env=False)

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._pass_on("GET", b"")

            def do_POST(self) -> None:
                self._pass_on("POST", self.rfile.read(int(self.headers["content-length"])))

            def _pass_on(self, method: str, body: bytes) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                tap.heard.append((self.path.partition("?")[0], headers))
                kept = {n: v for n, v in headers.items() if n in ("authorization", "content-type")}
                answer = upstream.request(method, self.path, content=body, headers=kept)
                self.send_response(answer.status_code)
                self.send_header("content-type", answer.headers["content-type"])
                self.send_header("content-length", str(len(answer.content)))
                self.send_header("connection", "close")
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.seat.close()
        with upstream, ThreadingHTTPServer(("127.0.0.1", self.port), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,))
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()
        self.seat = held_port(self.port)


def held_port(port: int) -> socket.socket:
    """A socket that holds a port without listening: whoever connects is refused."""
    seat = socket.socket()
    seat.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    seat.bind(("127.0.0.1", port))
    return seat


def callback_body(prompt: Json, code: object = 0, **items: object) -> Json:
    """What Daraja reports about a prompt; on success with its own amount and receipt.

    items: metadata by name, in place of these; None leaves one out.
    """
    result: Json = {
        "MerchantRequestID": prompt["merchant_request_id"],
        "CheckoutRequestID": prompt["checkout_request_id"],
        "ResultCode": code,
        "ResultDesc": "as the rail likes to put it",
    }
    if str(code) == "0":
        found = {
            "Amount": prompt["amount"],
            "MpesaReceiptNumber": prompt["receipt"],
            "TransactionDate": 20261121105322,
            "PhoneNumber": int(prompt["phone"]),
        } | items
        kept = [{"Name": name, "Value": value} for name, value in found.items() if value]
        result["CallbackMetadata"] = {"Item": kept}
    return {"Body": {"stkCallback": result}}


def until(look: Callable[[], T | None], what: str, patience_s: float = PATIENCE_S) -> T:
    """The first thing `look` finds that is neither None nor false. Raises TimeoutError."""
    deadline = time.monotonic() + patience_s
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not happen within {patience_s:.0f} s")
        time.sleep(0.02)
