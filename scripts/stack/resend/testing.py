"""A simulator of its own for a test, and how a test speaks to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from scripts.stack.daraja.testing import until
from scripts.stack.simulators import client_of, process_of

API_KEY = "re_test_key"
SECRET = "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cw=="  # noqa: S105  invented


@dataclass
class Post:
    """A running simulator: its address and its control API."""

    url: str
    http: httpx.Client

    def control(self, method: str, path: str, body: object = None) -> Any:
        """The JSON answer. Raises httpx.HTTPStatusError for a refusal."""
        return self.http.request(method, f"/control/{path}", json=body).raise_for_status().json()

    def arm(self, fault: str, times: int = 1) -> None:
        self.control("POST", "faults", {"fault": fault, "times": times})

    def settings(self, **changes: Any) -> None:
        self.control("POST", "settings", changes)

    def advance(self, seconds: float) -> None:
        self.control("POST", "clock", {"advance_s": seconds})

    def emails(self, to: str | None = None) -> list[dict[str, Any]]:
        """Accepted mail, newest first."""
        narrow = {"to": to} if to else {}
        return list(self.http.get("/control/emails", params=narrow).raise_for_status().json())

    def email(self, to: str) -> dict[str, Any]:
        """The newest mail to an address, once there is one."""
        return until(lambda: next(iter(self.emails(to)), False))

    def requests(self) -> list[dict[str, Any]]:
        return list(self.control("GET", "requests"))

    def webhooks(self) -> list[dict[str, Any]]:
        """Attempts to deliver webhooks, in order."""
        return list(self.control("GET", "webhooks"))


@contextmanager
def posting(state: Path, webhook_url: str = "") -> Iterator[Post]:
    """A simulator process on a free port, ready to serve; stopped when the block ends."""
    secrets = {"RESEND_API_KEY": API_KEY, "RESEND_WEBHOOK_SECRET": SECRET}
    with process_of("resend", state, "--webhook", webhook_url, **secrets) as port:
        url = f"http://127.0.0.1:{port}"
        with client_of(url) as client:
            yield Post(url, client)
