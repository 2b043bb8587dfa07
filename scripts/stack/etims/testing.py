"""A simulator of its own for a test, and how a test speaks to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from scripts.stack.simulators import client_of, process_of
from shared.authority import exact_json


@dataclass
class TaxOffice:
    """A running simulator and its control API."""

    http: httpx.Client

    @property
    def url(self) -> str:
        return str(self.http.base_url)

    def arm(self, fault: str, times: int = 1) -> None:
        self._control("faults", {"fault": fault, "times": times})

    def set_rates(self, **rates: str) -> None:
        self._control("rates", rates)

    def books(self) -> list[dict[str, Any]]:
        """Every sale it has, by number."""
        return list(exact_json.read(self.http.get("/control/books").raise_for_status().content))

    def reset(self) -> None:
        """Empty books, no faults."""
        self._control("reset", {})

    def _control(self, path: str, body: object) -> None:
        self.http.post(f"/control/{path}", json=body).raise_for_status()


@contextmanager
def tax_office(state: Path) -> Iterator[TaxOffice]:
    """A simulator process on a free port, ready to serve; stopped when the block ends."""
    with process_of("etims", state) as port, client_of(f"http://127.0.0.1:{port}") as client:
        yield TaxOffice(client)
