"""POST /momo-callback/{token}: results of mobile money rails, kept first, then believed or not."""

import asyncio
from hashlib import sha256
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, Final

from fastapi import APIRouter, FastAPI, Path, Request
from fastapi.responses import JSONResponse

from functions.momo_callback.models import ANY_BODY, Acknowledged
from shared import log
from shared.config import Settings
from shared.db import Database
from shared.errors import DependencyUnavailable
from shared.http.app import create_app
from shared.http.caller import Caller, FunctionCaller, digest
from shared.http.problem import answers
from shared.rails.base import CallbackNotUnderstood, CallbackRequest
from shared.rails.registry import Rails
from shared.vault import Vault

router = APIRouter(tags=["rail callbacks"])

RAIL: Final = "mpesa"  # the one mobile money rail whose results arrive here so far
PATIENCE_S: Final = 2.0  # the rail hangs up after 3 s (rails reference 1.3)
PAUSE_S: Final = 0.1
_KEPT_HEADERS: Final = ("content-type", "user-agent", "businessshortcode", "traceparent")


def create(settings: Settings) -> FastAPI:
    """Build the app."""
    app = create_app(
        settings,
        router,
        title="Mobile money callbacks",
        description="Where mobile money rails report results. Answers at once, always the same.",
        # A rail calls from a handful of addresses; a limit per address would drop money news.
        limit_addresses=False,
    )
    app.state.database, app.state.vault = Database(settings), Vault(settings.vault_keys)
    app.state.rails = Rails(settings)
    app.state.sources = [ip_network(source) for source in settings.callback_sources]
    return app


@router.post(
    "/{token}",
    responses=answers(Acknowledged, 413, 503),
    openapi_extra={"requestBody": ANY_BODY},
)
async def receive_callback(
    token: Annotated[
        str,
        Path(
            min_length=1,
            max_length=128,
            description="The callback token of one transfer: what the rail was given to call.",
            examples=["b4JqT7vJdX0mWbE5rYc8KfLh3uPz6SgAo9Di1Rk4Vt2"],
        ),
    ],
    caller: FunctionCaller,
    request: Request,
) -> JSONResponse:
    """Store, apply, acknowledge; store and apply are one transaction. A replay changes nothing."""
    state = request.app.state
    body, address = await request.body(), request.state.client_address
    trusted = not state.sources or any(ip_address(address) in source for source in state.sources)
    events, problem = _read(state.rails, body, dict(request.headers), address)
    token_hash = digest(token)
    concluded = await _keep(
        state.database,
        {
            "rail": RAIL,
            "token_hash": token_hash,
            "source_address": address,
            "source_trusted": trusted,
            "headers": {
                name: request.headers[name] for name in _KEPT_HEADERS if name in request.headers
            },
            # Bodies name people and phones; an operator opens them with the vault key.
            "body_sealed": state.vault.seal(body, f"callback|{token_hash}"),
            "body_hash": sha256(body).hexdigest(),
            "events": events,
            "problem": problem,
        },
        caller,
    )
    log.event(
        "rail_callback_received",
        rail=RAIL,
        transfer_id=concluded["transfer_id"],
        disposition=concluded["disposition"],
        reason=concluded.get("reason"),
    )
    return JSONResponse(Acknowledged().model_dump())


async def _keep(db: Database, args: dict[str, Any], caller: Caller) -> dict[str, Any]:
    """Store and conclude. The rail calls once: a database that is away is waited for."""
    clock = asyncio.get_running_loop().time
    give_up_at = clock() + PATIENCE_S
    while True:
        try:
            kept: dict[str, Any] = await db.call(
                "rails.receive_callback", args, caller, idempotent=True
            )
        except DependencyUnavailable:
            if clock() + PAUSE_S > give_up_at:
                raise
        else:
            return kept
        await asyncio.sleep(PAUSE_S)


def _read(
    rails: Rails, body: bytes, headers: dict[str, str], address: str
) -> tuple[list[dict[str, Any]] | None, str | None]:
    try:
        events = rails.get(RAIL).read_callback(CallbackRequest(body, headers, address))
    except CallbackNotUnderstood as odd:
        return None, odd.reason
    return [dict(event.to_json()) for event in events], None
