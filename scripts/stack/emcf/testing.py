"""How a test speaks to the simulator of the DGI."""

from dataclasses import dataclass
from typing import Any

import httpx

from scripts.stack.emcf.books import PENDING_MAX

__all__ = ["PENDING_MAX", "Dgi"]


@dataclass
class Dgi:
    """A running simulator: its address and its control API."""

    url: str

    def control(self, method: str, path: str, body: object = None) -> Any:
        """The JSON answer. Raises httpx.HTTPStatusError for a refusal."""
        url = f"{self.url}/control/{path}"
        answer = httpx.request(method, url, json=body, timeout=15, trust_env=False)
        return answer.raise_for_status().json()

    def device(self, nif: str, nim: str, days: int = 365) -> dict[str, str]:
        """What a taxpayer is handed for one outlet."""
        return dict(self.control("POST", "devices", {"nif": nif, "nim": nim, "days": days}))

    def arm(self, step: str, fault: str, times: int = 1) -> None:
        self.control("POST", "faults", {"step": step, "fault": fault, "times": times})

    def settings(self, **changes: Any) -> None:
        self.control("POST", "settings", changes)

    def advance(self, seconds: float) -> None:
        self.control("POST", "clock", {"advance_s": seconds})

    def calm(self) -> None:
        self.control("POST", "calm")

    def books(self, nim: str) -> dict[str, Any]:
        """What counts for a device."""
        return dict(self.control("GET", f"invoices?nim={nim}"))
