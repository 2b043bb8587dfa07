"""A simulator of its own for a test, and how a test speaks to it."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from scripts.stack.daraja.testing import until
from scripts.stack.simulators import client_of, process_of

Json = dict[str, Any]


@dataclass
class Fdms:
    """A running simulator: its address, the certificate to trust, and its control API."""

    url: str
    root_file: Path
    http: httpx.Client

    def control(self, method: str, path: str, body: object = None) -> Any:
        """The JSON answer. Raises httpx.HTTPStatusError for a refusal."""
        return self.http.request(method, f"/control/{path}", json=body).raise_for_status().json()

    def sell(self, device_id: int, **facts: Any) -> Json:
        """A device that a taxpayer may register, or the same with other facts."""
        body = {"device_id": device_id, "serial_no": f"SN{device_id}", "activation_key": "12AXC178"}
        return dict(self.control("POST", "devices", body | facts))

    def device(self, device_id: int) -> Json:
        """Its days with their counters, its receipts and what was found in them."""
        return dict(self.control("GET", f"devices/{device_id}"))

    def arm(self, fault: str, call: str, times: int = 1, **facts: Any) -> None:
        self.control("POST", "faults", {"fault": fault, "call": call, "times": times} | facts)

    def disarm(self) -> None:
        self.control("DELETE", "faults")

    def settings(self, **changes: Any) -> None:
        self.control("POST", "settings", changes)

    def advance(self, seconds: float) -> None:
        self.control("POST", "clock", {"advance_s": seconds})

    def requests(self) -> dict[str, int]:
        """How often each call was made."""
        return dict(self.control("GET", "requests"))


@contextmanager
def speaking(url: str, root_file: Path) -> Iterator[Fdms]:
    """To a simulator that runs already."""
    trust = ssl.create_default_context(cafile=str(root_file))
    with client_of(url, verify=trust) as client:
        yield Fdms(url, root_file, client)


@contextmanager
def gateway(state: Path) -> Iterator[Fdms]:
    """A simulator process on a free port, ready to serve; stopped when the block ends."""
    root = state / "ca" / "root.pem"
    with process_of("fdms", state) as port:
        until(lambda: root.exists() and "yes")
        with speaking(f"https://127.0.0.1:{port}", root) as running:
            yield running
