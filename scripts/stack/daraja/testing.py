"""A simulator of its own for a test, a merchant who speaks to it, and somebody to call back."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import httpx

from scripts.stack.daraja.clock import EAT
from scripts.stack.daraja.credentials import PAY_BILL, Merchant
from scripts.stack.daraja.wire import password
from scripts.stack.testing import free_block

PATIENCE_S = 60.0  # for anything a test waits for: ten times what a busy machine takes
ROOT = Path(__file__).parents[3]

T = TypeVar("T")


@dataclass
class Simulator:
    """A running simulator as a test sees it: its address and its control API."""

    url: str
    process: subprocess.Popen[bytes] = field(repr=False)  # a stack's own has none
    http: httpx.Client

    def control(self, method: str, path: str, body: object = None) -> Any:
        """The JSON answer. Raises httpx.HTTPStatusError for a refusal."""
        answer = self.http.request(method, f"/control/{path}", json=body)
        return answer.raise_for_status().json()

    def arm(self, fault: str, **parts: Any) -> None:
        self.control("POST", "faults", {"fault": fault, **parts})

    def settings(self, **changes: Any) -> None:
        self.control("POST", "settings", changes)

    def log(self, **narrow: Any) -> dict[str, Any]:
        answer = self.http.get("/control/log", params=narrow)
        return dict(answer.raise_for_status().json())

    def books(self) -> list[dict[str, Any]]:
        return list(self.control("GET", "books")["entries"])

    def certificate(self) -> str:
        """PEM; what our merchants seal the initiator's password with."""
        return self.http.get("/control/certificate").raise_for_status().text

    def credentials(self, merchant: Merchant = PAY_BILL, **changes: str) -> dict[str, str]:
        """The document a merchant gives us: it may collect, pay out and ask."""
        till = {"type": "till", "till_number": merchant.till} if merchant.till else {}
        return {
            "consumer_key": merchant.consumer_key,
            "consumer_secret": merchant.consumer_secret,
            "passkey": merchant.passkey,
            "shortcode": merchant.short_code,
            "initiator_name": merchant.initiator_name,
            "initiator_password": merchant.initiator_password,
            "certificate": self.certificate(),
            **till,
            **changes,
        }

    def balances(self, merchant: Merchant = PAY_BILL) -> dict[str, int]:
        """Whole shillings by account."""
        params = {"short_code": merchant.short_code}
        answer = self.http.get("/control/balances", params=params)
        return dict(answer.raise_for_status().json())

    def statement(self, merchant: Merchant = PAY_BILL) -> bytes:
        """Today's organisation statement, CSV."""
        params = {"short_code": merchant.short_code}
        return self.http.get("/control/statement", params=params).raise_for_status().content

    def deposit(self, phone: str, amount: int, reference: str = "") -> dict[str, Any]:
        """A payer pays the pay bill unasked."""
        body = {"phone": phone, "amount": amount, "account_reference": reference}
        return dict(self.control("POST", "deposits", body))

    def prompt(self, phone: str) -> dict[str, Any]:
        """The newest prompt on a phone."""
        answer = self.http.get("/control/prompts", params={"phone": phone})
        return dict(answer.raise_for_status().json()[0])

    def closed(self, phone: str) -> dict[str, Any]:
        """The newest prompt on a phone, once it is over."""
        return until(lambda: (p := self.prompt(phone))["state"] != "open" and p)


