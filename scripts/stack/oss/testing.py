"""An endpoint of its own for a test, and how a test speaks to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from scripts.stack.simulators import client_of, process_of

KEY, SECRET = "LTAI5tLocalArchive", "the-secret-of-the-tests"  # invented
TEN_YEARS = 3653


@dataclass
class Vaulted:
    """A running endpoint: its address and its control API."""

    url: str
    http: httpx.Client

    def control(self, method: str, path: str, body: object = None) -> Any:
        """The JSON answer. Raises httpx.HTTPStatusError for a refusal."""
        return self.http.request(method, f"/control/{path}", json=body).raise_for_status().json()

    def arm(self, fault: str, keys: str = "", times: int = 1) -> None:
        """Have a fault strike so many requests for objects whose keys match a pattern."""
        self.control("POST", "faults", {"fault": fault, "times": times, "keys": keys})

    def disarm(self) -> None:
        """Take back what has not struck yet."""
        self.control("DELETE", "faults")

    def rot(self, key: str) -> None:
        self.control("POST", "rot", {"key": key})

    def names(self, prefix: str = "") -> list[str]:
        """Names of the objects that are kept."""
        found = self.http.get("/control/objects", params={"prefix": prefix})
        return [one["key"] for one in found.raise_for_status().json()]


@contextmanager
def keeping(state: Path, days: int | None = TEN_YEARS) -> Iterator[Vaulted]:
    """An endpoint on a free port, ready to serve; stopped when the block ends."""
    lock = ("--days", str(days)) if days is not None else ()
    account = {"OSS_ACCESS_KEY_ID": KEY, "OSS_ACCESS_KEY_SECRET": SECRET}
    with process_of("oss", state, *lock, **account) as port:
        url = f"http://127.0.0.1:{port}"
        with client_of(url) as client:
            yield Vaulted(url, client)
