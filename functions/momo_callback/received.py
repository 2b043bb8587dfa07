"""A callback as it arrived, and what is kept of it."""

from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address
from typing import Any, Final

from fastapi import Request

from shared.http.caller import digest
from shared.rails.base import CallbackKind, CallbackRequest
from shared.rails.registry import Rails
from shared.vault import Vault

RAIL: Final = "mpesa"  # the one mobile money rail whose results arrive here so far
_KEPT_HEADERS: Final = ("content-type", "user-agent", "businessshortcode", "traceparent")


@dataclass(frozen=True, slots=True)
class Received:
    """`arguments` are those that every SQL function which keeps a callback takes."""

    request: CallbackRequest
    arguments: dict[str, Any]


async def receive(request: Request, token: str, kind: CallbackKind) -> Received:
    """Read the body; what is kept of it is sealed, and free of the secrets that rails echo."""
    rails: Rails = request.app.state.rails
    vault: Vault = request.app.state.vault
    body, address = await request.body(), request.state.client_address
    kept, token_hash = rails.get(RAIL).redact(body, kind), digest(token)
    sources = request.app.state.sources
    return Received(
        CallbackRequest(body, dict(request.headers), address, kind),
        {
            "rail": RAIL,
            "token_hash": token_hash,
            "source_address": address,
            "source_trusted": not sources or any(ip_address(address) in s for s in sources),
            "headers": {
                name: request.headers[name] for name in _KEPT_HEADERS if name in request.headers
            },
            # Bodies name people and phones; an operator opens them with the vault key.
            "body_sealed": vault.seal(kept, f"callback|{token_hash}"),
            "body_hash": sha256(body).hexdigest(),
        },
    )