@dataclass
class Customer:
    """A merchant's client in its simplest form. Answers are returned raw, errors too."""

    simulator: Simulator
    callback_url: str
    merchant: Merchant = PAY_BILL
    token: str = ""

    def authenticate(self) -> httpx.Response:
        answer = self.simulator.http.get(
            "/oauth/v1/generate",
            params={"grant_type": "client_credentials"},
            auth=(self.merchant.consumer_key, self.merchant.consumer_secret),
        )
        self.token = answer.json()["access_token"] if answer.status_code == 200 else ""
        return answer

    def push(self, phone: str, amount: object = 100, **changes: Any) -> httpx.Response:
        merchant = self.merchant
        body = {
            **self.signature(),
            "TransactionType": merchant.transaction_type,
            "Amount": amount,
            "PartyA": int(phone),
            "PartyB": int(merchant.party_b),
            "PhoneNumber": int(phone),
            "CallBackURL": self.callback_url,
            "AccountReference": "INV-1",
            "TransactionDesc": "Order 1",
        } | changes
        kept = {name: value for name, value in body.items() if value is not ...}
        return self._post("/mpesa/stkpush/v1/processrequest", kept)

    def query(self, checkout_request_id: str) -> httpx.Response:
        body = {**self.signature(), "CheckoutRequestID": checkout_request_id}
        return self._post("/mpesa/stkpushquery/v1/query", body)

    def signature(self) -> dict[str, Any]:
        timestamp = f"{datetime.now(EAT):%Y%m%d%H%M%S}"
        return {
            "BusinessShortCode": int(self.merchant.short_code),
            "Password": password(self.merchant.short_code, self.merchant.passkey, timestamp),
            "Timestamp": timestamp,
        }

    def _post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        if not self.token:
            self.authenticate()
        bearer = {"authorization": f"Bearer {self.token}"}
        return self.simulator.http.post(path, json=body, headers=bearer)


@dataclass
class Received:
    """One callback as it came in; `at` is monotonic seconds."""

    path: str
    headers: dict[str, str]
    body: bytes
    source: str
    at: float


@dataclass
class Receiver:
    """Takes callbacks on a port of its own and answers with `status` and what it `says`."""

    url: str = ""
    status: int = 200
    says: bytes = b""
    slow_s: float = 0.0
    received: list[Received] = field(default_factory=list)

    def wait(self, count: int = 1) -> list[Received]:
        """The callbacks, once there are `count` of them."""
        return until(lambda: len(self.received) >= count and list(self.received))


def until(look: Callable[[], T | bool], patience_s: float = PATIENCE_S) -> T:
    """The first true thing `look` returns. Raises TimeoutError."""
    deadline = time.monotonic() + patience_s
    while True:
        seen = look()
        if seen and seen is not True:
            return seen
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not happen within {patience_s:.0f} s, but {seen!r}")
        time.sleep(0.01)


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver that listens until the block ends."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            source = self.client_address[0]
            seen = Received(self.path, headers, body, source, time.monotonic())
            receiver.received.append(seen)
            time.sleep(receiver.slow_s)
            self.send_response(receiver.status)
            self.send_header("content-length", str(len(receiver.says)))
            self.end_headers()
            self.wfile.write(receiver.says)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # twenty callbacks at once must not wait for a second SYN

    with Server(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def simulating(state: Path, seed: int = 1) -> Iterator[Simulator]:
    """A simulator process on a free port, ready to serve; stopped when the block ends."""
    port = free_port()
    command = [sys.executable, "-W", "error", "-m", "scripts.stack.daraja"]
    command += ["--port", str(port), "--state", str(state), "--seed", str(seed)]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    url = f"http://127.0.0.1:{port}"
    limits = httpx.Limits(max_keepalive_connections=0)
    client = httpx.Client(base_url=url, timeout=15, trust_env=False, limits=limits)
    state.mkdir(parents=True, exist_ok=True)
    with (state / "log").open("ab") as log, client:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        simulator = Simulator(url, process, client)
        try:
            wait_ready(simulator)
            yield simulator
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


def wait_ready(simulator: Simulator) -> None:
    """Returns when the control API answers. Raises TimeoutError."""
    until(lambda: _answers(simulator.http) and simulator)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/control/health").status_code == 200
    except httpx.TransportError:
        return False


def free_port() -> int:
    """A port that nobody listens on, nor will: the kernel might give one of its own to others."""
    return free_block()
